"""Each metric against an independent reference: scikit-learn, SciPy, a plain loop, or numbers worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from numpy.typing import NDArray
from scipy import stats

from hemascope import metrics

CLASSES = 8


def made_up(
    rows: int = 400, classes: int = CLASSES, seed: int = 0, decimals: int | None = None, absent: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities that are often right, and labels of uneven classes; rounded to few decimals they hold many ties."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.3, 1.0, classes)
    if absent is not None:
        share[absent] = 0
    labels = rng.choice(classes, rows, p=share / share.sum())
    logits = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if decimals is not None:
        probabilities = probabilities.round(decimals)
        probabilities += (1 - probabilities.sum(1, keepdims=True)) / classes
    return probabilities.astype(np.float32), labels


def certain(predicted: list[int], classes: int) -> NDArray[np.float64]:
    return np.eye(classes)[predicted]


def test_confusion_matrix_has_true_classes_as_rows() -> None:
    confusion = metrics.confusion_matrix(certain([0, 1, 1, 2], 3), [0, 0, 1, 1])
    assert confusion.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("absent", [None, 3])
def test_counted_metrics_are_those_of_scikit_learn(absent: int | None) -> None:
    probabilities, labels = made_up(absent=absent)
    predicted = probabilities.argmax(1)
    if absent is not None:
        probabilities[:, absent] = 0  # neither true nor predicted: scikit-learn leaves such a class out as well
        predicted = probabilities.argmax(1)
    confusion = metrics.confusion_matrix(probabilities, labels)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, predicted, labels=range(CLASSES)))
    assert metrics.accuracy(probabilities, labels) == pytest.approx(reference.accuracy_score(labels, predicted))
    balanced = reference.balanced_accuracy_score(labels, predicted)
    assert metrics.balanced_accuracy(probabilities, labels) == pytest.approx(balanced)
    f1 = reference.f1_score(labels, predicted, average="macro")
    assert metrics.macro_f1(probabilities, labels) == pytest.approx(f1)
    expected = reference.precision_recall_fscore_support(labels, predicted, labels=range(CLASSES), zero_division=np.nan)
    for ours, theirs in zip(metrics.per_class(confusion), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_a_class_that_is_never_predicted_or_never_occurs() -> None:
    table = metrics.per_class(metrics.confusion_matrix(certain([0, 0, 0, 2], 4), [0, 0, 1, 1]))
    np.testing.assert_array_equal(table.precision, [2 / 3, np.nan, 0, np.nan])
    np.testing.assert_array_equal(table.recall, [1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(table.f1, [0.8, 0, 0, np.nan])
    assert table.support.tolist() == [2, 2, 0, 0]
    assert metrics.macro_mean(table.recall) == 0.5
    assert metrics.macro_mean(table.f1) == pytest.approx(0.8 / 3)


def test_one_class_for_all_has_the_balanced_accuracy_of_chance() -> None:
    labels = np.repeat(np.arange(CLASSES), np.arange(1, CLASSES + 1))
    constant = np.tile(np.linspace(0.05, 0.2, CLASSES), (len(labels), 1))
    assert metrics.balanced_accuracy(constant, labels) == 0.125
    np.testing.assert_array_equal(metrics.one_vs_rest_auc(constant, labels), np.full(CLASSES, 0.5))


@pytest.mark.parametrize("decimals", [None, 1], ids=["no ties", "many ties"])
def test_one_vs_rest_auc_is_that_of_scikit_learn(decimals: int | None) -> None:
    probabilities, labels = made_up(decimals=decimals)
    areas = metrics.one_vs_rest_auc(probabilities, labels)
    expected = [reference.roc_auc_score(labels == c, probabilities[:, c]) for c in range(CLASSES)]
    np.testing.assert_allclose(areas, expected, rtol=1e-12)
    if decimals is None:
        macro = reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        assert metrics.macro_mean(areas) == pytest.approx(macro)


def test_auc_is_undefined_without_the_class_or_without_its_rest() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]])
    areas = metrics.one_vs_rest_auc(probabilities, [0, 1, 1])
    np.testing.assert_array_equal(areas, [1, 1, np.nan])
    assert metrics.macro_mean(areas) == 1
    assert np.isnan(metrics.one_vs_rest_auc(probabilities, [1, 1, 1])).all()
    assert np.isnan(metrics.macro_mean(metrics.one_vs_rest_auc(probabilities, [1, 1, 1])))


def test_weighted_counts_are_those_of_the_repeated_rows() -> None:
    probabilities, labels = made_up(120, decimals=1)
    weights = np.random.default_rng(1).integers(0, 4, (5, 120))
    confusions = metrics.confusion_matrix(probabilities, labels, weights)
    areas = metrics.one_vs_rest_auc(probabilities, labels, weights)
    tables = metrics.per_class(confusions)
    for draw, times in enumerate(weights):
        rows = np.repeat(np.arange(120), times)
        expected = metrics.confusion_matrix(probabilities[rows], labels[rows])
        np.testing.assert_array_equal(confusions[draw], expected)
        np.testing.assert_allclose(tables.f1[draw], metrics.per_class(expected).f1)
        np.testing.assert_allclose(areas[draw], metrics.one_vs_rest_auc(probabilities[rows], labels[rows]))


def test_most_confused_pairs_go_by_count_then_by_share() -> None:
    confusion = np.array([[90, 5, 0], [2, 10, 5], [0, 1, 40]])
    pairs = metrics.most_confused_pairs(confusion)
    assert [(pair.true, pair.predicted, pair.count) for pair in pairs] == [(1, 2, 5), (0, 1, 5), (1, 0, 2), (2, 1, 1)]
    assert pairs[0].share == pytest.approx(5 / 17)
    assert metrics.most_confused_pairs(confusion, most=2) == pairs[:2]
    assert metrics.most_confused_pairs(np.diag([3, 4])) == []


def calibration_error_by_loop(probabilities: NDArray[Any], labels: NDArray[Any], bins: int) -> float:
    """Straight from the definition, one bin (low, high] at a time."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_expected_calibration_error_is_its_definition(bins: int) -> None:
    probabilities, labels = made_up()
    expected = calibration_error_by_loop(probabilities.astype(np.float64), labels, bins)
    assert metrics.expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("bins", "decimals"), [(1, None), (7, None), (15, None), (15, 1), (500, None)])
