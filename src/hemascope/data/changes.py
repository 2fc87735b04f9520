"""What is to change in a source: which rows stay, and under which labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Cells
from hemascope.data.classes import CLASS_NAMES


@dataclass(frozen=True)
class Changes:
    """Rows of cells, as `load` gave them, that stay in their source.

    keep: bool (n,), the rows that stay. labels: int64 (n,), their labels then. Pictures that could not be read do not
    stay.
    """

    cells: Cells
    keep: NDArray[np.bool_]
    labels: NDArray[np.int64]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.cells.ids.tolist())}

    def stays(self, name: str) -> bool:
        """Whether the picture of that id stays."""
        row = self._rows.get(name)
        return row is not None and bool(self.keep[row])

    def new_label(self, name: str) -> int | None:
        """The label that the picture of that id gets; None where it stays as it is, or the picture goes."""
        row = self._rows.get(name)
        if row is None or not self.keep[row] or self.labels[row] == self.cells.labels[row]:
            return None
        return int(self.labels[row])

    def spelling(self, texts: Iterable[tuple[str, str]]) -> list[str]:
        """How a source spells each class of CLASS_NAMES, in their order.

        texts: id and label of its rows, as they stand there. A class that no row has is spelt by its name, or by its
        number where the source has only numbers.
        """
        found: dict[int, str] = {}
        numbers = True
        for name, text in texts:
            numbers = numbers and text.strip().isdecimal()
            if (row := self._rows.get(name)) is not None:
                found.setdefault(int(self.cells.labels[row]), text)
        return [found.get(label, str(label) if numbers else name) for label, name in enumerate(CLASS_NAMES)]
