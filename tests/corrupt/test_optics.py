from __future__ import annotations

import numpy as np
import pytest

from hemascope.corrupt import corrupt, optics
from hemascope.draws import Draw

ROWS = np.arange(6)
DRAW = Draw(0, 0, "test")


def point(side: int, level: int = 255) -> np.ndarray:
    image = np.zeros((side, side, 3), np.uint8)
    image[side // 2, side // 2] = level
    return np.repeat(image[None], len(ROWS), axis=0)


@pytest.mark.parametrize(
    "name", ["defocus_blur", "motion_blur", "local_blur", "double_image", "chromatic_aberration", "elastic"]
)
def test_an_empty_picture_stays_empty(name: str) -> None:
    plain = np.full((6, 48, 48, 3), (200, 180, 90), np.uint8)
    assert (corrupt(plain, name, 5, seed=0, rows=ROWS) == plain).all()


def test_defocus_spreads_a_point_over_its_disc() -> None:
    seen = optics.defocus_blur(point(224), ROWS, DRAW, radius=6)[0, ..., 0].astype(float)
    y, x = np.nonzero(seen)
    apart = np.hypot(x - 112, y - 112)
    assert 5.5 < apart.max() < 7
    assert seen[112, 112] == pytest.approx(255 / (np.pi * 36), abs=0.6)


def test_motion_goes_one_way_and_fades() -> None:
    seen = optics.motion_blur(point(224), ROWS, DRAW, radius=10, sigma=9)[..., 0].astype(float)
    angles = np.deg2rad(45 * DRAW.signed(ROWS, "angle")[:, 0])
    y, x = np.mgrid[0:224, 0:224] - 112
    steps = np.arange(21)
    mean = (steps * np.exp(-0.5 * (steps / 9) ** 2)).sum() / np.exp(-0.5 * (steps / 9) ** 2).sum()
    for picture, angle in zip(seen, angles, strict=True):
        share = picture / picture.sum()
        # A filter gathers from where the streak points, so light moves the other way.
        assert (share * x).sum() == pytest.approx(-mean * np.cos(angle), abs=0.4)
        assert (share * y).sum() == pytest.approx(-mean * np.sin(angle), abs=0.4)
        assert picture.max() == picture[112, 112]
        assert np.hypot(x, y)[picture > 0].max() < 22


def test_motion_leaves_no_gaps_in_large_pictures() -> None:
    kernels, (column, row) = optics._streaks(np.array([0.0]), 10, 9, 4.0)
    along = kernels[0, row, column:-1]
    assert kernels.sum() == pytest.approx(1.0, abs=1e-5)
    assert (along[:80] > 0).all()
    assert (np.diff(along[2:80]) < 1e-6).all()


def test_local_blur_leaves_the_rest_sharp() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)
    seen = corrupt(images, "local_blur", 1, seed=0, rows=ROWS)
    changed = (seen != images).any(axis=-1).mean(axis=(1, 2))
    assert (changed > 0.03).all()
    assert (changed < 0.4).all()
    inside = (seen != images).any(axis=-1)
    assert seen[inside].std() < images[inside].std()


def test_a_double_image_has_its_ghost_at_its_distance_and_weight() -> None:
    seen = optics.double_image(point(101), ROWS, DRAW, shift=0.2, weight=0.4)[..., 0].astype(float)
    y, x = np.mgrid[0:101, 0:101] - 50
    for picture in seen:
        assert picture[50, 50] == pytest.approx(0.6 * 255, abs=1)
        ghost = np.where(np.hypot(x, y) > 5, picture, 0)
        assert ghost.sum() == pytest.approx(0.4 * 255, abs=3)
        assert np.hypot((ghost * x).sum(), (ghost * y).sum()) / ghost.sum() == pytest.approx(0.2 * 101, abs=0.5)


def test_coloured_fringes_leave_green_and_part_red_from_blue() -> None:
    images = point(101)
    seen = optics.chromatic_aberration(images, ROWS, DRAW, shift=0.06)
    assert (seen[..., 1] == images[..., 1]).all()
    y, x = np.mgrid[0:101, 0:101] - 50
    for picture in seen.astype(float):
        red, blue = ([(p * x).sum() / p.sum(), (p * y).sum() / p.sum()] for p in (picture[..., 0], picture[..., 2]))
        assert np.hypot(*red) == pytest.approx(6.06, abs=0.3)
        assert np.allclose(red, -np.array(blue), atol=0.3)