def test_adaptive_calibration_error_is_its_definition(bins: int, decimals: int | None) -> None:
    probabilities, labels = made_up()
    values = probabilities.astype(np.float64)
    if decimals is not None:  # few different confidences, so that many rows are tied
        top = values.max(1, keepdims=True).round(decimals).clip(0.2)
        values = np.where(values == values.max(1, keepdims=True), top, (1 - top) / (CLASSES - 1))
    confidence, right = values.max(1), (values.argmax(1) == labels).astype(float)
    for level in set(confidence.tolist()):
        tied = confidence == level
        right[tied] = right[tied].mean()
    order, total = sorted(range(len(labels)), key=lambda row: confidence[row]), 0.0
    for part in np.array_split(order, bins):
        total += abs(sum(confidence[row] - right[row] for row in part)) / len(labels)
    found = metrics.adaptive_calibration_error(values, labels, bins)
    assert found == pytest.approx(total, abs=1e-9)
    turned = metrics.adaptive_calibration_error(values[::-1], labels[::-1], bins)
    assert turned == pytest.approx(found, abs=1e-12)


def test_adaptive_calibration_error_by_hand() -> None:
    # Two bins of two rows: sure by 0.9 and 0.8, right once; sure by 0.7 and 0.6, both right.
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    found = metrics.adaptive_calibration_error(probabilities, [0, 0, 0, 1], bins=2)
    assert found == pytest.approx((abs(1.7 - 1) + abs(1.3 - 2)) / 4)


