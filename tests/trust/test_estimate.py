"""Estimates of accuracies that are known because the batches are made, and intervals against SciPy and by counting."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, hypergeom

from hemascope.errors import InputError
from hemascope.trust import (
    AccuracyEstimate,
    MeasuredBatch,
    draw_spot_check,
    fit_estimate,
    measured_batch,
    spot_check,
)


def made_up(quality: float, rows: int, seed: int, off: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Answers of a batch, surer than right the worse it is; off: what its accuracy differs by from others as bad."""
    rng = np.random.default_rng(seed)
    top = np.clip(rng.normal(0.6 + 0.39 * quality, 0.05, rows), 0.35, 0.999)
    chance = np.clip(1.6 * top - 0.6 + off, 0, 1)
    labels = np.where(rng.random(rows) < chance, 0, 1 + rng.integers(2, size=rows))
    return np.stack([top, (1 - top) / 2, (1 - top) / 2], axis=1), labels


def batches(count: int = 40, rows: int = 400) -> list[MeasuredBatch]:
    found = [measured_batch(*made_up(1.0, rows, 0))]
    for turn in range(1, count):
        family = turn % 8
        off = 0.02 * (family - 3.5) / 3.5
        found.append(measured_batch(*made_up(turn / count, rows, turn, off), families={str(family)}))
    return found


def test_a_line_finds_what_confidence_misses() -> None:
    fitted = fit_estimate(batches())
    errors, naive = [], []
    for turn, quality in enumerate((0.2, 0.5, 0.8)):
        probabilities, labels = made_up(quality, 4000, 100 + turn)
        truth = float((labels == 0).mean())
        found = fitted.estimate(probabilities)
        errors.append(abs(found.accuracy - truth))
        naive.append(abs(probabilities.max(1).mean() - truth))
        assert found.low <= truth <= found.high
    assert max(errors) < 0.02
    assert sum(errors) < sum(naive) / 5


def test_the_line_is_that_of_weighted_least_squares() -> None:
    given = batches()
    x, y, rows = (np.array([batch[place] for batch in given], float) for place in range(3))
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(rows))
    fitted = fit_estimate(given)
    assert (fitted.intercept, fitted.slope) == pytest.approx((intercept, slope))
    assert fitted.lowest_confidence == x.min()


def test_intervals_hold_batches_of_families_that_were_not_fitted() -> None:
    given = batches(80)
    fitted = fit_estimate([batch for batch in given if "7" not in batch.families and "0" not in batch.families])
    held = []
    for batch in given:
        if batch.families & {"0", "7"}:
            probabilities = np.tile([[batch.confidence, 1 - batch.confidence]], (batch.rows, 1))
            found = fitted.estimate(probabilities)
            held.append(found.low <= batch.accuracy <= found.high)
    assert len(held) > 15
    assert np.mean(held) > 0.8


def test_the_interval_narrows_with_rows_and_widens_with_the_error() -> None:
    fitted = AccuracyEstimate(0.0, 1.0, 0.2, 0.5, 40)

    def width(confidence: float, rows: int) -> float:
        found = fitted.estimate(np.tile([[confidence, 1 - confidence]], (rows, 1)))
        return found.high - found.low

    assert width(0.9, 50) > width(0.9, 500) > width(0.9, 50_000) > 2 * 0.19 * 0.1
    assert width(0.7, 50_000) > width(0.9, 50_000)
    assert 0 < width(1.0, 100) < 0.05


def test_a_batch_that_is_worse_than_all_is_said_to_be() -> None:
    fitted = AccuracyEstimate(-1.0, 2.0, 0.1, 0.8, 40)
    assert not fitted.estimate([[0.9, 0.1]]).extrapolated
    found = fitted.estimate([[0.55, 0.45]])
    assert found.extrapolated
    assert found.accuracy == pytest.approx(0.1)
    assert fitted.estimate([[0.5, 0.5]]).accuracy == 0.0


def test_it_travels_as_json() -> None:
    fitted = fit_estimate(batches())
    assert AccuracyEstimate.from_json(json.loads(json.dumps(fitted.as_json()))) == fitted


