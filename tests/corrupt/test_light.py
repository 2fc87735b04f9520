from __future__ import annotations

import numpy as np
import pytest

from hemascope.corrupt import light
from hemascope.draws import Draw

ROWS = np.arange(30)
DRAW = Draw(0, 0, "test")


def plain(level: int) -> np.ndarray:
    return np.full((len(ROWS), 96, 96, 3), level, np.uint8)


def test_fog_draws_towards_its_own_level_as_densely_as_it_says() -> None:
    seen = light.fog(plain(32), ROWS, DRAW, density=0.4).astype(float)
    share = (seen - 32) / 200
    assert share.mean() == pytest.approx(0.4, abs=0.05)
    assert share.std(axis=(1, 2, 3)).min() > 0.04  # clouds
    assert (light.fog(plain(232), ROWS, DRAW, density=0.4) == 232).all()


def test_vignetting_darkens_the_corners_and_spares_the_middle() -> None:
    seen = light.vignetting(plain(200), ROWS, DRAW, loss=0.8).astype(float)
    assert seen.max() <= 200
    assert seen[:, 44:52, 44:52].min() > 185
    corners = seen[:, [0, 0, -1, -1], [0, -1, 0, -1], 0]
    assert (corners < 110).all()
    assert (corners.max(axis=1) - corners.min(axis=1) > 3).mean() > 0.8  # the middle lies aside


def test_specks_brighten_and_darken_alike_in_all_colours() -> None:
    seen = light.speckled_illumination(plain(100), ROWS, DRAW, depth=0.3).astype(float)
    assert np.log(seen / 100).mean() == pytest.approx(0.0, abs=0.02)
    assert 0.08 < np.log(seen / 100).std() < 0.25
    assert (seen[..., 0] == seen[..., 2]).all()


def test_an_uneven_tint_has_each_colour_rise_its_own_way_and_keeps_the_middle() -> None:
    seen = light.uneven_tint(plain(120), ROWS, DRAW, slope=0.2).astype(float)
    assert np.abs(seen[:, 47:49, 47:49] - 120).max() <= 1
    logs = np.log(seen / 120)
    rises = np.stack([logs[:, :, -1].mean(axis=1) - logs[:, :, 0].mean(axis=1),
                      logs[:, -1].mean(axis=1) - logs[:, 0].mean(axis=1)])  # fmt: skip
    assert np.hypot(*rises) == pytest.approx(0.4, abs=0.02)
    assert (np.abs(rises[:, :, 0] - rises[:, :, 1]).max(axis=0) > 0.02).mean() > 0.8
