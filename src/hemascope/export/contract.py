"""Names the cell on each picture: Model().predict(X) gives a whole number for each, its place in this list.

<classes>

X: the pictures, (n, 96, 96, 3) in RGB, 0 to 255, as uint8, as other whole numbers, as floats (which are rounded), or as
a list of such pictures. The weights lie beside this file. Pictures go through the network <batch> at a time, so that
beside X itself the whole process stays under <memory> MiB, however many there are. Research only, not a medical device.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hemascope.export.onnx_network import Network

BATCH = 64
PICTURE = (96, 96, 3)
HALF = 0.5


class Model:
    """The trained classifier, ready when it is made; it needs the files beside this one, by no fixed path."""

    def __init__(self) -> None:
        self._network = Network(Path(__file__).resolve().parent)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The class of each picture, int64 (n,), of X (n, 96, 96, 3) with values 0 to 255.

        Raises ValueError for another shape, for values outside of that range, and for what is no number.
        """
        return np.asarray(self.probabilities(X).argmax(axis=1), np.int64)

    def probabilities(self, pictures: Any) -> np.ndarray:
        """The probability of each class, float32 (n, classes), of the same pictures."""
        if not len(pictures):
            return self._network.probabilities(np.zeros((1, *PICTURE), np.uint8))[:0]
        parts, highest, fractions = [], 0.0, False
        for start in range(0, len(pictures), BATCH):
            given = np.asarray(pictures[start : start + BATCH])
            whole = as_bytes(given, start)
            highest = max(highest, float(given.max()))
            fractions = fractions or (given.dtype.kind == "f" and bool((given % 1 != 0).any()))
            parts.append(self._network.probabilities(whole))
        if fractions and highest <= 1:
            warnings.warn(
                f"X lies between 0 and {highest:g}, which is black on a range of 0 to 255; give X times 255 if its "
                "white is 1.",
                stacklevel=2,
            )
        return np.concatenate(parts)


def as_bytes(given: np.ndarray, start: int = 0) -> np.ndarray:
    """Some pictures as uint8, fractions rounded; start: the number of the first one, for what an error says."""
    if given.ndim != 4 or given.shape[1:] != PICTURE:
        raise ValueError(f"X holds pictures of shape {given.shape[1:]}, expected (n, 96, 96, 3), in RGB.")
    if given.dtype == np.uint8:
        return given
    if given.dtype.kind not in "iuf":
        raise ValueError(f"X holds {given.dtype}, expected whole numbers or floats from 0 to 255.")
    # NaN fails either comparison.
    good = ((given >= -HALF) & (given <= 255 + HALF)).all(axis=(1, 2, 3))
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"X has values from {given[row].min():g} to {given[row].max():g} in picture {start + row}, expected 0 to "
            "255."
        )
    return np.asarray(np.floor(np.clip(given, 0, 255) + HALF), np.uint8)
