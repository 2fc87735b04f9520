from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from hemascope.data import Cells, Images
from hemascope.errors import InputError
from hemascope.resize import resize
from hemascope.synthetic import draw_cells
from hemascope.trust.appearance import APPEARANCE, appearance

CREAM, PURPLE, PINK = (240, 225, 200), (90, 50, 130), (225, 175, 165)


def scene(radius: int = 20, red_radius: int = 15, glass: tuple[int, int, int] = CREAM) -> Images:
    """A purple disc in the middle of a pale slide, and a pink one in a corner: uint8 (1, 96, 96, 3)."""
    image = np.full((96, 96, 3), glass, np.uint8)
    cv2.circle(image, (17, 17), red_radius, PINK, -1)
    cv2.circle(image, (50, 50), radius, PURPLE, -1)
    return image[None]


@pytest.fixture(scope="module")
def cells() -> Images:
    return np.asarray(draw_cells(64, seed=8, size=96).images[:])


def test_the_empty_slide_is_measured_behind_the_cells() -> None:
    found = appearance(scene())
    assert found["background_lightness"][0] == pytest.approx(0.299 * 240 + 0.587 * 225 + 0.114 * 200, abs=0.5)
    assert found["background_blueness"][0] == pytest.approx(np.log(201 / 241), abs=1e-3)
    assert found["background_greenness"][0] == pytest.approx(np.log(226 / np.sqrt(241 * 201)), abs=1e-3)
    assert found["cell_density"][0] == pytest.approx(np.log(241 / 91), abs=0.1)


def test_diameters_are_those_of_the_discs() -> None:
    for radius in (12, 18, 24):
        found = appearance(scene(radius, 11))
        assert np.exp(found["cell_diameter"][0]) == pytest.approx(np.sqrt(np.pi) * radius / 96, rel=0.06)
    for radius in (9, 13, 17):
        found = appearance(scene(14, radius))
        assert np.exp(found["red_cell_diameter"][0]) == pytest.approx(2 * radius / 96, rel=0.12)


def test_what_changes_a_picture_changes_its_own_number(cells: Images) -> None:
    before = appearance(cells)

    def shift(images: Images, name: str) -> float:
        return float(np.nanmean(appearance(images)[name] - before[name]) / np.nanstd(before[name]))

    noise = np.random.default_rng(0).normal(0, 8, cells.shape)
    coded = []
    for image in cells:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=25)
        coded.append(np.asarray(Image.open(file)))
    assert shift(np.clip(cells + noise, 0, 255).astype(np.uint8), "noise") > 1
    assert shift(np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in cells]), "sharpness") < -1
    assert shift(np.stack(coded), "blocks") > 1
    assert shift((cells * 0.8).astype(np.uint8), "brightness") < -1
    assert shift((cells * np.array([0.9, 1, 1])).astype(np.uint8), "background_blueness") > 1
    grey = cells.mean(3, keepdims=True)
    assert shift((cells * 0.5 + grey * 0.5).astype(np.uint8), "saturation") < -1


def test_noise_grows_with_its_logarithm() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((20, 96, 96, 3), 128.0)
    noisy = [
        np.clip(flat + rng.normal(0, sigma, (20, 96, 96, 1)) + 0.5, 0, 255).astype(np.uint8) for sigma in (4, 8, 16)
    ]
    found = [appearance(images)["noise"].mean() for images in noisy]
    assert np.diff(found) == pytest.approx(np.log(2), abs=0.1)


def test_size_in_pixels_matters_little(cells: Images) -> None:
    before, larger = appearance(cells[:40]), appearance(resize(cells[:40], 160))
    for name in ("background_blueness", "brightness", "cell_density", "cell_diameter"):
        assert np.nanmean(np.abs(larger[name] - before[name])) < 0.3 * np.nanstd(before[name])


def test_pictures_without_a_cell_have_no_size(drawn: Cells) -> None:
    found = appearance(np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 120, 255)]))
    for name in ("cell_diameter", "cell_density", "cell_blueness", "red_cell_diameter"):
        assert np.isnan(found[name]).all()
    assert np.isfinite(found["noise"]).all()
    assert {len(values) for values in appearance(drawn.take(np.arange(0)).images).values()} == {0}
    assert tuple(appearance(drawn.take(np.arange(3)).images)) == APPEARANCE


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(InputError, match="have the shape"):
        appearance(np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(InputError, match="are float64"):
        appearance(np.zeros((2, 40, 40, 3)))  # type: ignore[arg-type]  # that is what is refused
