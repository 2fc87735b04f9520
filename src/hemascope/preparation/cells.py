"""Cells as a model should see them: read again at the scale that was found, changed where they are looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Cells, Images, Pictures
from hemascope.preparation.asked import Asked
from hemascope.preparation.fitting import Preparation, prepared_for
from hemascope.resize import resize
from hemascope.runtime import Model


class PreparedPictures:
    """Pictures of other cells, prepared when they are asked for; as many pixels as `size` a side."""

    def __init__(self, pictures: Pictures, preparation: Preparation, size: int) -> None:
        self.pictures, self.preparation, self.size = pictures, preparation, size

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.pictures), self.size, self.size, 3)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: Any) -> Images:
        if isinstance(rows, (int, np.integer)):
            return np.asarray(self[np.array([rows])][0])
        images = np.asarray(self.pictures[rows])
        side = self.preparation.side(self.size)
        return self.preparation(images if images.shape[1] == side else resize(images, side), self.size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def prepared_pictures(
    model: Model, cells: Cells, asked: Asked, again: Callable[[int], Cells] | None = None
) -> tuple[Preparation, Pictures]:
    """How cells are prepared for a model, and their pictures after it.

    cells: pictures of one size, cut to the crop that was asked for. again: reads the same rows at another side in
    pixels, so that a part of a large picture keeps what it shows; without it they are resized.
    """
    size = cells.images.shape[1]

    def some(count: int) -> Images:
        rows = np.unique(np.linspace(0, len(cells) - 1, min(count, len(cells))).round().astype(np.int64))
        images = np.asarray(cells.images[rows])
        # As `predict` measures them, so that both find the same.
        return resize(images, model.image_size)

    preparation = prepared_for(model, asked, some)
    if not preparation.changes:
        return preparation, cells.images
    side = preparation.side(size)
    shown = cells if again is None or side <= size else again(side)
    return preparation, PreparedPictures(shown.images, preparation, size)
