"""How wide a picture is: on the slide, and in red cells, which lie beside every other cell and have nearly one size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RED_CELL = 7.5
"""Micrometres: the usual diameter of a red cell on a smear of healthy blood, which lies between 7 and 8."""


@dataclass(frozen=True)
class FieldOfView:
    """The width of a picture. micrometres: on the slide, over 0."""

    micrometres: float

    @property
    def red_cell_diameters(self) -> float:
        """How many red cells would lie side by side across the picture."""
        return self.micrometres / RED_CELL

    def sentence(self) -> str:
        return f"a picture is {self.micrometres:g} micrometres wide, {self.red_cell_diameters:.1f} red cells"

    def as_json(self) -> dict[str, float]:
        return {"micrometres": self.micrometres, "red_cell_diameters": round(self.red_cell_diameters, 2)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FieldOfView:
        return cls(float(values["micrometres"]))
