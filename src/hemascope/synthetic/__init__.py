"""The embedded sample: stained blood cells of the eight classes, drawn by a seeded program.

`draw_cells` draws the same pixels for the same seed for ever. Each class is told by the form of its nucleus, its
granules and its size; stain, lamp and focus change from picture to picture, so that mean colours alone do not tell it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hemascope.data.cells import Cells
from hemascope.errors import InputError
from hemascope.synthetic.anatomy import CELLS
from hemascope.synthetic.draws import Draws
from hemascope.synthetic.smear import photograph_cell, photograph_non_cell

__all__ = ["CLASS_NAMES", "Planted", "draw_cells", "planted"]

CLASS_NAMES = tuple(CELLS)
SIZES = (24, 512)
FEWEST_DIRTY = 100

# The shares of the classes in A. Acevedo et al., Data in Brief 30 (2020) 105474, rounded.
UNEVEN = (0.07, 0.18, 0.09, 0.17, 0.07, 0.08, 0.20, 0.14)
NON_CELL_SHARES = (0.12, 0.02)
COPIES = 8

_CELL, _LABEL, _NON_CELL, _PLANTED = range(4)


@dataclass(frozen=True)
class Planted:
    """What stands in each row of a dirty sample, and so what a perfect clean-up removes: non_cells and copies.

    labels: int64 (n,), positions in CLASS_NAMES.
    shows: int64 (n,), the row whose drawing a row shows: itself, or an earlier row of the same label where it is an
    exact copy; -1 and -2 for the two pictures that are no cells, which stand under every label.
    """

    labels: NDArray[np.int64]
    shows: NDArray[np.int64]

    @property
    def non_cells(self) -> NDArray[np.bool_]:
        """bool (n,): the rows that show one of the two pictures that are no cells."""
        return np.asarray(self.shows < 0)

    @property
    def copies(self) -> NDArray[np.bool_]:
        """bool (n,): the rows that copy an earlier one; the rows copied are not among them."""
        return np.asarray(~self.non_cells & (self.shows != np.arange(len(self.shows))))


def draw_cells(count: int = 1200, *, seed: int = 0, size: int = 96, dirty: bool = False) -> Cells:
    """Draw `count` pictures of single cells, uint8 (count, size, size, 3), of the eight classes.

    The classes are even (each once in every eight rows), and a row's picture depends on the seed and the row alone: a
    longer sample begins with a shorter one. dirty: some rows are not as they should be, in the way of collected data:
    two pictures that are no cells stand under every label in 12 and 2% of the rows, eight rows are exact copies and
    the classes are uneven; `planted` with the same count and seed tells which rows those are.

    Raises InputError for a count, seed or size that cannot be drawn.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"size {size:,} was asked for, but cells are drawn {SIZES[0]} to {SIZES[1]} pixels wide.")
    rows = planted(count, seed=seed) if dirty else _as_drawn(count, seed)
    images = np.empty((count, size, size, 3), np.uint8)
    # The matrices are so small that threads would only wait for each other: on a busy machine fifty times as long.
    with threadpool_limits(1):
        non_cells = {shown: photograph_non_cell(Draws(seed, _NON_CELL, -shown), size) for shown in (-1, -2)}
        for row, (label, shown) in enumerate(zip(rows.labels.tolist(), rows.shows.tolist(), strict=True)):
            if shown < 0:
                images[row] = non_cells[shown]
            elif shown < row:
                images[row] = images[shown]
            else:
                images[row] = photograph_cell(CLASS_NAMES[label], Draws(seed, _CELL, row), size)
    return Cells(
        images=images,
        labels=rows.labels,
        class_names=CLASS_NAMES,
        ids=np.array([f"sample#{row}" for row in range(count)]),
        source="sample",
    )


def planted(count: int = 1200, *, seed: int = 0) -> Planted:
    """What stands in each row of `draw_cells(count, seed=seed, dirty=True)`.

    Raises InputError when count is too small to hold both non-cell pictures under every label, or seed is negative.
    """
    _check(count, seed)
    if count < FEWEST_DIRTY:
        raise InputError(
            f"{count:,} dirty pictures were asked for, but both pictures that are no cells, under every label, need "
            f"{FEWEST_DIRTY} rows or more; ask for more, or for a clean sample."
        )
    draws = Draws(seed, _PLANTED)
    classes = len(CLASS_NAMES)
    order = draws.order(count)
    labels, shows = np.empty(count, np.int64), np.arange(count)
    taken = 0
    for number, share in enumerate(NON_CELL_SHARES, start=1):
        rows = order[taken : taken + classes * max(1, round(share * count / classes))]
        labels[rows] = np.arange(len(rows)) % classes
        shows[rows] = -number
        taken += len(rows)
    cells = order[taken:]
    bounds = np.rint(np.cumsum(UNEVEN) * len(cells)).astype(np.int64)
    labels[cells] = np.searchsorted(bounds, np.arange(len(cells)), side="right")
    pairs = np.sort(cells[draws.order(len(cells))[: 2 * COPIES]].reshape(COPIES, 2), axis=1)
    labels[pairs[:, 1]] = labels[pairs[:, 0]]
    shows[pairs[:, 1]] = pairs[:, 0]
    return Planted(labels, shows)


def _as_drawn(count: int, seed: int) -> Planted:
    """Every row its own drawing; the eight classes in a new order in every eight rows."""
    _check(count, seed)
    classes = len(CLASS_NAMES)
    blocks = [Draws(seed, _LABEL, block).order(classes) for block in range(-(-count // classes))]
    return Planted(np.concatenate(blocks)[:count], np.arange(count))


def _check(count: int, seed: int) -> None:
    if count < 1:
        raise InputError(f"{count:,} pictures were asked for; ask for 1 or more.")
    if seed < 0:
        raise InputError(f"seed {seed} was given; give a whole number from 0 up.")
