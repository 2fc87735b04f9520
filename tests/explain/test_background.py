# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np
import pytest

from hemascope.errors import InputError
from hemascope.explain import background_colours, cell_mask
from hemascope.synthetic import draw_cells

GLASS, RED_CELL, CYTOPLASM, NUCLEUS = (235, 228, 210), (205, 150, 150), (170, 150, 190), (80, 40, 120)


def disc(side: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.indices((side, side))
    return np.hypot(rows - row, columns - column) <= radius


def cell_on_glass(side: int = 96, glass: tuple[int, int, int] = GLASS, red_cell: bool = False) -> np.ndarray:
    """A cell with a nucleus in the middle, and where wished a red cell that touches it."""
    image = np.empty((side, side, 3), np.uint8)
    image[:] = glass
    scale = side / 96
    if red_cell:
        image[disc(side, 47 * scale, 81 * scale, 13 * scale)] = RED_CELL
    image[disc(side, 47 * scale, 47 * scale, 24 * scale)] = CYTOPLASM
    image[disc(side, 47 * scale, 47 * scale, 14 * scale)] = NUCLEUS
    return image


@pytest.mark.parametrize("glass", [GLASS, (215, 210, 225)])
def test_the_background_is_the_glass_whatever_lies_on_it(glass: tuple[int, int, int]) -> None:
    image = cell_on_glass(glass=glass, red_cell=True)
    assert background_colours(image[None]).tolist() == [list(glass)]


@pytest.mark.parametrize("side", [96, 64, 150])
def test_the_mask_is_the_cell(side: int) -> None:
    mask = cell_mask(cell_on_glass(side)[None])[0]
    truth = disc(side, 47 * side / 96, 47 * side / 96, 24 * side / 96)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9


def test_a_red_cell_against_the_cell_is_cut_off() -> None:
    with_red, alone = cell_mask(np.stack([cell_on_glass(red_cell=True), cell_on_glass()]))
    assert (with_red & disc(96, 47, 81, 13)).sum() < 0.3 * disc(96, 47, 81, 13).sum()
    assert (with_red & alone).sum() > 0.95 * alone.sum()


def test_empty_glass_has_no_cell() -> None:
    empty = np.full((2, 96, 96, 3), 230, np.uint8)
    assert not cell_mask(empty).any()
    assert cell_mask(empty[:0]).shape == (0, 96, 96)


def test_drawn_cells_are_found_in_the_middle() -> None:
    masks = cell_mask(np.asarray(draw_cells(24, seed=1, size=96).images))
    assert masks.any((1, 2)).all()
    centres = np.array([np.mean(np.nonzero(mask), axis=1) for mask in masks])
    assert np.abs(centres - 47.5).max() < 20


@pytest.mark.parametrize("images", [np.zeros((3, 8, 8), np.uint8), np.zeros((1, 8, 8, 3))])
def test_what_is_no_picture_is_refused(images: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"uint8 \(n, height, width, 3\) is expected"):
        background_colours(images)
