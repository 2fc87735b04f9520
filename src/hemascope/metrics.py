"""How good probabilities are: pure functions on arrays.

Most take `probabilities`, (n, classes) float with a row for each picture, and `labels`, (n,) int in 0..classes-1; what
a row is called is its most probable class. They raise ValueError when the two do not fit. What is undefined, such as
the recall of a class that does not occur, is NaN.

Counting (`confusion_matrix`) stands apart from computing (`per_class`, `macro_mean`), and both work on a stack of
resampled counts at once, so that `bootstrap_interval` needs no loop over its draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 15
SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Where a logarithm stops: what float32 can tell from certainty, whatever type the probabilities came in."""
VALUES_AT_ONCE = 500_000
FEWEST_DRAWS_AT_ONCE = 16


class PerClass(NamedTuple):
    """What `per_class` gives: float64 (..., classes) for the first three, int64 (..., classes) for support."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Counts


@dataclass(frozen=True)
class ConfusedPair:
    """How often a true class was called another: positions of both, the count, and its share of the true class."""

    true: int
    predicted: int
    count: int
    share: float


class McNemar(NamedTuple):
    """What `mcnemar` gives: on how many rows each of two classifiers was right, and the p-value."""

    only_a: int
    only_b: int
    both: int
    neither: int
    p: float


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Counts]:
    """Both as arrays that fit each other; float64 holds every float32 exactly, so that ties stay ties."""
    values, truth = np.asarray(probabilities), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1]:
        raise ValueError(f"expected probabilities (n, classes) and labels (n,), got {values.shape} and {truth.shape}")
    if not values.size:
        raise ValueError(f"expected at least one row and one class, got probabilities of shape {values.shape}")
    if truth.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers as labels, got {truth.dtype}")
    if truth.min() < 0 or truth.max() >= values.shape[1]:
        raise ValueError(f"expected labels in 0..{values.shape[1] - 1}, got {truth.min()}..{truth.max()}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("probabilities hold NaN or infinity")
    return values, truth.astype(np.int64)


def _checked_sums(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Counts]:
    """For what reads a probability as a share, and not only as an order; half precision sums to 1 within 0.005."""
    values, truth = _checked(probabilities, labels)
    if values.min() < 0 or np.abs(values.sum(1) - 1).max() > 0.005:
        raise ValueError("expected probabilities of at least 0 whose rows sum to 1")
    return values, truth


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio


def confusion_matrix(probabilities: ArrayLike, labels: ArrayLike, weights: Counts | None = None) -> Counts:
    """How often each class (row) was called each class (column).

    weights: int (draws, n), how often each row counts in each draw. Returns int64 (classes, classes), or
    (draws, classes, classes) with weights.
    """
    values, truth = _checked(probabilities, labels)
    classes = values.shape[1]
    place = truth * classes + values.argmax(1)
    if weights is None:
        return np.bincount(place, minlength=classes**2).reshape(classes, classes)
    order = np.argsort(place, kind="stable")
    filled, starts = np.unique(place[order], return_index=True)
    counts = np.zeros((len(weights), classes**2), np.int64)
    counts[:, filled] = np.add.reduceat(weights.take(order, axis=1), starts, axis=1)
    return counts.reshape(-1, classes, classes)


def per_class(confusion: Counts) -> PerClass:
    """Precision, recall, F1 and support of each class, from int (..., classes, classes) with true classes as rows.

    Recall is NaN for a class that does not occur, precision for one that is never predicted, F1 when both hold.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return PerClass(_ratio(right, predicted), _ratio(right, support), _ratio(2 * right, support + predicted), support)


def macro_mean(values: Floats) -> Floats:
    """Mean over the last axis of what is defined there, each class counting alike: (..., classes) -> (...)."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1))


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Share of rows called what they are, in [0, 1]."""
    values, truth = _checked(probabilities, labels)
    return float((values.argmax(1) == truth).mean())


def balanced_accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean recall of the classes that occur, in [0, 1].

    Brodersen et al., The Balanced Accuracy and Its Posterior Distribution, 2010.
    """
    return float(macro_mean(per_class(confusion_matrix(probabilities, labels)).recall))


def macro_f1(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean F1 of the classes that occur or are predicted, in [0, 1]."""
    return float(macro_mean(per_class(confusion_matrix(probabilities, labels)).f1))


