from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hemascope.augment import augment, geometry
from hemascope.augment.plan import Plan, Turn, Warp
from hemascope.draws import Draw
from hemascope.recipe import Augmentation

ROWS = np.arange(4000, dtype=np.int64)
DRAW = Draw(0, 0, "geometry")
SHAPE = (80, 96)


def matrices(plan: Plan) -> np.ndarray:
    (warp,) = plan
    assert isinstance(warp, Warp)
    return warp.matrices


def test_dihedral_gives_each_of_the_eight_poses_alike() -> None:
    picture = np.repeat(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1), 3, axis=3)
    rows = ROWS[:800]
    turned = augment(np.repeat(picture, 800, axis=0), rows, [Augmentation(name="dihedral")], seed=0, epoch=0)
    poses, counts = np.unique(turned[..., 0].reshape(800, 16), axis=0, return_counts=True)
    side = picture[0, :, :, 0]
    expected = {np.rot90(one, turn).tobytes() for one in (side, side[:, ::-1]) for turn in range(4)}
    assert {pose.tobytes() for pose in poses} == expected
    assert stats.chisquare(counts).pvalue > 1e-3


def test_dihedral_keeps_the_shape_of_a_rectangle() -> None:
    (turn,) = geometry.dihedral(ROWS, DRAW, 1.0, SHAPE)
    assert isinstance(turn, Turn)
    assert stats.chisquare(np.bincount(turn.poses)).pvalue > 1e-3
    assert set(turn.poses) == {0, 1, 2, 3}


@pytest.mark.parametrize("magnitude", [0.0, 0.5, 1.0])
def test_each_family_reaches_what_its_magnitude_says_and_no_further(magnitude: float) -> None:
    linear = {name: matrices(getattr(geometry, name)(ROWS, DRAW, magnitude, SHAPE)) for name in ("rotate", "zoom")}
    angles = np.degrees(np.arctan2(linear["rotate"][:, 1, 0], linear["rotate"][:, 0, 0]))
    assert np.abs(angles).max() == pytest.approx(180 * magnitude, abs=0.5)
    scales = 1 / linear["zoom"][:, 0, 0]
    assert scales.max() == pytest.approx(1.6**magnitude, rel=0.01)
    assert scales.min() == pytest.approx(1.6**-magnitude, rel=0.01)
    shifts = matrices(geometry.shift(ROWS, DRAW, magnitude, SHAPE))[:, :, 2]
    assert np.abs(shifts).max(0) == pytest.approx(np.array([96, 80]) * 0.25 * magnitude, rel=0.01)
    leans = matrices(geometry.shear(ROWS, DRAW, magnitude, SHAPE))[:, :, :2]
    assert leans[:, 0, 1].max() == pytest.approx(0.3 * magnitude, abs=0.003)
    assert leans[:, 1, 0].min() == pytest.approx(-0.3 * magnitude, abs=0.003)
    assert ((leans[:, 0, 1] == 0) | (leans[:, 1, 0] == 0)).all()


@pytest.mark.parametrize("name", ["rotate", "zoom", "shear"])
def test_the_middle_stays_in_the_middle(name: str) -> None:
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2, 1.0])
    found = matrices(getattr(geometry, name)(ROWS, DRAW, 1.0, SHAPE)) @ middle
    assert np.allclose(found, middle[:2])


def test_affine_turns_a_disc_into_a_disc_of_another_size() -> None:
    offsets = np.arange(33) - 16
    disc = ((offsets[:, None] ** 2 + offsets[None, :] ** 2 < 64) * 200).astype(np.uint8)
    pictures = np.broadcast_to(disc[None, :, :, None], (40, 33, 33, 3))
    moved = augment(pictures, ROWS[:40], [Augmentation(name="affine", magnitude=0.3)], seed=0, epoch=0)
    ratio = moved.mean(axis=(1, 2, 3)) / pictures.mean(axis=(1, 2, 3))
    # Zoom by at most 1.6 ** 0.3 changes an area by at most that squared.
    assert ratio.max() < 1.6**0.6 * 1.1
    assert ratio.min() > 1 / (1.6**0.6 * 1.1)


def test_what_comes_in_at_the_border_is_the_picture_mirrored() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    colours = {tuple(pixel) for pixel in np.pad(picture[0], ((20, 20), (20, 20), (0, 0)), "symmetric").reshape(-1, 3)}
    shifted = augment(picture, ROWS[:1], [Augmentation(name="shift", magnitude=1.0)], seed=3, epoch=0)
    # Between pixels the colours mix; none is darker or brighter than what was there.
    assert shifted.min() >= min(min(colour) for colour in colours)
    assert (shifted == 0).mean() < 0.02
