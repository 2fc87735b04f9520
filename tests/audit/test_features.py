from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.audit.features import STATISTICS, cell_features, feature_count, over_batches, picture_statistics
from hemascope.data.cells import Cells, Images
from hemascope.synthetic import draw_cells


def cells(images: NDArray[np.uint8]) -> Cells:
    return Cells(images, np.zeros(len(images), np.int64), ("any",), np.arange(len(images)).astype(str))


@pytest.fixture(scope="module")
def drawn() -> Cells:
    return draw_cells(48, seed=5)


def test_statistics_of_pictures_that_can_be_worked_out() -> None:
    plain = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, 16:] = 255
    found = picture_statistics(cells(np.stack([plain, halves])))
    assert tuple(found) == STATISTICS
    assert found["mean"] == pytest.approx([round(0.299 * 200 + 0.587 * 100 + 0.114 * 50), 127.5], abs=1e-3)
    assert found["contrast"] == pytest.approx([0, 127.5], abs=1e-2)
    assert found["saturation"] == pytest.approx([0.75, 0], abs=1e-6)
    assert found["entropy"] == pytest.approx([0, 1], abs=1e-6)
    assert found["range"].tolist() == [0, 255]
    assert found["sharpness"][0] == pytest.approx(0, abs=1e-2)


def test_statistics_follow_their_definitions(drawn: Cells) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (13, 9, 11, 3), dtype=np.uint8)
    for images in (np.asarray(drawn.images[:20]), noise, noise[:, ::-1, 1:-1]):
        # A value about half way between two levels may go to either, so there is none.
        half_way = np.abs(images @ np.array([299, 587, 114]) % 1000 - 500) < 20
        images = np.where(half_way[..., None], 0, images).astype(np.uint8)
        found = picture_statistics(cells(images))
        colours = images.astype(np.float64)
        grey = np.floor(colours @ [0.299, 0.587, 0.114] + 0.5)
        neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        laplacian = neighbours - 4 * grey[:, 1:-1, 1:-1]
        share = np.stack([np.bincount(one.astype(int).reshape(-1), minlength=256) / one.size for one in grey])
        surprise = np.where(share > 0, -np.log2(np.maximum(share, 1e-12)), 0)
        high, low = colours.max(3), colours.min(3)
        expected = {
            "mean": grey.mean((1, 2)),
            "contrast": grey.std((1, 2)),
            "sharpness": laplacian.std((1, 2)),
            "saturation": ((high - low) / np.maximum(high, 1)).mean((1, 2)),
            "entropy": (share * surprise).sum(1),
            "range": np.ptp(colours, axis=(1, 2)).max(1),
        }
        for name, values in expected.items():
            assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-3), name


def test_blur_lowers_sharpness_and_noise_raises_it(drawn: Cells) -> None:
    images = np.asarray(drawn.images[:8])
    blurred = np.stack([np.asarray(Image.fromarray(image).resize((24, 24)).resize((96, 96))) for image in images])
    noise = np.random.default_rng(0).integers(-30, 31, images.shape)
    noisy = np.clip(images + noise, 0, 255).astype(np.uint8)
    sharp, soft, rough = (picture_statistics(cells(some))["sharpness"] for some in (images, blurred, noisy))
    assert (soft < sharp).all()
    assert (sharp < rough).all()


def test_features_do_not_change_when_the_cell_is_turned_or_mirrored(drawn: Cells) -> None:
    images = np.asarray(drawn.images[:])
    known = cell_features(drawn)
    assert known.shape == (48, feature_count())
    assert np.isfinite(known).all()
    spread = known.std(axis=0) + 1e-6
    for changed in (np.rot90(images, 2, (1, 2)), images[:, :, ::-1], images.swapaxes(1, 2)):
        away = np.abs(cell_features(cells(np.ascontiguousarray(changed))) - known) / spread
        assert np.median(away) < 0.02
        assert away.mean() < 0.1


def test_features_follow_the_glass_and_not_the_lamp(drawn: Cells) -> None:
    known = cell_features(drawn)
    dimmer = cell_features(cells((np.asarray(drawn.images[:]) * 0.85).astype(np.uint8)))
    assert (np.abs(dimmer - known) / (known.std(axis=0) + 1e-6)).mean() < 0.2


def test_other_sizes_are_brought_to_one(drawn: Cells) -> None:
    large = np.stack([np.asarray(Image.fromarray(image).resize((192, 192))) for image in np.asarray(drawn.images[:])])
    known, same = cell_features(drawn), cell_features(cells(large))
    assert (np.abs(same - known) / (known.std(axis=0) + 1e-6)).mean() < 0.2
    assert cell_features(cells(np.asarray(drawn.images[:3])[:, :20, :30])).shape == (3, feature_count())


def test_what_a_picture_travels_with_and_the_number_of_threads_change_nothing(drawn: Cells) -> None:
    rows = np.array([11, 3, 40])
    np.testing.assert_allclose(
        cell_features(drawn.take(rows)), cell_features(drawn, threads=1)[rows], rtol=1e-4, atol=1e-5
    )
    for name, values in picture_statistics(drawn.take(rows), threads=3).items():
        np.testing.assert_allclose(values, picture_statistics(drawn, threads=1)[name][rows], rtol=1e-5)


def test_no_pictures() -> None:
    empty = cells(np.zeros((0, 16, 16, 3), np.uint8))
    assert cell_features(empty).shape == (0, feature_count())
    assert all(len(values) == 0 for values in picture_statistics(empty).values())


def test_batches_come_in_order_and_only_few_are_in_memory() -> None:
    class Counted:
        shape = (1000, 8, 8, 3)
        read = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, rows: slice) -> Images:
            assert threading.current_thread() is threading.main_thread()
            self.read += 1
            return np.full((rows.stop - rows.start, 8, 8, 3), rows.start // 10, np.uint8)

    pictures = Counted()
    source = Cells(pictures, np.zeros(1000, np.int64), ("any",), np.arange(1000).astype(str))  # type: ignore[arg-type]
    for number, (rows, value) in enumerate(over_batches(source, lambda images: int(images[0, 0, 0, 0]), 2, size=10)):
        assert (rows.start, value) == (number * 10, number)
        assert pictures.read <= number + 3
