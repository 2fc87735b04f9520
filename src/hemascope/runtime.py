"""A trained model on ONNX Runtime: pictures in, probabilities out, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data import Images
from hemascope.errors import InputError
from hemascope.features import SIDE, feature_set
from hemascope.resize import resize

BATCH = 64
PURPOSE = "Research only, not a medical device."


class Model:
    """An exported classifier.

    class_names: the classes, in the order of the probabilities. image_size: the side of the pictures that the file
    takes; others are resized to it. metadata: what the file says of itself (recipe, version, purpose).
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime has no one type for "this is no model".
            raise InputError(
                f"{path}: is not an ONNX model that can be read; give a run folder or its model.onnx."
            ) from error
        self.path = path
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if "class_names" not in self.metadata:
            raise InputError(
                f"{path}: names no classes, so hemascope did not export it; give a run folder or its model.onnx."
            )
        self.class_names: tuple[str, ...] = tuple(json.loads(self.metadata["class_names"]))
        entry = self._session.get_inputs()[0]
        self._input = entry.name
        self._describe = _features_of(self.metadata)
        self.image_size = int(entry.shape[1]) if self._describe is None else SIDE

    def predict(self, images: Images) -> NDArray[np.float32]:
        """The probabilities of uint8 (n, height, width, 3): float32 (n, classes)."""
        if images.shape[1:3] != (self.image_size, self.image_size):
            images = resize(images, self.image_size)
        return self.probabilities(images if self._describe is None else self._describe(images))

    def probabilities(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """What the file gives for what it takes: pictures of its own size, or the features of a classical model."""
        parts = [
            self._session.run(None, {self._input: np.ascontiguousarray(inputs[start : start + BATCH])})[0]
            for start in range(0, len(inputs), BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.class_names)), np.float32)


def _features_of(metadata: Mapping[str, str]) -> Callable[[Images], NDArray[np.float32]] | None:
    """What makes the inputs of a classical model out of pictures; None for a network, which takes them as they are."""
    return feature_set(metadata["features"]) if "features" in metadata else None


def load_model(path: str | Path | Model) -> Model:
    """The model of a run folder or of an ONNX file. Raises InputError when there is none."""
    if isinstance(path, Model):
        return path
    path = Path(path)
    file = path / "model" / "model.onnx" if path.is_dir() else path
    if not file.is_file():
        found = "the run has no finished model" if path.is_dir() else "there is no such file"
        raise InputError(f"{path}: {found}; give the folder of a finished run or a model.onnx.")
    return Model(file)


def training_hashes(path: str | Path | Model) -> frozenset[int] | None:
    """The pixel hashes of the pictures that made a run's model, or None when the model's folder does not say.

    Those are the rows that trained it, that stopped and selected it, and that its confidence is fitted on.
    """
    folder = path.path.parent.parent if isinstance(path, Model) else Path(path)
    table = (folder if folder.is_dir() else folder.parent.parent) / "split.csv"
    if not table.is_file():
        return None
    import pandas as pd

    rows: Any = pd.read_csv(table, dtype={"pixel_hash": np.uint64}, keep_default_na=False)
    return frozenset(rows.loc[rows["split"].isin(("train", "validation", "calibration")), "pixel_hash"].tolist())
