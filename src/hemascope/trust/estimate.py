"""How many answers of a batch are right: an estimate without labels, and an exact interval from a few.

What calibrated probabilities say of themselves falls with the accuracy, but less steeply once pictures are worse than
those that calibrated them. A line from mean confidence to accuracy, fitted over many degradations of calibration rows,
takes that into account; it rises, and other than a step function it goes on where a batch is worse than all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.draws import permutation
from hemascope.errors import InputError
from hemascope.metrics import clopper_pearson_interval, wilson_interval
from hemascope.trust.checks import checked_labels, checked_probabilities, checked_share

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
LARGEST_SPREAD = 20.0


class MeasuredBatch(NamedTuple):
    """A labelled batch that was degraded on purpose: mean confidence, accuracy, rows, and the families it suffered."""

    confidence: float
    accuracy: float
    rows: int
    families: frozenset[str]


class Estimate(NamedTuple):
    """What `AccuracyEstimate.estimate` gives: the accuracy of so many rows, and its 95% interval.

    extrapolated: whether the batch is worse than any that was fitted on.
    """

    accuracy: float
    low: float
    high: float
    rows: int
    extrapolated: bool


class SpotCheck(NamedTuple):
    """An accuracy from a random sample: right of labelled, out of a population (None: endless), and its interval."""

    right: int
    labelled: int
    population: int | None
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class AccuracyEstimate:
    """What `fit_estimate` found: accuracy = intercept + slope * mean confidence.

    spread: how far the line goes wrong, as a share of the error that it estimates. lowest_confidence: of the worst
    batch fitted on. batches: how many there were.
    """

    intercept: float
    slope: float
    spread: float
    lowest_confidence: float
    batches: int

    def estimate(self, probabilities: ArrayLike) -> Estimate:
        """The accuracy of a batch, if it is one of degraded pictures from the laboratory that the model learnt from.

        probabilities: (n, classes) float, calibrated. The interval holds the sampling of n rows and what the line gets
        wrong for families of degradation that it was not fitted on, as far as those are like the fitted ones: where the
        network is surer of itself than under any of them, the truth lies below. It says nothing of other stains, cell
        types that the model does not know, or wrong labels; a `spot_check` does. Raises InputError without rows.
        """
        values = checked_probabilities(probabilities)
        if not len(values):
            raise InputError("no pictures were given; an accuracy can be estimated from one or more.")
        confidence = float(values.max(1).mean())
        accuracy, rows = _on_line(self.intercept, self.slope, confidence), len(values)
        low, high = _interval(accuracy, rows, self.spread)
        return Estimate(accuracy, low, high, rows, confidence < self.lowest_confidence)

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AccuracyEstimate:
        """What `as_json` gave."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


def measured_batch(probabilities: ArrayLike, labels: ArrayLike, families: Collection[str] = ()) -> MeasuredBatch:
    """A batch for `fit_estimate`: calibrated probabilities (n, classes), labels int (n,), and what degraded it."""
    values = checked_probabilities(probabilities)
    truth = checked_labels(labels, values)
    if not len(truth):
        raise InputError("a batch has no pictures; give one or more.")
    right = float((values.argmax(1) == truth).mean())
    return MeasuredBatch(float(values.max(1).mean()), right, len(truth), frozenset(families))


def fit_estimate(batches: Sequence[MeasuredBatch]) -> AccuracyEstimate:
    """The line from mean confidence to accuracy, and how far it goes wrong.

    batches: clean calibration rows, and the same under many degradations. The line is that of least squares, a batch
    weighing as much as it has rows. For the spread each batch is estimated from those that share no family with it,
    and it is the least with which 95% of them lie in their intervals: batches degraded in a way that was not fitted.
    Of what else was tried none is nearer over all batches (bench/trust_calibration.py): mean confidence alone, average
    thresholded confidence (Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance, 2022),
    difference of confidences (Guillory et al., Predicting with Confidence on Unseen Distributions, 2021), isotonic
    regression.

    Raises InputError when the batches are too few or too alike for a line, or accuracy does not rise with confidence.
    """
    confidences, accuracies, rows = (np.array([batch[place] for batch in batches], np.float64) for place in range(3))
    if len(batches) < 3 or np.ptp(confidences) < 1e-6:
        raise InputError(
            f"{len(batches)} batches of mean confidences that hardly differ make no line; give clean pictures and the "
            "same under several degradations."
        )
    intercept, slope = _line(confidences, accuracies, rows)
    if slope <= 0:
        raise InputError(
            "accuracy does not rise with mean confidence over these batches, so that confidence says nothing of it; "
            "train on more cells, or for longer."
        )
    unseen = []
    for place, batch in enumerate(batches):
        others = [other for other, one in enumerate(batches) if other != place and not one.families & batch.families]
        if len(others) >= 3 and np.ptp(confidences[others]) >= 1e-6:
            line = _line(confidences[others], accuracies[others], rows[others])
            unseen.append((_on_line(*line, batch.confidence), batch.accuracy, batch.rows))
    return AccuracyEstimate(intercept, slope, _least_spread(unseen), float(confidences.min()), len(batches))