def test_calibration_worked_by_hand() -> None:
    # Sure by 0.9 and right once of twice; sure by 0.6 and right: gaps 0.4 and 0.4, in bins of two rows and one.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    labels = np.array([0, 1, 1])
    assert metrics.expected_calibration_error(probabilities, labels) == pytest.approx(0.4)
    assert metrics.brier(probabilities, labels) == pytest.approx((2 * 0.01 + 2 * 0.81 + 2 * 0.16) / 3)
    expected = -(math.log(0.9) + math.log(0.1) + math.log(0.6)) / 3
    assert metrics.negative_log_likelihood(probabilities, labels) == pytest.approx(expected)
    # A confidence on an edge belongs to the bin below it: right by 0.5 and wrong by 0.6 are in two bins of two.
    on_edge = np.array([[0.5, 0.5], [0.6, 0.4]])
    assert metrics.expected_calibration_error(on_edge, [0, 1], bins=2) == pytest.approx((0.5 + 0.6) / 2)
    sure = certain([0, 1], 2)
    assert metrics.expected_calibration_error(sure, [0, 1]) == metrics.brier(sure, [0, 1]) == 0
    assert metrics.brier(sure, [1, 0]) == 2
    assert metrics.negative_log_likelihood(sure, [1, 0]) == pytest.approx(-math.log(metrics.SMALLEST_PROBABILITY))


def test_calibration_metrics_are_those_of_scikit_learn() -> None:
    probabilities, labels = made_up()
    in_double = probabilities.astype(np.float64)
    in_double /= in_double.sum(1, keepdims=True)
    expected = reference.log_loss(labels, in_double, labels=range(CLASSES))
    assert metrics.negative_log_likelihood(probabilities, labels) == pytest.approx(expected, rel=1e-6)
    two = in_double[:, :1] / in_double[:, :2].sum(1, keepdims=True)
    is_second = (labels == 1).astype(np.int64)
    # For two classes the sum over the classes counts the one gap twice.
    expected = 2 * reference.brier_score_loss(is_second, 1 - two[:, 0])
    assert metrics.brier(np.hstack([two, 1 - two]), is_second) == pytest.approx(expected)


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (10, 10), (1, 10), (1666, 1712), (3, 7), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_interval_is_that_of_scipy(successes: int, total: int, confidence: float) -> None:
    expected = stats.binomtest(successes, total).proportion_ci(confidence, method="wilson")
    found = metrics.wilson_interval(successes, total, confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found[0] <= successes / total <= found[1] <= 1


def test_wilson_interval_of_nothing_is_everything() -> None:
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"successes in 0\.\.3, got 4"):
        metrics.wilson_interval(4, 3)


def weighted_mean(values: NDArray[Any]) -> Any:
    return lambda weights: (weights * values).sum(1) / weights.sum(1)


def test_bootstrap_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=300)
    found = metrics.bootstrap_interval(weighted_mean(values), np.arange(300), draws=4000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(4)
    ).confidence_interval
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=0.015)


def test_bootstrap_of_a_proportion_is_the_binomial() -> None:
    values = np.repeat([1.0, 0.0], [950, 50])
    low, high = metrics.bootstrap_interval(weighted_mean(values), np.arange(1000), draws=4000)
    expected = stats.binom(1000, 0.95).ppf([0.025, 0.975]) / 1000
    np.testing.assert_allclose([low, high], expected, atol=0.0021)


def test_bootstrap_keeps_groups_together() -> None:
    """Rows that stand four times each say no more than once each, and mixing their order changes nothing."""
    values = np.random.default_rng(5).normal(size=50)
    once = metrics.bootstrap_interval(weighted_mean(values), np.arange(50))
    copied = metrics.bootstrap_interval(weighted_mean(np.repeat(values, 4)), np.repeat(np.arange(50), 4))
    np.testing.assert_allclose(copied, once)
    alone = metrics.bootstrap_interval(weighted_mean(np.repeat(values, 4)), np.arange(200))
    assert np.ptp(alone) == pytest.approx(np.ptp(once) / 2, rel=0.15)
    order = np.random.default_rng(6).permutation(200)
    names = np.array([f"picture {number:02d}" for number in np.repeat(np.arange(50), 4)])
    mixed = metrics.bootstrap_interval(weighted_mean(np.repeat(values, 4)[order]), names[order])
    np.testing.assert_allclose(mixed, once)


