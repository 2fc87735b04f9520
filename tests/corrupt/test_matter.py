from __future__ import annotations

import numpy as np
import pytest

from hemascope.corrupt import corrupt, matter
from hemascope.draws import Draw
from hemascope.synthetic import draw_cells

ROWS = np.arange(40)
DRAW = Draw(0, 0, "test")


def plain(level: int, side: int = 224) -> np.ndarray:
    return np.full((len(ROWS), side, side, 3), level, np.uint8)


def test_deposits_are_black_and_as_large_and_many_as_they_say() -> None:
    one = matter.stain_deposit(plain(200), ROWS, DRAW, most=1, size=24)
    black = 1 - one.mean(axis=(1, 2, 3)) / 200
    # Deposits of the published package cover 62% of their square on average.
    assert black.mean() * 224 * 224 == pytest.approx(0.62 * 24 * 24, rel=0.08)
    assert one.min() == 0
    assert (one.max(axis=(1, 2, 3)) == 200).all()
    several = matter.stain_deposit(plain(200), ROWS, DRAW, most=3, size=24)
    marks = (1 - several.mean(axis=(1, 2, 3)) / 200) / black.mean()
    assert set(np.rint(marks).astype(int)) == {1, 2, 3}
    edge = several.copy()
    edge[:, 8:-8, 8:-8] = 200
    assert (edge == 200).all()


def test_bubbles_only_brighten_and_keep_their_number_and_size() -> None:
    seen = matter.bubble(plain(0), ROWS, DRAW, most=10, radius=10).astype(int)
    assert seen.min() == 0
    assert set(np.unique(seen[seen > 60])) <= set(range(61, 131))
    assert (np.isin(seen, (100, 130)).sum(axis=(1, 2, 3)) > 0).all()
    # Seven to ten discs of radius 3 to 10 and a rim of 2, which seldom overlap.
    radii = np.arange(3, 11) + 0.5
    area = 8.5 * np.pi * (100 * radii**2 + 130 * ((radii + 2) ** 2 - radii**2)).mean() / 255
    assert seen[..., 0].sum(axis=(1, 2)).mean() / 255 == pytest.approx(area, rel=0.12)
    assert (matter.bubble(plain(255), ROWS, DRAW, most=10, radius=10) == 255).all()


def test_fibres_are_thin_lines_that_cross_the_picture() -> None:
    for count, low, high in ((1, 0.005, 0.06), (4, 0.03, 0.2)):
        seen = matter.fibre(plain(230, 96), ROWS, DRAW, count=count, width=0.02, opacity=0.9)
        dark = seen.min(axis=-1) < 160
        assert low < dark.mean() < high
        assert dark.reshape(len(dark), -1).any(axis=1).mean() > 0.95


def test_a_thread_is_opaque_in_its_middle() -> None:
    points = np.stack([np.linspace(-20, 120, 900), np.full(900, 40.3)], axis=1)
    line = matter._thread(points, (80, 100), 3.0)
    assert line.shape == (80, 100)
    assert line[40].min() == pytest.approx(1.0, abs=0.08)
    assert line[46:].max() < 0.01
    assert line[:34].max() < 0.01
    assert line.max() <= 1


def test_an_occlusion_brings_in_the_own_cell_and_leaves_the_rest() -> None:
    empty = np.full((6, 96, 96, 3), (245, 235, 215), np.uint8)
    assert (corrupt(empty, "occlusion", 5, seed=0, rows=ROWS[:6]) == empty).all()
    with_cell = empty.copy()
    y, x = np.mgrid[0:96, 0:96] - 47.5
    with_cell[:, np.hypot(x, y) < 20] = (100, 60, 140)
    seen = matter.occlusion(with_cell, ROWS[:6], DRAW, distance=0.4)
    far = 0.4 * 96
    for picture in seen:
        new = (np.abs(picture.astype(int) - with_cell[0]) > 60).any(axis=-1)
        centre = np.array([x[new].mean(), y[new].mean()])
        assert far - 5 < np.hypot(*centre) < far + 2  # where the edge of the picture cuts it, nearer
        assert 0.5 * np.pi * 400 < new.sum() < 1.25 * np.pi * 400
        inside = new & (np.hypot(x - centre[0], y - centre[1]) < 12)
        assert np.abs(picture[inside].astype(int) - (100, 60, 140)).max() <= 2


def test_the_neighbour_comes_nearer_with_severity() -> None:
    images = np.asarray(draw_cells(8, seed=2).images)
    middle = np.s_[:, 32:64, 32:64]
    covered = [
        float((corrupt(images, "occlusion", severity, seed=0, rows=ROWS[:8])[middle] != images[middle]).mean())
        for severity in (1, 3, 5)
    ]
    assert covered[0] < 0.05
    assert covered[0] <= covered[1] < covered[2] < 0.6