def one_vs_rest_auc(probabilities: ArrayLike, labels: ArrayLike, weights: Counts | None = None) -> Floats:
    """Area under the ROC curve of each class against all others; `macro_mean` of it is the macro AUC.

    It is how often a picture of the class has the higher score of two, equal scores counting half: Hanley and McNeil,
    The Meaning and Use of the Area under a ROC Curve, 1982. weights: int (draws, n), how often each row counts in
    each draw. Returns float64 (classes,), or (draws, classes) with weights; NaN where a class or its rest is absent.
    """
    scores, truth = _checked(probabilities, labels)
    counts = np.ones((1, len(truth)), np.int64) if weights is None else weights
    areas = np.empty((len(counts), scores.shape[1]))
    for label in range(scores.shape[1]):
        members = np.flatnonzero(truth == label)
        others = np.flatnonzero(truth != label)
        others = others[np.argsort(scores[others, label])]
        below = np.zeros((len(counts), len(others) + 1), np.int64)
        np.cumsum(counts.take(others, axis=1), axis=1, out=below[:, 1:])
        first = np.searchsorted(scores[others, label], scores[members, label], "left")
        end = np.searchsorted(scores[others, label], scores[members, label], "right")
        times = counts.take(members, axis=1)
        wins = (times * (below.take(first, axis=1) + below.take(end, axis=1))).sum(1) / 2
        areas[:, label] = _ratio(wins, times.sum(1) * below[:, -1])
    return areas[0] if weights is None else areas


def most_confused_pairs(confusion: Counts, most: int = 5) -> list[ConfusedPair]:
    """The mistakes made most often, by count and then by share of the true class; at most `most`, none of count 0."""
    support = confusion.sum(1)
    pairs = [
        ConfusedPair(int(true), int(predicted), count, count / int(support[true]))
        for true, predicted in np.argwhere(confusion > 0)
        if true != predicted and (count := int(confusion[true, predicted]))
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:most]


@dataclass(frozen=True)
class ConfidenceBins:
    """Answers by their confidence; bins without answers are left out.

    low, high: the ends of each bin, open below and closed above. rows, right: how many answers it holds, and how many
    of them are right: int64 (bins,). confidence: the mean in each, float64 (bins,).
    """

    low: Floats
    high: Floats
    rows: Counts
    right: Counts
    confidence: Floats

    @property
    def accuracy(self) -> Floats:
        return np.asarray(self.right / self.rows)

    @property
    def error(self) -> float:
        """The mean gap between confidence and accuracy, weighted by bin size; 0 without answers."""
        gaps = np.abs(self.confidence - self.accuracy) * self.rows
        return float(gaps.sum() / max(int(self.rows.sum()), 1))


