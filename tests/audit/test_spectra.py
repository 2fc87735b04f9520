from __future__ import annotations

import numpy as np
import pytest

from hemascope.audit.spectra import (
    BAND,
    POSES,
    STEPS,
    ZOOMS,
    Overlay,
    coarse_overlay,
    description,
    packed,
    posed,
    spectra,
)

RNG = np.random.default_rng(0)
COARSE = RNG.uniform(0, 255, (6, 9, 9))
PLANES = np.kron(COARSE, np.ones((1, 6, 6)))[:, 3:-3, 3:-3].astype(np.float32)


def all_zooms(planes: np.ndarray) -> dict[float, np.ndarray]:
    return {zoom: packed(spectra(planes, zoom)) for zoom in ZOOMS}


def test_spectra_agree_with_the_fourier_transform() -> None:
    side = PLANES.shape[1]
    window = np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1])
    centred = PLANES - ((PLANES * window).sum((1, 2)) / window.sum())[:, None, None]
    size = np.abs(np.fft.fftshift(np.fft.fft2(centred * window), axes=(1, 2)))
    middle = side // 2
    around = size[:, middle - BAND : middle + BAND + 1, middle - BAND : middle + BAND + 1]
    np.testing.assert_allclose(np.abs(spectra(PLANES)), around, rtol=1e-3, atol=0.5)


@pytest.mark.parametrize("pose", range(POSES))
def test_a_pose_of_a_picture_is_that_pose_of_its_spectrum(pose: int) -> None:
    np.testing.assert_allclose(
        spectra(np.ascontiguousarray(posed(PLANES, pose))), posed(spectra(PLANES), pose), rtol=1e-3, atol=0.5
    )


def test_the_description_knows_no_pose_and_no_gain_but_tells_pictures_apart() -> None:
    plain = description([spectra(PLANES)])
    assert plain.dtype == np.float32
    for pose in range(POSES):
        darker = np.ascontiguousarray(posed(PLANES, pose) / 2 + 20, np.float32)
        changed = description([spectra(darker)])
        np.testing.assert_allclose(changed, plain, atol=1e-4)
    between = np.linalg.norm(plain[:, None] - plain[None], axis=2)
    assert between[~np.eye(len(plain), dtype=bool)].min() > 0.1


def test_coarse_overlay_finds_pose_shift_and_zoom() -> None:
    for pose in range(POSES):
        turned = np.ascontiguousarray(posed(PLANES, pose))
        found = coarse_overlay(all_zooms(turned), all_zooms(PLANES))
        assert found.pose.tolist() == [pose] * len(PLANES)
        np.testing.assert_allclose(found.agreement, 1, atol=1e-4)
        np.testing.assert_allclose(found.shift, 0)
    found = coarse_overlay(all_zooms(PLANES), all_zooms(np.roll(PLANES, (3, -2), (1, 2))))
    np.testing.assert_allclose(found.shift, np.tile([3 / STEPS, -2 / STEPS], (len(PLANES), 1)))
    found = coarse_overlay(all_zooms(PLANES), all_zooms(PLANES[:, 3:-3, 3:-3]))
    np.testing.assert_allclose(found.scale, 1.12)


def test_pictures_without_anything_agree_with_nothing() -> None:
    blank = np.full((2, 48, 48), 200, np.float32)
    assert coarse_overlay(all_zooms(blank), all_zooms(PLANES[:2])).agreement.max() < 0.5
    assert np.isfinite(description([spectra(blank)])).all()


def test_overlays_are_taken_and_joined() -> None:
    overlay = Overlay.plain(5)
    assert len(Overlay.concatenate([overlay.take(slice(2)), overlay.take(np.array([4]))]).pose) == 3
    assert Overlay.concatenate([]).scale.shape == (0, 2)
