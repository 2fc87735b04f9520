"""Rules against SciPy's exact interval, the promise by simulation, and curves against a plain loop."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from hemascope.errors import InputError
from hemascope.trust import RejectRule, reject_rule, risk_coverage, rows_needed, upper_bound


def made_up(rows: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidences, and answers that are right as often as those say squared, so that not all may be believed."""
    rng = np.random.default_rng(seed)
    confidence = 1 - 0.5 * rng.random(rows) ** 4
    return confidence, rng.random(rows) < confidence**2


@pytest.mark.parametrize(("mistakes", "rows"), [(0, 1), (0, 299), (3, 300), (17, 40), (9, 10)])
def test_the_bound_is_that_of_scipy(mistakes: int, rows: int) -> None:
    reference = binomtest(mistakes, rows, alternative="less").proportion_ci(0.95, "exact").high
    assert upper_bound(mistakes, rows) == pytest.approx(reference)


def test_the_bound_at_its_ends() -> None:
    assert upper_bound(0, 0) == upper_bound(5, 5) == 1.0
    with pytest.raises(InputError, match="3 mistakes of 2 rows"):
        upper_bound(3, 2)


@pytest.mark.parametrize("max_error", [0.01, 0.02, 0.1, 0.3])
def test_how_many_rows_an_error_needs(max_error: float) -> None:
    needed = rows_needed(max_error)
    assert upper_bound(0, needed) <= max_error < upper_bound(0, needed - 1)
    assert rows_needed(0.01) == 299


def test_too_few_rows_are_refused_with_their_number() -> None:
    confidence, right = np.linspace(0, 1, 298), np.ones(298, bool)
    with pytest.raises(InputError, match=r"298 rows were given, and an error of 0\.01 needs 299"):
        reject_rule(confidence, right, 0.01)
    rule = reject_rule(np.linspace(0, 1, 299), np.ones(299, bool), 0.01)
    assert (rule.threshold, rule.answered, rule.coverage) == (0.0, 299, 1.0)
    assert rule.bound <= 0.01


def test_the_surest_half_may_be_wrong_too_often() -> None:
    right = np.ones(1000, bool)
    right[-20:] = False
    with pytest.raises(InputError, match="of the 500 surest rows 20 are wrong"):
        reject_rule(np.arange(1000), right, 0.01)


def test_the_laxest_threshold_that_holds_is_chosen() -> None:
    confidence, right = np.arange(1000.0), np.ones(1000, bool)
    right[:100] = False
    rule = reject_rule(confidence, right, 0.02)
    # The thresholds tested are some ten rows apart.
    assert rule.answered - rule.mistakes == 900
    assert upper_bound(rule.mistakes, rule.answered) == rule.bound <= 0.02
    assert upper_bound(rule.mistakes + 11, rule.answered + 11) > 0.02
    assert rule.answers(confidence).sum() == rule.answered
    assert rule.answers([rule.threshold, rule.threshold - 1]).tolist() == [True, False]


def test_a_failure_ends_the_test() -> None:
    # 25 mistakes in a row: answering everything would pass again, which the fixed order no longer allows.
    right = np.ones(4000, bool)
    right[2500:2525] = False
    rule = reject_rule(-np.arange(4000.0), right, 0.01)
    assert 2000 < rule.answered < 2525
    assert upper_bound(25, 4000) < 0.01


def test_equal_confidences_are_answered_together() -> None:
    rule = reject_rule(np.r_[np.ones(400), np.zeros(100)], np.r_[np.ones(400, bool), np.zeros(100, bool)], 0.05)
    assert (rule.threshold, rule.answered, rule.mistakes) == (1.0, 400, 0)


def test_the_error_is_seldom_larger_than_allowed() -> None:
    # The population that the rows are drawn from, at even places.
    confidence = 1 - 0.5 * (np.arange(20_000) / 20_000) ** 4
    broken = answered = 0
    for seed in range(300):
        try:
            rule = reject_rule(*made_up(800, seed), 0.08)
        except InputError:
            continue
        answered += 1
        kept = confidence >= rule.threshold
        broken += bool((1 - confidence[kept] ** 2).mean() > 0.08)
    assert answered > 200
    assert broken / 300 < 0.08  # 0.05 and a little for 300 draws


def test_a_rule_travels_as_json() -> None:
    rule = reject_rule(*made_up(800, 0), 0.2)
    assert RejectRule.from_json(json.loads(json.dumps(rule.as_json()))) == rule


def test_a_curve_is_that_of_a_plain_loop() -> None:
    confidence, right = made_up(200, 1)
    found = risk_coverage(confidence, right)
    order = sorted(range(200), key=lambda row: -confidence[row])
    risks = [sum(not right[row] for row in order[:k]) / k for k in range(1, 201)]
    np.testing.assert_allclose(found.risk, risks)
    assert found.aurc == pytest.approx(np.mean(risks))
    wrong = int((~right).sum())
    ideal = [max(0, k - (200 - wrong)) / k for k in range(1, 201)]
    assert found.excess_aurc == pytest.approx(np.mean(risks) - np.mean(ideal))
    assert found.coverage[[0, -1]].tolist() == [1 / 200, 1.0]
    assert found.accuracy_at(0.95) == pytest.approx(1 - risks[189])
    assert found.accuracy_at(1.0) == pytest.approx(right.mean())


def test_a_perfect_order_has_no_excess_and_a_constant_one_no_order() -> None:
    right = np.array([True] * 8 + [False] * 2)
    assert risk_coverage(right.astype(float), right).excess_aurc == pytest.approx(0)
    constant = risk_coverage(np.zeros(10), right)
    np.testing.assert_allclose(constant.risk, 0.2)
    shuffled = risk_coverage(np.zeros(10), right[::-1])
    assert constant.aurc == shuffled.aurc


@pytest.mark.parametrize(
    ("confidence", "correct", "told"),
    [
        ([0.1, 0.2], [True], "one of each for every row"),
        ([], [], "one of each for every row"),
        ([0.1, np.nan], [True, True], "no numbers"),
        ([0.1, 0.2], [3, 1], "true or false"),
    ],
)
def test_bad_rows_are_refused(confidence: Any, correct: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        risk_coverage(confidence, correct)
    with pytest.raises(InputError, match=told):
        reject_rule(confidence, correct, 0.1)


def test_a_coverage_outside_its_range_is_refused() -> None:
    curve = risk_coverage([0.1, 0.2], [True, False])
    for coverage in (0.0, 1.5):
        with pytest.raises(InputError, match="coverage is"):
            curve.accuracy_at(coverage)
    with pytest.raises(InputError, match="max_error is 0"):
        reject_rule([0.1], [True], 0.0)
