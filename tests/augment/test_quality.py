from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hemascope.augment import augment, quality
from hemascope.augment.plan import Filter
from hemascope.data import Cells
from hemascope.draws import Draw
from hemascope.recipe import Augmentation, AugmentationName

Pictures = NDArray[np.uint8]

ROWS = np.arange(64, dtype=np.int64)
BLURS = {
    "gaussian-blur": quality.gaussian_blur,
    "motion-blur": quality.motion_blur,
    "defocus-blur": quality.defocus_blur,
}


@pytest.fixture(scope="module")
def cells(drawn: Cells) -> Pictures:
    return np.asarray(drawn.images[: len(ROWS)])


def changed(pictures: Pictures, name: AugmentationName, magnitude: float = 1.0) -> NDArray[np.float64]:
    return augment(pictures, ROWS, [Augmentation(name=name, magnitude=magnitude)], seed=0, epoch=0).astype(np.float64)


@pytest.mark.parametrize(
    "name", [*BLURS, "gaussian-noise", "shot-noise", "speckle-noise", "impulse-noise", "pixelate", "sharpness"]
)
def test_magnitude_zero_changes_nothing(name: AugmentationName, cells: Pictures) -> None:
    # A line of one pixel's length that is turned touches its neighbours a little.
    assert np.abs(changed(cells, name, 0.0) - cells).max() <= (3 if name == "motion-blur" else 1)


@pytest.mark.parametrize("name", sorted(BLURS))
def test_a_blur_is_an_average_about_the_pixel(name: str) -> None:
    (blur,) = BLURS[name](ROWS, Draw(0, 0, "x"), 1.0, (96, 96))
    assert isinstance(blur, Filter)
    assert np.allclose(blur.kernels.sum((1, 2)), 1)
    assert (blur.kernels >= 0).all()
    assert np.allclose(blur.kernels, blur.kernels[:, ::-1, ::-1])
    side = blur.kernels.shape[1]
    assert side % 2 == 1
    # Nothing of weight is cut off at the border of the kernel.
    border = np.ones((side, side), np.bool_)
    border[1:-1, 1:-1] = False
    assert blur.kernels[:, border].sum(1).max() < 0.12


def test_blurs_spread_as_far_as_their_magnitude_says() -> None:
    spreads = {}
    for name, blur in BLURS.items():
        (filtered,) = blur(np.arange(2000), Draw(0, 0, "x"), 1.0, (96, 96))
        assert isinstance(filtered, Filter)
        offsets = np.arange(filtered.kernels.shape[1]) - filtered.kernels.shape[1] // 2
        squares = offsets[:, None] ** 2 + offsets[None, :] ** 2
        spreads[name] = np.sqrt((filtered.kernels * squares).sum((1, 2))).max()
    # The root mean square distance: sqrt(2) sigma, length / sqrt(12), radius / sqrt(2).
    assert spreads["gaussian-blur"] == pytest.approx(2.4 * 2**0.5, rel=0.05)
    assert spreads["motion-blur"] == pytest.approx((1 + 11.52) / 12**0.5, rel=0.1)
    assert spreads["defocus-blur"] == pytest.approx(3.36 / 2**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("name", "deviation"),
    [("gaussian-noise", lambda level: 40), ("shot-noise", lambda level: 40 * (level / 255) ** 0.5),
     ("speckle-noise", lambda level: 0.3 * level)],
)  # fmt: skip
@pytest.mark.parametrize("level", [60, 120])
def test_noise_is_normal_and_as_strong_as_it_says(name: AugmentationName, deviation: object, level: int) -> None:
    assert callable(deviation)
    noise = changed(np.full((len(ROWS), 64, 64, 3), level, np.uint8), name, 0.5) - level
    strengths = noise.std((1, 2, 3))
    assert strengths.max() == pytest.approx(0.5 * deviation(level), rel=0.06)
    assert np.abs(noise.mean((1, 2, 3)) / np.maximum(strengths, 0.1)).max() < 0.05
    strongest = noise[strengths.argmax()].ravel() / strengths.max()
    assert abs(stats.kurtosis(strongest)) < 0.15
    channels = noise[strengths.argmax()].reshape(-1, 3)
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.06


def test_strengths_are_drawn_evenly(cells: Pictures) -> None:
    flat = np.full((1000, 16, 16, 3), 128, np.uint8)
    rows = np.arange(1000, dtype=np.int64)
    steps = [Augmentation(name="gaussian-noise", magnitude=1.0)]
    strengths = augment(flat, rows, steps, seed=0, epoch=0).std((1, 2, 3)) / 40
    assert stats.kstest(strengths, stats.uniform(0, 1).cdf).pvalue > 1e-3


def test_salt_and_pepper_hits_whole_pixels_half_black_half_white(cells: Pictures) -> None:
    flat = np.full((len(ROWS), 64, 64, 3), 128, np.uint8)
    found = changed(flat, "impulse-noise")
    assert set(np.unique(found)) == {0, 128, 255}
    assert (np.ptp(found, axis=3) == 0).all()
    black, white = ((found == level).mean((1, 2, 3)) for level in (0, 255))
    assert (black + white).max() < 0.09
    assert black.mean() == pytest.approx(0.02, rel=0.2)
    assert white.mean() == pytest.approx(0.02, rel=0.2)


def test_jpeg_is_as_bad_as_its_quality(cells: Pictures) -> None:
    mild, strong = (np.abs(changed(cells, "jpeg", magnitude) - cells).mean() for magnitude in (0.1, 1.0))
    assert 0 < mild < strong
    # At quality 95 as OpenCV writes it, red first.
    expected = cv2.imdecode(
        cv2.imencode(".jpg", cells[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_COLOR
    )
    assert expected is not None
    assert (changed(cells, "jpeg", 0.0)[0] == expected[..., ::-1]).all()


def test_pixelate_makes_few_large_pixels_that_keep_the_mean(cells: Pictures) -> None:
    found = changed(cells, "pixelate")
    sizes = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in found]
    assert min(sizes) <= 81
    assert np.abs(found.mean((1, 2)) - cells.mean((1, 2))).max() < 4


def test_sharpness_goes_both_ways(cells: Pictures) -> None:
    def edges(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.abs(np.diff(pictures, axis=1)).mean((1, 2, 3)))

    ratio = edges(changed(cells, "sharpness")) / edges(cells.astype(np.float64))
    assert ratio.min() < 0.95
    assert ratio.max() > 1.3