def confidence_bins(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> ConfidenceBins:
    """Answers in `bins` parts of equal width by how sure they were.

    confidence: float (n,) in [0, 1]. right: bool (n,), whether each answer was.
    """
    sure, hits = np.asarray(confidence, np.float64), np.asarray(right, bool)
    ends = np.linspace(0, 1, bins + 1)
    place = np.digitize(sure, ends[1:-1], right=True)
    rows = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(rows)
    return ConfidenceBins(
        ends[filled],
        ends[filled + 1],
        rows[filled],
        np.bincount(place[hits], minlength=bins)[filled],
        np.bincount(place, sure, bins)[filled] / rows[filled],
    )


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy, weighted by bin size.

    probabilities: (n, classes) float, rows summing to 1. labels: (n,) int. bins: how many of equal width, each open
    below and closed above. Returns a float in [0, 1]. Raises ValueError when the shapes disagree or rows do not sum
    to 1. Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    values, truth = _checked_sums(probabilities, labels)
    return confidence_bins(values.max(1), values.argmax(1) == truth, bins).error


def adaptive_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over bins that hold equally many rows, as nearly as can be.

    Where nearly all confidences are high, bins of equal width leave all rows in one of them. Rows of the same
    confidence count alike wherever a bin ends, so that their order does not matter. The rest is as in
    `expected_calibration_error`. Nguyen and O'Connor, Posterior Calibration and Exploratory Analysis for Natural
    Language Processing Models, 2015.
    """
    values, truth = _checked_sums(probabilities, labels)
    confidence = values.max(1)
    _, tied = np.unique(confidence, return_inverse=True)
    tied = tied.reshape(-1)
    right = (np.bincount(tied, values.argmax(1) == truth) / np.bincount(tied))[tied]
    gaps = (confidence - right)[np.argsort(confidence, kind="stable")]
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, bins)) / len(truth))


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance between the probabilities and the truth, summed over the classes, in [0, 2].

    Raises ValueError when the shapes disagree or rows do not sum to 1. Brier, Verification of Forecasts Expressed in
    Terms of Probability, 1950.
    """
    values, truth = _checked_sums(probabilities, labels)
    return float(((values - np.eye(values.shape[1])[truth]) ** 2).sum(1).mean())


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean of -log of the probability of the true class, in nats; probabilities count as at least 1.2e-7.

    Raises ValueError when the shapes disagree or rows do not sum to 1.
    """
    values, truth = _checked_sums(probabilities, labels)
    of_truth = values[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1.0)).mean())


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a proportion, sound for few rows and near 0 and 1; (0, 1) when there are no rows.

    Raises ValueError unless 0 <= successes <= total. Wilson, Probable Inference, the Law of Succession, and
    Statistical Inference, 1927.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"expected successes in 0..{total}, got {successes}")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = successes / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # Where none or all succeed, one end is 0 or 1 but for rounding.
    return (max(middle - half, 0.0) if successes else 0.0), (min(middle + half, 1.0) if successes < total else 1.0)


def clopper_pearson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion, which holds the truth at least so often; (0, 1) when there are no rows.

    Raises ValueError unless 0 <= successes <= total. Clopper and Pearson, The Use of Confidence or Fiducial Limits
    Illustrated in the Case of the Binomial, 1934.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= total:
        raise ValueError(f"expected successes in 0..{total}, got {successes}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, total - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, total - successes, 1 - tail)) if successes < total else 1.0
    return low, high


def bootstrap_interval(
    statistic: Callable[[Counts], Floats],
    groups: ArrayLike,
    seed: int = 0,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Floats:
    """Percentile interval of a statistic when whole groups of rows are drawn anew with replacement.

    statistic: takes int64 (some draws, n), how often each row counts in each draw, and gives float (some draws,) or
    (some draws, m). groups: (n,), equal for rows that stay together, such as copies of one picture or the pictures of
    one patient: as many groups are drawn as there are. Returns float64 (2,) or (2, m), low and high, NaN where the
    statistic is never defined; draws in which it is not are left out. A statistic at its bound, such as an accuracy
    of 1, cannot vary, and its interval has no width. Efron, Bootstrap Methods: Another Look at the Jackknife, 1979;
    Field and Welsh, Bootstrapping Clustered Data, 2007.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    group = group.reshape(-1)
    if not len(group) or draws < 1:
        raise ValueError(f"expected at least one row and one draw, got {len(group)} and {draws}")
    count = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    block = max(FEWEST_DRAWS_AT_ONCE, VALUES_AT_ONCE // len(group))
    parts = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.reshape(-1), minlength=size * count).reshape(size, count)
        parts.append(np.asarray(statistic(times.take(group, axis=1)), np.float64))
    values = np.concatenate(parts)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    columns = [column[~np.isnan(column)] for column in values.reshape(draws, -1).T]
    found = [np.quantile(column, ends) if len(column) else np.full(2, np.nan) for column in columns]
    return np.stack(found, axis=1).reshape(2, *values.shape[1:])


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> McNemar:
    """Whether two classifiers differ beyond chance on the same rows: the exact two-sided binomial test.

    correct_a, correct_b: (n,) bool, whether each was right. Only rows on which one of them was right say anything.
    Raises ValueError when the shapes disagree. McNemar, Note on the Sampling Error of the Difference between
    Correlated Proportions or Percentages, 1947.
    """
    from scipy.special import bdtr

    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"expected two arrays of the same length, got shapes {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    return McNemar(only_a, only_b, int((a & b).sum()), int((~a & ~b).sum()), p)
