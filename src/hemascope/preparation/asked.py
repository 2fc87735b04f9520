"""What a user may ask for before a model sees pictures: `--crop`, `--stain` and `--views`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hemascope.data.pixels import MIN_SIDE
from hemascope.errors import InputError
from hemascope.preparation.views import VIEWS

CELL, WHOLE = "cell", "whole"
NORMALISE, KEEP = "normalise", "keep"


@dataclass(frozen=True)
class Asked:
    """crop: the side in pixels of the central square to use; None for the largest. cell: whether the scale of the set
    is looked for. stain: whether its colours may be brought to those of training. views: poses to average over.
    """

    crop: int | None = None
    cell: bool = False
    stain: bool = False
    views: int = 1

    def as_json(self) -> dict[str, Any]:
        """As it was given, for the record of a job."""
        return {
            "crop": CELL if self.cell else self.crop,
            "stain": NORMALISE if self.stain else None,
            "views": self.views if self.views > 1 else None,
        }


def asked_for(crop: int | str | None = None, stain: str | None = None, views: int = 1) -> Asked:
    """What options mean. Raises InputError where they mean nothing.

    crop: pixels, "cell", or "whole" (or None) for the largest square. stain: "normalise", or "keep" (or None).
    """
    if stain not in (None, KEEP, NORMALISE):
        raise InputError(f"--stain {stain}: expected {NORMALISE} or {KEEP}.")
    if views not in VIEWS:
        raise InputError(f"--views {views}: expected 1, 2, 4 or 8, the poses of a square.")
    normalised = stain == NORMALISE
    if crop in (None, WHOLE, CELL):
        return Asked(None, crop == CELL, normalised, views)
    try:
        pixels = int(str(crop))
    except ValueError:
        raise InputError(f"--crop {crop}: expected a number of pixels, {CELL} or {WHOLE}.") from None
    if pixels < MIN_SIDE:
        raise InputError(f"--crop {pixels}: a cell needs at least {MIN_SIDE} pixels; give {MIN_SIDE} or more.")
    return Asked(pixels, False, normalised, views)
