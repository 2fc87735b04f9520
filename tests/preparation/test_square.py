from __future__ import annotations

import cv2
import numpy as np
import pytest

from hemascope.data import Images
from hemascope.preparation.square import at_scale, canvas_side, cell_sizes, framed

DISC = 30


@pytest.fixture(scope="module")
def discs() -> Images:
    """A stained disc of 30 pixels across on glass, in the middle, with a second further away; brighter and yellower."""
    found = []
    for glass in ((235, 230, 240), (180, 175, 120)):
        image = np.full((96, 96, 3), glass, np.uint8)
        stain = tuple(int(value * share) for value, share in zip(glass, (0.25, 0.2, 0.5), strict=True))
        cv2.circle(image, (48, 48), DISC // 2, stain, -1)
        cv2.circle(image, (10, 10), 5, stain, -1)
        found.append(image)
    return np.stack(found)


def test_a_cell_is_as_large_as_it_was_drawn_whatever_the_light(discs: Images) -> None:
    expected = np.log(np.sqrt(np.pi / 4) * DISC / 96)
    sizes = cell_sizes(discs)
    assert sizes == pytest.approx([expected] * 2, abs=0.1)
    assert sizes[0] == pytest.approx(sizes[1], abs=0.02)
    wide = np.stack([cv2.copyMakeBorder(image, 48, 48, 48, 48, cv2.BORDER_REPLICATE) for image in discs])
    assert cell_sizes(wide) == pytest.approx(sizes - np.log(2), abs=0.1)


def test_glass_alone_has_no_cell_and_no_pictures_have_no_sizes() -> None:
    assert np.isnan(cell_sizes(np.full((2, 40, 60, 3), 230, np.uint8))).all()
    assert cell_sizes(np.zeros((0, 96, 96, 3), np.uint8)).shape == (0,)


def test_a_field_cuts_or_widens_about_the_middle(discs: Images) -> None:
    assert np.array_equal(at_scale(discs, 1), discs)
    for field in (0.5, 0.7, 1.3, 2.0):
        seen = at_scale(discs, field)
        assert seen.shape == discs.shape
        assert seen.dtype == np.uint8
        assert cell_sizes(seen)[1] == pytest.approx(cell_sizes(discs)[1] - np.log(field), abs=0.1)


def test_a_frame_keeps_its_pixels_and_its_edge_goes_on() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    assert np.array_equal(framed(images, 5), images[:, 2:7, 2:7])
    wide = framed(images, 12)
    assert np.array_equal(wide[:, 1:10, 1:10], images)
    assert np.array_equal(wide[:, 1:10, -1], images[:, :, -1])
    assert (canvas_side(96, 0.5), canvas_side(96, 1.0), canvas_side(96, 1.6)) == (192, 96, 60)
