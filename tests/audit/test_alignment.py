from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hemascope.audit.alignment import Likeness, changes, fine_overlay, likeness, sampled
from hemascope.audit.spectra import Overlay, posed


def textures(count: int, seed: int = 0, side: int = 96) -> np.ndarray:
    """Smooth random pictures, float32, within 20 to 235."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 14, 14), dtype=np.uint8)
    smooth = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in coarse]
    return np.stack(smooth).astype(np.float32) * 0.7 + 30


def overlay(pose: int, scale: tuple[float, float], shift: tuple[float, float], count: int = 4) -> Overlay:
    return Overlay(np.full(count, pose), np.tile(scale, (count, 1)), np.tile(shift, (count, 1)), np.ones(count))


def test_sampling_at_the_same_place_changes_nothing() -> None:
    planes = textures(3)
    np.testing.assert_allclose(sampled(planes, 96), planes, rtol=1e-5)
    np.testing.assert_allclose(sampled(planes, 96, overlay(5, (1, 1), (0, 0), 3)), posed(planes, 5), rtol=1e-5)


def test_shrinking_keeps_a_slope_and_smooths_what_is_finer() -> None:
    slope = np.tile(np.arange(96, dtype=np.float32), (1, 96, 1))
    half_as_many = np.tile(np.arange(48) * 2 + 0.5, (48, 1))
    np.testing.assert_allclose(sampled(slope, 48)[0, :, 1:-1], half_as_many[:, 1:-1], rtol=1e-4)
    stripes = np.tile(np.array([0, 100], np.float32), (1, 96, 48))
    np.testing.assert_allclose(sampled(stripes, 32)[0, :, 1:-1], 50, atol=8)


def test_sampling_moves_by_whole_pixels() -> None:
    planes = textures(2)
    moved = sampled(planes, 96, overlay(0, (1, 1), (4 / 96, -3 / 96), 2))
    np.testing.assert_allclose(moved[:, :-4, 3:], planes[:, 4:, :-3], atol=0.01)


def test_fine_overlay_recovers_scale_and_shift() -> None:
    second = textures(4)
    truth = overlay(3, (0.93, 0.97), (0.02, -0.03))
    first = sampled(second, 96, truth)
    found = fine_overlay(first, second, overlay(3, (0.95, 0.95), (0.0, -0.02)), side=64, steps=6)
    np.testing.assert_allclose(found.scale, truth.scale, atol=0.004)
    np.testing.assert_allclose(found.shift, truth.shift, atol=0.002)
    assert found.agreement.min() > 0.995


def test_likeness_forgives_brightness_that_was_cut_off_but_not_another_picture() -> None:
    second = textures(4)
    first = np.clip(second * 1.3 + 30, 0, 255).astype(np.float32)
    assert (first == 255).mean() > 0.05
    found = likeness(first, second, Overlay.plain(4), side=64)
    assert found.similarity.min() > 0.99
    np.testing.assert_allclose(found.gain, 1.3, atol=0.02)
    assert (found.levels > 10).all()
    assert likeness(first, textures(4, seed=1), Overlay.plain(4), side=64).similarity.max() < 0.5


def test_likeness_sees_one_part_that_differs() -> None:
    first, other = textures(4), textures(4, seed=1)
    second = first.copy()
    second[:, 40:60, 40:60] = other[:, 40:60, 40:60]
    assert likeness(first, second, Overlay.plain(4), side=64).similarity.max() < 0.95


def test_blank_pictures_are_not_alike() -> None:
    blank = np.full((2, 96, 96), 200, np.float32)
    moved = fine_overlay(blank, blank, Overlay.plain(2), side=32)
    assert np.isfinite(moved.scale).all()
    assert likeness(blank, blank, moved, side=64).similarity.max() < 0.5


@pytest.mark.parametrize(
    ("pose", "scale", "shift", "gain", "levels", "words"),
    [
        (0, 1.0, 0.0, 1.0, 0.0, ""),
        (1, 1.0, 0.0, 1.0, 6.2, "turned by 90 degrees, 6 grey levels brighter"),
        (6, 1.0, 0.0, 1.0, -3.0, "mirrored, turned by 180 degrees, 3 grey levels darker"),
        (4, 1.0, 3 / 96, 1.0, 0.0, "mirrored, moved by 3 pixels"),
        (0, 1 / 1.08, 1 / 96, 1.1, 0.0, "moved by 1 pixel, zoomed in by 8%, 10% more contrast"),
    ],
)
def test_words(pose: int, scale: float, shift: float, gain: float, levels: float, words: str) -> None:
    found = Likeness(np.ones(1), np.array([gain]), np.array([levels]))
    assert [", ".join(told) for told in changes(overlay(pose, (scale, scale), (shift, 0), 1), found, 96)] == [words]