def _line(confidences: Floats, accuracies: Floats, rows: Floats) -> tuple[float, float]:
    root = np.sqrt(rows)
    design = np.stack([root, root * confidences], axis=1)
    intercept, slope = np.linalg.lstsq(design, root * accuracies, rcond=None)[0]
    return float(intercept), float(slope)


def _on_line(intercept: float, slope: float, confidence: float) -> float:
    return min(1.0, max(0.0, intercept + slope * confidence))


def _interval(accuracy: float, rows: int, spread: float) -> tuple[float, float]:
    """The sampling error, as Wilson has it, and that of the line, added as independent errors are."""
    below, above = wilson_interval(round(accuracy * rows), rows, CONFIDENCE)
    off = spread * (1 - accuracy)
    return (
        max(0.0, accuracy - float(np.hypot(max(0.0, accuracy - below), off))),
        min(1.0, accuracy + float(np.hypot(max(0.0, above - accuracy), off))),
    )


def _least_spread(unseen: Sequence[tuple[float, float, int]]) -> float:
    """The least spread with which the share CONFIDENCE of batches lies in its intervals; (estimate, accuracy, rows)."""

    def enough(spread: float) -> bool:
        held = 0
        for estimate, accuracy, rows in unseen:
            low, high = _interval(estimate, rows, spread)
            held += low <= accuracy <= high
        return held >= CONFIDENCE * len(unseen)

    if not unseen or enough(0.0):
        return 0.0
    low, high = 0.0, LARGEST_SPREAD
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def draw_spot_check(ids: ArrayLike, count: int, seed: int) -> NDArray[np.str_]:
    """Which pictures to label for a `spot_check`: str (count,), drawn without replacement.

    ids: str (n,), unique. The draw depends on the ids and the seed, not on the order of the ids, and the first k of it
    are a random sample too. Raises InputError when the ids are not unique or fewer than asked for.
    """
    names = np.asarray(ids).astype(np.str_).reshape(-1)
    ordered = np.unique(names)
    if len(ordered) < len(names):
        raise InputError(
            f"{len(names) - len(ordered):,} of {len(names):,} ids occur before; give each picture one of its own."
        )
    if not 1 <= count <= len(names):
        raise InputError(
            f"a sample of {count:,} was asked for from {len(names):,} pictures; ask for 1 to {len(names):,}."
        )
    return ordered[permutation(seed, 0, len(ordered))[:count]]


def spot_check(right: int, labelled: int, population: int | None = None, confidence: float = CONFIDENCE) -> SpotCheck:
    """An exact interval of an accuracy, from a random sample of which so many answers were right.

    population: how many pictures the sample was drawn from, itself included. With it the interval is that of the
    accuracy on just these (hypergeometric: Buonaccorsi, A Note on Confidence Intervals for Proportions in Finite
    Populations, 1987), which is narrower, and a point once all are labelled; without, that of all such pictures
    (Clopper and Pearson, The Use of Confidence or Fiducial Limits, 1934). Both hold whatever the pictures are, as long
    as the sample was drawn at random, as `draw_spot_check` does.

    Raises InputError when the numbers do not fit each other.
    """
    if labelled < 1 or not 0 <= right <= labelled or (population is not None and population < labelled):
        told = "" if population is None else f", drawn from {population:,},"
        raise InputError(
            f"{right:,} right answers of {labelled:,}{told} were given; give a sample of one or more, of which at most "
            "all are right, from at least as many pictures."
        )
    checked_share(confidence, "confidence")
    if population is not None:
        low, high = _finite(right, labelled, population, (1 - confidence) / 2)
    else:
        low, high = clopper_pearson_interval(right, labelled, confidence)
    return SpotCheck(right, labelled, population, right / labelled, low, high)


def _finite(right: int, labelled: int, population: int, tail: float) -> tuple[float, float]:
    """The shares of right answers in a population that leave more than `tail` on either side of what was found."""
    from scipy.stats import hypergeom

    least, most = right, population - (labelled - right)
    low, above = least, most
    while low < above:  # the fewest with which so many right answers, or more, are not too unlikely
        middle = (low + above) // 2
        likely = hypergeom.sf(right - 1, population, middle, labelled) > tail
        low, above = (low, middle) if likely else (middle + 1, above)
    below, high = least, most
    while below < high:  # the most with which so few are not
        middle = (below + high + 1) // 2
        likely = hypergeom.cdf(right, population, middle, labelled) > tail
        below, high = (middle, high) if likely else (below, middle - 1)
    return low / population, high / population
