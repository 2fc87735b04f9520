from __future__ import annotations

import numpy as np
import pytest

from hemascope.corrupt import corrupt
from hemascope.corrupt.fields import clear_levels, disc, levels, rise, smooth_noise, soft_step
from hemascope.draws import Draw
from hemascope.resize import resize
from hemascope.synthetic import draw_cells


def variance(weights: np.ndarray) -> float:
    away = np.arange(len(weights)) - len(weights) // 2
    return float((weights * away[None, :] ** 2).sum())


def test_a_disc_has_its_radius_even_between_whole_pixels() -> None:
    for radius in (0.3, 0.86, 1.3, 2.0, 3.7, 6.0, 12.5):
        weights = disc(radius)
        assert weights.sum() == pytest.approx(1.0, abs=1e-5)
        if radius > 1:
            # An even disc has a quarter of its squared radius, and a pixel is as wide as a pixel.
            assert variance(weights) == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.05)
        assert np.allclose(weights, weights.T)
        assert np.allclose(weights, weights[::-1])
    assert (disc(0.3) == 1).all()


def test_a_scaled_disc_blurs_as_much_as_the_one_it_stands_for() -> None:
    for radius in (2, 3, 4, 5, 6):
        for scale in (96 / 224, 64 / 224, 299 / 224):
            weights = disc(radius, scale)
            assert weights.sum() == pytest.approx(1.0, abs=1e-5)
            assert variance(weights) == pytest.approx(scale**2 * variance(disc(radius)), rel=0.03)
    assert disc(2, 3 / 224).max() == 1


def test_noise_is_smooth_even_handed_and_each_row_its_own() -> None:
    noise = smooth_noise(Draw(0, 0, "test"), np.arange(60), "noise", (64, 48), 4, 2)
    assert noise.shape == (60, 64, 48)
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 0.05
    assert 0.3 < float(noise.std()) < 0.7
    assert np.abs(np.diff(noise, axis=2)).max() < 0.5
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.6


def test_edges_are_soft_and_levels_whole() -> None:
    assert soft_step(np.array([-2.0, -0.25, 0.0, 0.5, 3.0])).tolist() == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert rise(np.array([0.0, 1.0, 1.5, 2.0, 9.0]), 1.0, 2.0).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert levels(np.array([-4.0, 0.4, 0.6, 254.6, 300.0])).tolist() == [0, 0, 1, 255, 255]


def test_the_clear_levels_are_those_of_the_empty_slide() -> None:
    image = np.full((20, 20, 3), (240, 230, 200), np.uint8)
    image[4:16, 4:16] = 60
    image[0, 0] = 255  # a single hot pixel
    assert clear_levels(image).tolist() == [240.0, 230.0, 200.0]
    assert clear_levels(np.zeros((1, 1, 3), np.uint8)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "name",
    ["defocus_blur", "motion_blur", "stain_deposit", "bubble", "fibre", "occlusion", "double_image", "stitching"],
)
def test_a_larger_picture_of_the_same_cell_is_corrupted_alike(name: str) -> None:
    large = np.asarray(draw_cells(8, seed=3, size=256).images)
    small = resize(large, 128)
    rows = np.arange(8)
    for severity in (2, 5):
        from_large = resize(corrupt(large, name, severity, seed=0, rows=rows), 128).astype(int)
        from_small = corrupt(small, name, severity, seed=0, rows=rows).astype(int)
        change = np.abs(from_small - small).mean()
        assert np.abs(from_large - from_small).mean() < 0.25 * change