def test_what_makes_no_line_is_refused() -> None:
    with pytest.raises(InputError, match="2 batches"):
        fit_estimate(batches()[:2])
    with pytest.raises(InputError, match="hardly differ"):
        fit_estimate([batches()[0]] * 5)
    falling = [MeasuredBatch(place / 10, 1 - place / 10, 100, frozenset()) for place in range(1, 9)]
    with pytest.raises(InputError, match="does not rise"):
        fit_estimate(falling)
    with pytest.raises(InputError, match="no pictures"):
        fit_estimate(batches()).estimate(np.zeros((0, 3)))
    with pytest.raises(InputError, match="no pictures"):
        measured_batch(np.zeros((0, 3)), np.zeros(0, int))


@pytest.mark.parametrize(("right", "labelled"), [(0, 5), (5, 5), (47, 50), (1, 1), (480, 500)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_a_spot_check_has_the_interval_of_scipy(right: int, labelled: int, confidence: float) -> None:
    reference = binomtest(right, labelled).proportion_ci(confidence, "exact")
    found = spot_check(right, labelled, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert found.accuracy == right / labelled


@pytest.mark.parametrize(("right", "labelled", "population"), [(0, 4, 30), (4, 4, 30), (9, 12, 40), (18, 20, 25)])
def test_a_finite_spot_check_by_counting(right: int, labelled: int, population: int) -> None:
    found = spot_check(right, labelled, population)
    likely = [
        number
        for number in range(population + 1)
        if hypergeom.pmf(range(right, labelled + 1), population, number, labelled).sum() > 0.025
        and hypergeom.pmf(range(right + 1), population, number, labelled).sum() > 0.025
    ]
    assert (found.low, found.high) == (min(likely) / population, max(likely) / population)


def test_a_finite_spot_check_covers_every_population() -> None:
    population, labelled = 60, 15
    intervals = [spot_check(right, labelled, population) for right in range(labelled + 1)]
    for number in range(population + 1):
        chances = hypergeom.pmf(range(labelled + 1), population, number, labelled)
        held = [one.low <= number / population <= one.high for one in intervals]
        assert chances[held].sum() >= 0.95


def test_a_finite_spot_check_narrows_to_a_point_and_widens_to_the_endless_one() -> None:
    whole = spot_check(18, 20, 20)
    assert whole.low == whole.high == 0.9
    widths = [one.high - one.low for one in (spot_check(18, 20, size) for size in (20, 25, 100, 1_000_000))]
    assert all(narrow < wide for narrow, wide in pairwise(widths))
    endless = spot_check(18, 20)
    assert widths[-1] == pytest.approx(endless.high - endless.low, abs=1e-4)


@pytest.mark.parametrize("given", [(3, 2), (-1, 2), (0, 0), (1, 2, 1)])
def test_counts_that_do_not_fit_are_refused(given: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="right answers of"):
        spot_check(*given)


def test_a_draw_depends_on_the_ids_and_the_seed_alone() -> None:
    ids = np.array([f"cell {row}" for row in range(100)])
    drawn = draw_spot_check(ids, 30, seed=1)
    assert len(set(drawn.tolist())) == 30
    np.testing.assert_array_equal(draw_spot_check(ids[::-1], 30, seed=1), drawn)
    np.testing.assert_array_equal(draw_spot_check(ids, 10, seed=1), drawn[:10])
    assert set(draw_spot_check(ids, 30, seed=2).tolist()) != set(drawn.tolist())
    assert set(draw_spot_check(ids, 100, seed=1).tolist()) == set(ids.tolist())


def test_every_picture_is_drawn_equally_often() -> None:
    ids = np.array([f"{row:02}" for row in range(20)])
    counts = np.zeros(20)
    for seed in range(1000):
        counts[draw_spot_check(ids, 5, seed).astype(int)] += 1
    # 250 each, with a standard deviation of 13.7.
    assert np.abs(counts - 250).max() < 4 * 13.7


@pytest.mark.parametrize(
    ("ids", "count", "told"),
    [(["a", "a", "b"], 1, "1 of 3 ids occur before"), (["a", "b"], 3, "sample of 3"), (["a", "b"], 0, "sample of 0")],
)
def test_a_draw_that_cannot_be_made_is_refused(ids: Any, count: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        draw_spot_check(ids, count, seed=0)
