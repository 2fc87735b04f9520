from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from hemascope.corrupt import FAMILIES, corrupt, sensor
from hemascope.draws import Draw
from hemascope.synthetic import draw_cells

ROWS = np.arange(6)
DRAW = Draw(0, 0, "test")


def test_pixelate_leaves_as_many_squares_as_it_says() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    seen = sensor.pixelate(images, ROWS[:2], DRAW, factor=0.25)
    blocks = seen.reshape(2, 24, 4, 24, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    means = images.reshape(2, 24, 4, 24, 4, 3).mean(axis=(2, 4))
    assert np.abs(blocks[:, :, 0, :, 0] - means).max() <= 1


def test_jpeg_is_what_a_file_of_that_quality_holds() -> None:
    images = np.asarray(draw_cells(2, seed=1, size=48).images)
    for severity, quality in enumerate(FAMILIES["jpeg"].parameters["quality"], start=1):
        seen = corrupt(images, "jpeg", severity, seed=0, rows=ROWS[:2])
        for image, own in zip(images, seen, strict=True):
            stream = BytesIO()
            Image.fromarray(image).save(stream, "JPEG", quality=int(quality))
            assert (np.asarray(Image.open(stream)) == own).all()


def test_grain_has_its_amount_in_the_middle_tones_and_is_the_same_in_all_colours() -> None:
    for side in (64, 96, 224):
        plain = np.full((6, side, side, 3), 128, np.uint8)
        noise = sensor.film_grain(plain, ROWS, DRAW, amount=20).astype(float) - 128
        assert noise.std() == pytest.approx(20, rel=0.15)
        assert abs(noise.mean()) < 1
        assert (noise[..., 0] == noise[..., 2]).all()
    neighbours = np.corrcoef(noise[:, :, 1:, 0].ravel(), noise[:, :, :-1, 0].ravel())[0, 1]
    assert neighbours > 0.5
    dark = sensor.film_grain(np.full((6, 64, 64, 3), 12, np.uint8), ROWS, DRAW, amount=20).astype(float)
    assert dark.std() < 11


def test_scan_lines_run_along_rows_or_columns_and_only_darken() -> None:
    plain = np.full((40, 96, 96, 3), 200, np.uint8)
    seen = sensor.scan_lines(plain, np.arange(40), DRAW, depth=0.5)
    along_rows = (seen == seen[:, :, :1]).all(axis=(1, 2, 3))
    along_columns = (seen == seen[:, :1]).all(axis=(1, 2, 3))
    assert (along_rows ^ along_columns).all()
    assert 8 < along_rows.sum() < 32
    assert seen.max() <= 200
    assert seen.min() == pytest.approx(100, abs=2)
