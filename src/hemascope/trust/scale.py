"""Whether a cell is as large as training cells of its class: another scale is a common cause of mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images
from hemascope.preparation.square import cell_sizes
from hemascope.trust.reference import Reference

SCALE = "scale?"
FAR, USUALLY_FAR = 2.6, 0.01
"""In standard deviations of the class, and the share of cells that lies further: of the calibration cells of the model
that ships no more, as `bench/laboratories.py` shows."""


@dataclass(frozen=True)
class CellSizes:
    """How large training cells are: ln of the root of the area as a share of the side, float64 (classes,) each."""

    class_names: tuple[str, ...]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, reference: Reference) -> CellSizes:
        """Those that travel in a model's file. Classes that nothing is known of have a mean of NaN."""
        measure = reference.measures["cell_diameter"]
        return cls(reference.class_names, np.where(measure.count > 0, measure.mean, np.nan), measure.deviation)

    def reasons(self, images: Images, predicted: NDArray[np.integer]) -> list[str]:
        """For each picture "scale?: a sentence" where its cell is far from the usual size of its class, else "".

        images: uint8 (n, height, width, 3). predicted: int (n,), what the model calls them.
        """
        more = cell_sizes(images) - self.mean[predicted]
        with np.errstate(invalid="ignore"):
            far = np.abs(more) > FAR * self.deviation[predicted]
        return [
            f"{SCALE}: the cell is {_percent(ratio)} across than a usual {self.class_names[place]}." if told else ""
            for told, ratio, place in zip(far.tolist(), np.exp(more).tolist(), predicted.tolist(), strict=True)
        ]


def _percent(ratio: float) -> str:
    return f"{ratio - 1:.0%} larger" if ratio > 1 else f"{1 - ratio:.0%} smaller"
