from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hemascope.augment import augment, colour
from hemascope.augment.plan import Density
from hemascope.data import Cells
from hemascope.draws import Draw
from hemascope.recipe import Augmentation, AugmentationName

Pictures = NDArray[np.uint8]

ROWS = np.arange(64, dtype=np.int64)


@pytest.fixture(scope="module")
def cells(drawn: Cells) -> Pictures:
    return np.asarray(drawn.images[: len(ROWS)])


def changed(pictures: Pictures, name: AugmentationName, magnitude: float = 1.0) -> NDArray[np.float64]:
    return augment(pictures, ROWS, [Augmentation(name=name, magnitude=magnitude)], seed=0, epoch=0).astype(np.float64)


def middling(pictures: Pictures) -> Pictures:
    """The same pictures in levels that no family drives to black or white."""
    return (96 + pictures // 4).astype(np.uint8)


@pytest.mark.parametrize(
    "name",
    [
        "brightness", "contrast", "saturation", "hue", "channel-shift", "channel-shuffle", "stain", "white-balance",
        "grey", "jitter", "posterise", "equalise", "solarise",
    ],
)  # fmt: skip
def test_magnitude_zero_changes_nothing(name: AugmentationName, cells: Pictures) -> None:
    assert np.abs(changed(cells, name, 0.0) - cells).max() <= 1


@pytest.mark.parametrize("name", ["saturation", "hue", "grey"])
def test_the_luma_stays_when_colours_change(name: AugmentationName, cells: Pictures) -> None:
    pictures = middling(cells)
    found = changed(pictures, name)
    assert np.abs((found - pictures) @ colour.LUMA).max() <= 1
    assert np.abs(found - pictures).max() > 2


def test_brightness_and_contrast_reach_their_factors(cells: Pictures) -> None:
    pictures = middling(cells) // 2
    ratio = changed(pictures, "brightness").mean((1, 2, 3)) / pictures.mean((1, 2, 3))
    assert 0.49 < ratio.min() < 0.6
    assert 1.7 < ratio.max() < 2.02
    pictures = middling(cells)
    spread = changed(pictures, "contrast").std((1, 2, 3)) / pictures.std((1, 2, 3))
    assert 0.49 < spread.min() < 0.6
    assert 1.7 < spread.max() < 2.02


def test_contrast_leaves_the_mean_grey_where_it_is(cells: Pictures) -> None:
    pictures = middling(cells)
    found = changed(pictures, "contrast")
    assert np.abs(((found - pictures) @ colour.LUMA).mean((1, 2))).max() < 1


def test_grey_of_magnitude_one_has_no_colour(cells: Pictures) -> None:
    found = changed(cells, "grey")
    assert np.ptp(found, axis=3).max() == 0


def test_white_balance_moves_red_and_blue_by_a_fifth_at_most(cells: Pictures) -> None:
    pictures = middling(cells)
    found = changed(pictures, "white-balance")
    assert (found[..., 1] == pictures[..., 1]).all()
    gains = found[..., [0, 2]].sum((1, 2)) / pictures[..., [0, 2]].sum((1, 2))
    assert 1.15 < gains.max() < 1.205
    assert 0.795 < gains.min() < 0.85


def test_a_shuffle_of_magnitude_one_is_another_order_of_the_channels(cells: Pictures) -> None:
    found = changed(cells, "channel-shuffle")
    orders = set()
    for before, after in zip(cells, found, strict=True):
        order = tuple(int(np.abs(before - after[..., [channel]]).sum((0, 1)).argmin()) for channel in range(3))
        assert (before[..., list(order)] == after).all()
        orders.add(order)
    assert len(orders) == 5
    assert (0, 1, 2) not in orders


def test_a_shift_of_channels_is_the_same_in_all_pixels(cells: Pictures) -> None:
    pictures = middling(cells)
    offsets = (changed(pictures, "channel-shift") - pictures).reshape(len(ROWS), -1, 3)
    assert np.ptp(offsets, axis=1).max() == 0
    assert 35 < np.abs(offsets).max() <= 40


def test_posterise_leaves_at_least_sixteen_levels(cells: Pictures) -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, None, :, None], (len(ROWS), 2, 256, 3))
    found = changed(ramp, "posterise")
    counts = {len(np.unique(picture)) for picture in found}
    assert counts == {256, 128, 64, 32, 16}
    assert np.abs(found.mean((1, 2, 3)) - 127.5).max() <= 0.5


def test_solarise_inverts_what_is_brighter_than_a_threshold() -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, None, :, None], (len(ROWS), 2, 256, 3))
    found = changed(ramp, "solarise", 0.5)[:, 0, :, 0]
    inverted = found != np.arange(256)
    assert (found[inverted] == 255 - np.nonzero(inverted)[1]).all()
    assert inverted[:, :127].sum() == 0
    assert inverted.any(1).all()


def test_stain_leaves_white_as_it_is_and_unmixes_what_it_mixes() -> None:
    white = np.full((len(ROWS), 8, 8, 3), 255, np.uint8)
    assert (changed(white, "stain") == 255).all()
    (still,) = colour.stain(ROWS, Draw(0, 0, "x"), 0.0, (8, 8))
    assert isinstance(still, Density)
    assert np.allclose(still.matrices, np.eye(3))
    (moved,) = colour.stain(np.arange(20_000), Draw(0, 0, "x"), 1.0, (8, 8))
    assert isinstance(moved, Density)
    # A pure stain comes out as its moved vector in its scaled amount, of length exp(-0.5) to exp(0.5).
    for stain in colour.STAINS:
        lengths = np.linalg.norm(moved.matrices @ (stain / np.linalg.norm(stain)), axis=1)
        assert lengths.min() == pytest.approx(np.exp(-0.5), rel=0.01)
        assert lengths.max() == pytest.approx(np.exp(0.5), rel=0.01)
