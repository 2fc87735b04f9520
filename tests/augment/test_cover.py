from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hemascope.augment import augment, cover
from hemascope.recipe import Augmentation, AugmentationName

ROWS = np.arange(100, dtype=np.int64)
RAMP = np.broadcast_to(
    (np.arange(96)[:, None, None] + np.arange(96)[None, :, None]).astype(np.uint8), (len(ROWS), 96, 96, 3)
)


def covered(name: AugmentationName, magnitude: float) -> NDArray[np.bool_]:
    """Which pixels of a ramp a family changes: (n, h, w)."""
    steps = [Augmentation(name=name, magnitude=magnitude)]
    return np.asarray((augment(RAMP, ROWS, steps, seed=0, epoch=0) != RAMP).any(3))


@pytest.mark.parametrize("name", ["cutout", "grid-mask", "bubbles", "deposits"])
def test_nothing_is_covered_at_zero_and_more_at_one_than_at_a_half(name: AugmentationName) -> None:
    none, half, all_of_it = (covered(name, magnitude).mean((1, 2)) for magnitude in (0.0, 0.5, 1.0))
    assert none.max() == 0
    assert 0 < half.mean() < all_of_it.mean()
    # However much, most of the picture is left to tell the cell by.
    assert all_of_it.max() < 0.5


def test_a_cutout_is_one_square_of_at_most_half_the_side_in_the_mean_colour() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)
    pictures = np.repeat(picture, len(ROWS), axis=0)
    steps = [Augmentation(name="cutout", magnitude=1.0)]
    found = augment(pictures, ROWS, steps, seed=0, epoch=0)
    sides = []
    for before, after in zip(pictures, found, strict=True):
        hit = (before != after).any(2)
        rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
        if len(rows):
            inside = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert np.abs(inside - before.mean((0, 1))).max() <= 0.51
            sides.append(max(inside.shape[:2]))
    assert 40 < max(sides) <= 49


def test_a_grid_covers_a_quarter_at_magnitude_one() -> None:
    assert covered("grid-mask", 1.0).mean() == pytest.approx(0.25, abs=0.03)
    assert covered("grid-mask", 0.5).mean() == pytest.approx(0.0625, abs=0.02)


@pytest.mark.parametrize("name", ["bubbles", "deposits"])
@pytest.mark.parametrize("magnitude", [0.3, 1.0])
def test_no_piece_reaches_beyond_its_window(
    name: AugmentationName, magnitude: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [Augmentation(name=name, magnitude=magnitude)]
    found = augment(RAMP, ROWS, steps, seed=0, epoch=0)
    pieces = cover._pieces
    monkeypatch.setattr(cover, "_pieces", lambda at, top, left, reach, shape: pieces(at, top, left, reach + 40, shape))
    assert np.array_equal(augment(RAMP, ROWS, steps, seed=0, epoch=0), found)


def test_deposits_are_darker_than_what_they_lie_on_and_bubbles_see_through() -> None:
    pale = np.full((len(ROWS), 96, 96, 3), 220, np.uint8)
    dark = augment(pale, ROWS, [Augmentation(name="deposits", magnitude=1.0)], seed=0, epoch=0)
    assert dark.max() == 220
    assert dark.min() < 60
    marked = np.where(np.indices((96, 96)).sum(0)[None, :, :, None] // 4 % 2, pale, 60).astype(np.uint8)
    bubbled = augment(marked, ROWS, [Augmentation(name="bubbles", magnitude=1.0)], seed=0, epoch=0).astype(int)
    # What is bright under a bubble stays brighter than what is dark nearly everywhere.
    assert (bubbled[:, 48:, 8:][:, :40] - bubbled[:, 52:, 8:][:, :40] != 0).mean() > 0.9
