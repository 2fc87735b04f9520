from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemascope.bulk.plan import plan, survey
from hemascope.bulk.sample import MOST_PARTS, Sampler


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 grey pictures; the grey level of each is its number."""
    for row in range(60):
        Image.fromarray(np.full((10, 10, 3), row, np.uint8)).save(tmp_path / f"{row:02}.png")
    (tmp_path / "00.png").write_bytes(b"no picture")
    return tmp_path


def test_a_sample_is_spread_over_all_parts_and_leaves_them_as_they_are(folder: Path) -> None:
    sampler = Sampler()
    assert survey(sampler.passing(plan([folder], 3))) == survey(plan([folder], 3))
    assert 3 <= len(sampler.parts) <= MOST_PARTS
    levels = sampler.pictures(10, 16)[:, 0, 0, 0].tolist()
    # The first one cannot be read.
    assert len(levels) == 9
    assert levels == sorted(levels)
    assert levels[0] < 15
    assert levels[-1] > 45
    assert sampler.pictures(10, 16)[:, 0, 0, 0].tolist() == levels


def test_no_more_pictures_are_given_than_there_are(folder: Path) -> None:
    sampler = Sampler()
    survey(sampler.passing(plan([folder])))
    assert sampler.pictures(500, 12).shape == (59, 12, 12, 3)
    (folder / "other").mkdir()
    (folder / "other" / "bad.png").write_bytes(b"no picture")
    alone = Sampler()
    survey(alone.passing(plan([folder / "other"])))
    assert alone.pictures(5, 12).shape == (0, 12, 12, 3)
