from __future__ import annotations

import numpy as np

from hemascope.corrupt import shape
from hemascope.draws import Draw

ROWS = np.arange(20)
DRAW = Draw(0, 0, "test")


def ramp() -> np.ndarray:
    x = np.arange(96, dtype=np.uint8) * 2 + 20
    y = x[:, None]
    picture = np.stack(np.broadcast_arrays(x[None, :], y, np.uint8(90)), axis=-1)
    return np.repeat(picture[None], len(ROWS), axis=0)


def test_elastic_moves_pixels_smoothly_and_no_further_than_it_may() -> None:
    images = ramp()
    seen = shape.elastic(images, ROWS, DRAW, reach=0.05).astype(float)
    moved = (seen - images) / 2  # in pixels: red tells x, green tells y
    assert (seen[..., 2] == 90).all()
    assert 0.8 < np.abs(moved[:, 12:-12, 12:-12, :2]).mean() < 3
    assert np.abs(moved[..., :2]).max() < 0.05 * 96 * 1.6
    assert np.abs(np.diff(moved[:, 12:-12, 12:-12, 0], axis=2)).max() < 1.5


def test_stitching_leaves_one_side_and_shifts_the_other_along_the_seam() -> None:
    images = ramp()
    seen = shape.stitching(images, ROWS, DRAW, shift=0.1, step=0.0).astype(float)
    moved = (seen - images)[:, 12:-12, 12:-12] / 2
    still = (np.abs(moved) <= 0.5).all(axis=-1)
    assert ((still.mean(axis=(1, 2)) > 0.2) & (still.mean(axis=(1, 2)) < 0.85)).all()
    for field, at_rest in zip(moved, still, strict=True):
        shift = np.median(field[~at_rest], axis=0)
        assert 0.1 * 96 - 1 < np.hypot(shift[0], shift[1]) < 0.1 * 96 + 1


def test_one_tile_is_brighter_or_darker() -> None:
    plain = np.full((len(ROWS), 96, 96, 3), 100, np.uint8)
    seen = shape.stitching(plain, ROWS, DRAW, shift=0.05, step=0.1)
    other = np.array([np.unique(picture)[[0, -1]] for picture in seen])
    assert set(map(tuple, other.tolist())) == {(90, 100), (100, 110)}