def test_bootstrap_is_decided_by_the_seed_and_takes_several_statistics_at_once() -> None:
    probabilities, labels = made_up()

    def both(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        confusion = metrics.confusion_matrix(probabilities, labels, weights)
        areas = metrics.one_vs_rest_auc(probabilities, labels, weights)
        return np.stack([metrics.macro_mean(metrics.per_class(confusion).recall), metrics.macro_mean(areas)], axis=1)

    found = metrics.bootstrap_interval(both, np.arange(400), seed=1)
    np.testing.assert_array_equal(found, metrics.bootstrap_interval(both, np.arange(400), seed=1))
    assert (found != metrics.bootstrap_interval(both, np.arange(400), seed=2)).any()
    assert found.shape == (2, 2)
    assert found[0, 0] < metrics.balanced_accuracy(probabilities, labels) < found[1, 0]
    assert found[0, 1] < metrics.macro_mean(metrics.one_vs_rest_auc(probabilities, labels)) < found[1, 1]


def test_bootstrap_does_not_depend_on_how_many_draws_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(7).normal(size=40)
    expected = metrics.bootstrap_interval(weighted_mean(values), np.arange(40), draws=100)
    monkeypatch.setattr(metrics, "VALUES_AT_ONCE", 1)
    np.testing.assert_array_equal(metrics.bootstrap_interval(weighted_mean(values), np.arange(40), draws=100), expected)


def test_bootstrap_leaves_out_draws_without_a_value() -> None:
    # A draw of these three rows lacks the second class in (2/3)^3 of all cases, and then has no AUC.
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])

    def area(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return metrics.one_vs_rest_auc(probabilities, np.array([0, 1, 0]), weights)[:, 0]

    np.testing.assert_array_equal(metrics.bootstrap_interval(area, np.arange(3)), [1, 1])
    assert np.isnan(metrics.bootstrap_interval(lambda weights: np.full(len(weights), np.nan), np.arange(3))).all()


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 5), (1, 9), (40, 23), (300, 200), (6, 0)])
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    a = np.repeat([True, False, True, False], [only_a, only_b, 7, 2])
    b = np.repeat([False, True, True, False], [only_a, only_b, 7, 2])
    found = metrics.mcnemar(a, b)
    assert found[:4] == (only_a, only_b, 7, 2)
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert found.p == pytest.approx(expected)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((3, 2)) / 2, [0, 1], r"got \(3, 2\) and \(2,\)"),
        (np.ones(3), [0, 1, 1], r"got \(3,\) and \(3,\)"),
        (np.ones((2, 2)) / 2, [0, 2], r"labels in 0\.\.1, got 0\.\.2"),
        (np.ones((2, 2)) / 2, [-1, 0], r"labels in 0\.\.1, got -1\.\.0"),
        (np.ones((2, 2)) / 2, [0.0, 1.0], "whole numbers"),
        (np.array([[0.5, np.nan]]), [0], "NaN"),
        (np.zeros((0, 2)), np.zeros(0, np.int64), "at least one row"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: NDArray[Any], labels: Any, message: str) -> None:
    for metric in (metrics.accuracy, metrics.macro_f1, metrics.one_vs_rest_auc, metrics.brier):
        with pytest.raises(ValueError, match=message):
            metric(probabilities, labels)


def test_scores_that_are_no_probabilities_are_refused_where_it_matters() -> None:
    logits = np.array([[2.0, -1.0], [0.5, 3.0]])
    assert metrics.accuracy(logits, [0, 1]) == 1
    errors = (metrics.expected_calibration_error, metrics.adaptive_calibration_error)
    for metric in (*errors, metrics.brier, metrics.negative_log_likelihood):
        with pytest.raises(ValueError, match="sum to 1"):
            metric(logits, [0, 1])
    with pytest.raises(ValueError, match="same length"):
        metrics.mcnemar([True], [True, False])


@pytest.mark.parametrize(("successes", "total"), [(0, 60), (1, 60), (57, 60), (60, 60), (3, 7)])
def test_clopper_pearson_is_the_exact_interval_of_scipy(successes: int, total: int) -> None:
    reference = stats.binomtest(successes, total).proportion_ci(0.95, method="exact")
    assert metrics.clopper_pearson_interval(successes, total) == pytest.approx((reference.low, reference.high))


def test_clopper_pearson_without_rows_says_nothing() -> None:
    assert metrics.clopper_pearson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        metrics.clopper_pearson_interval(5, 4)
