"""Resizing against Pillow as the independent reference, and against its own definition as two matrix products."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.errors import InputError
from hemascope.resize import central_square, central_window, resize, resize_weights

SIDES = [(200, 96), (363, 96), (96, 224), (28, 96), (97, 31), (100, 50), (64, 32), (9, 100), (224, 8), (96, 97)]


def noise(n: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def by_pillow(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in images]
    )


@pytest.mark.parametrize(("source", "target"), SIDES)
@pytest.mark.parametrize("contrast", ["noise", "black and white"])
def test_differs_from_pillow_by_a_grey_level_at_most(source: int, target: int, contrast: str) -> None:
    images = noise(2, source, source)
    if contrast == "black and white":
        images = ((images > 127) * 255).astype(np.uint8)
    difference = np.abs(resize(images, target).astype(int) - by_pillow(images, target))
    assert difference.max() <= 1


def test_sides_that_differ_are_each_brought_to_the_size_as_pillow_does() -> None:
    images = noise(2, 60, 83)
    assert np.abs(resize(images, 40).astype(int) - by_pillow(images, 40)).max() <= 1


@pytest.mark.parametrize(("source", "target"), [*SIDES, (1, 5), (5, 1), (96, 96)])
def test_weights_sum_to_one_in_each_row(source: int, target: int) -> None:
    weights = resize_weights(source, target)
    assert weights.shape == (target, source)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)


def test_the_weights_are_the_identity_when_the_sides_agree() -> None:
    assert np.array_equal(resize_weights(31, 31), np.eye(31))


def test_weights_belong_to_the_caller() -> None:
    before = resize_weights(12, 8).copy()
    resize_weights(12, 8)[:] = 7.0
    assert np.array_equal(resize_weights(12, 8), before)


@pytest.mark.parametrize(("source", "target"), SIDES)
def test_resize_is_the_two_matrix_products_that_its_weights_announce(source: int, target: int) -> None:
    images = noise(2, source, source, seed=1)
    weights = resize_weights(source, target).astype(np.float64)
    channels = images.transpose(0, 3, 1, 2).astype(np.float64)
    product = np.clip(weights @ np.clip(channels @ weights.T, 0, 255), 0, 255).transpose(0, 2, 3, 1)
    assert np.abs(resize(images, target) - product).max() <= 0.5 + 1e-3


def test_the_same_size_gives_the_same_pixels() -> None:
    images = noise(3, 40, 40)
    assert np.array_equal(resize(images, 40), images)


def test_a_picture_does_not_depend_on_its_company() -> None:
    images = noise(50, 70, 70)
    together = resize(images, 48)
    assert np.array_equal(together, np.concatenate([resize(image[None], 48) for image in images]))


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_plain_colour_stays_itself(level: int) -> None:
    assert (resize(np.full((1, 50, 50, 3), level, np.uint8), 96) == level).all()


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((1, 192, 192, 3), np.uint8)
    stripes[:, :, ::2] = 255
    inside = resize(stripes, 60)[:, :, 2:-2]
    assert np.abs(inside.astype(int) - 127.5).max() < 4


def test_no_pictures_give_no_pictures() -> None:
    assert resize(np.empty((0, 20, 20, 3), np.uint8), 10).shape == (0, 10, 10, 3)


@pytest.mark.parametrize(
    ("height", "width", "crop", "rows", "columns"),
    [
        (360, 363, None, (0, 360), (1, 361)),
        (363, 360, 200, (81, 281), (80, 280)),
        (10, 10, 10, (0, 10), (0, 10)),
        (11, 8, 3, (4, 7), (2, 5)),
    ],
)
def test_the_central_square(
    height: int, width: int, crop: int | None, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    assert central_window(height, width, crop) == (slice(*rows), slice(*columns))
    images = noise(1, height, width)
    assert np.array_equal(central_square(images, crop), images[:, slice(*rows), slice(*columns)])
    assert np.shares_memory(central_square(images, crop), images)


@pytest.mark.parametrize("crop", [0, -3, 41])
def test_a_crop_that_does_not_fit_is_refused(crop: int) -> None:
    with pytest.raises(InputError, match=rf"central {crop} x {crop} pixels .* picture is 50 x 40"):
        central_square(noise(1, 40, 50), crop)


@pytest.mark.parametrize(("source", "target"), [(0, 5), (5, 0), (-1, 4)])
def test_sides_below_one_are_refused(source: int, target: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        resize_weights(source, target)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expects \(n, height, width, 3\)"):
        resize(np.zeros((10, 10, 3), np.uint8), 5)
