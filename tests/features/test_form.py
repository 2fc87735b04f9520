from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hemascope.features.form import FORM, colours, form

Masks = NDArray[np.float32]
Y, X = np.mgrid[:96, :96].astype(np.float32)


def disc(row: float, column: float, radius: float, long: float = 1.0) -> Masks:
    """A disc, or an ellipse that is `long` times as wide."""
    inside = ((Y - row) ** 2 + ((X - column) / long) ** 2) < radius**2
    return np.asarray(inside, np.float32)


def described(nucleus: Masks, cell: Masks) -> dict[str, float]:
    cytoplasm = cell * (1 - nucleus)
    return dict(zip(FORM, form(nucleus[None], cytoplasm[None])[0].tolist(), strict=True))


def test_a_disc_in_a_disc() -> None:
    found = described(disc(47.5, 47.5, 15), disc(47.5, 47.5, 30))
    assert found["nucleus_size"] == pytest.approx(np.sqrt(np.pi) * 15 / 96, rel=0.02)
    assert found["cell_size"] == pytest.approx(np.sqrt(np.pi) * 30 / 96, rel=0.02)
    assert found["nucleus_share"] == pytest.approx(0.25, abs=0.01)
    for part in ("nucleus", "cell"):
        assert found[f"{part}_axis_ratio"] == pytest.approx(1, abs=0.02)
        assert found[f"{part}_solidity"] == pytest.approx(1, abs=0.03)
        assert found[f"{part}_fullness"] == pytest.approx(1, abs=0.02)
        assert found[f"{part}_spread"] == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.01)
        assert found[f"{part}_thickness"] == pytest.approx(1 / np.sqrt(np.pi), rel=0.05)
        assert found[f"{part}_cores"] == 1
    assert found["nucleus_parts"] == 1
    assert found["nucleus_eccentricity"] == pytest.approx(0, abs=0.01)
    assert found["nucleus_off_centre"] == pytest.approx(0, abs=0.01)


def test_an_ellipse_and_a_nucleus_at_the_side() -> None:
    found = described(disc(47.5, 40, 12, long=1.5), disc(47.5, 47.5, 30))
    assert found["nucleus_axis_ratio"] == pytest.approx(1 / 1.5, abs=0.02)
    assert found["nucleus_off_centre"] == pytest.approx(7.5 / 96, abs=0.005)
    assert found["nucleus_eccentricity"] == pytest.approx(7.5 / (np.sqrt(np.pi) * 30), rel=0.03)


def test_lobes_are_counted_where_they_touch_and_where_they_do_not() -> None:
    cell = disc(47.5, 47.5, 34)
    touching = described(np.maximum(disc(47.5, 36, 12), disc(47.5, 58, 12)), cell)
    apart = described(np.maximum(disc(47.5, 33, 10), disc(47.5, 62, 10)), cell)
    assert (touching["nucleus_parts"], touching["nucleus_cores"]) == (1, 2)
    assert (apart["nucleus_parts"], apart["nucleus_cores"]) == (2, 2)
    assert touching["nucleus_solidity"] < 0.95


def test_neighbours_and_dust_are_left_out() -> None:
    alone = described(disc(47.5, 47.5, 12), disc(47.5, 47.5, 25))
    crowd = np.maximum.reduce([disc(47.5, 47.5, 12), disc(3, 3, 8), disc(60, 60, 1)])
    others = np.maximum(disc(47.5, 47.5, 25), disc(90, 10, 9))
    with_others = described(crowd, np.maximum(crowd, others))
    assert with_others["nucleus_parts"] == 1
    for name in FORM:
        assert with_others[name] == pytest.approx(alone[name], abs=0.02), name


def test_without_a_nucleus_all_is_zero() -> None:
    assert set(described(np.zeros((96, 96), np.float32), disc(47.5, 47.5, 30)).values()) == {0.0}
    assert form(np.zeros((0, 96, 96), np.float32), np.zeros((0, 96, 96), np.float32)).shape == (0, len(FORM))


def test_colours_are_shares_of_the_disc() -> None:
    level = np.zeros((2, 3, 96, 96), np.float32)
    level[1, 0] = 0.6
    found = colours(level).astype(np.float64) ** 2
    assert found[:, :48].sum(1) == pytest.approx([1, 1])
    assert found[:, 48:].sum(1) == pytest.approx([1, 1])
    # One colour is one bin, and another colour another one.
    assert (found > 0.99).sum(1).tolist() == [2, 2]
    assert not (found.argmax(1)[0] == found.argmax(1)[1]).any()
