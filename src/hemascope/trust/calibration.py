"""Logits -> probabilities that can be taken at their word, and what they are worth where classes are otherwise common.

Two parts of training distort probabilities in a known way, and both are divided out first. A loss with class weights w
and label smoothing e over K classes is least, where the true probabilities are q, at p_k ~ w_k ((1 - e) q_k + e / K):
so p is divided by w and normalised, and then e / K is subtracted and the rest scaled by 1 / (1 - e). What is left of
over- or underconfidence is one temperature (Guo et al., On Calibration of Modern Neural Networks, 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.errors import InputError
from hemascope.metrics import BINS, confidence_bins, wilson_interval
from hemascope.trust.checks import checked_labels, checked_logits, checked_prior, checked_probabilities

Floats = NDArray[np.float64]

LEAST_SMOOTHED = 1e-4
"""The probability of a class that has no more than its share of the label smoothing, which would else be 0 or below."""
LEAST = 1e-30
"""The same without label smoothing: as good as nothing, but float32 has its logarithm."""
LARGEST_TEMPERATURE = 20.0


@dataclass(frozen=True)
class Calibration:
    """What `fit_calibration` found: a formula of the logits alone.

    smoothing: the label smoothing of the training. class_weights: (classes,), those of its loss, 0 for a class without
    training rows, or None where all weighed alike. temperature: above 1 it makes probabilities less certain.
    class_prior: (classes,), the share of each class in the training rows, for which the probabilities hold; `restated`
    tells them for others.
    """

    smoothing: float
    class_weights: tuple[float, ...] | None
    temperature: float
    class_prior: tuple[float, ...]

    @property
    def inverse_weights(self) -> Floats:
        """What the softmax is multiplied by, (classes,): 1 / weight, 0 for a class without training rows."""
        if self.class_weights is None:
            return np.ones(len(self.class_prior))
        weights = np.array(self.class_weights)
        return np.asarray(np.divide(1.0, weights, out=np.zeros_like(weights), where=weights > 0))

    @property
    def least(self) -> float:
        """Where probabilities are cut from below once smoothing is taken out."""
        return LEAST_SMOOTHED if self.smoothing > 0 else LEAST

    def probabilities(self, logits: ArrayLike) -> Floats:
        """Calibrated probabilities float64 (n, classes) of logits float (n, classes), rows summing to 1.

        With s = softmax(logits) * inverse_weights it is softmax(log(max((s / sum(s) - e / K) / (1 - e), least)) / T).
        Raises InputError when the logits are of other classes or no numbers.
        """
        from scipy.special import softmax

        return np.asarray(softmax(_undistorted(logits, self) / self.temperature, axis=1))

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON file."""
        return {
            "smoothing": self.smoothing,
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "temperature": self.temperature,
            "class_prior": list(self.class_prior),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """What `as_json` gave."""
        weights = values["class_weights"]
        return cls(
            float(values["smoothing"]),
            None if weights is None else tuple(float(weight) for weight in weights),
            float(values["temperature"]),
            tuple(float(share) for share in values["class_prior"]),
        )


class Reliability(NamedTuple):
    """A reliability diagram, a row for each bin that holds pictures.

    low, high: ends of the bin, open below and closed above. rows: how many, int64 (bins,). confidence: the mean.
    accuracy: with the ends of its 95% Wilson interval, accuracy_low and accuracy_high. The others float64 (bins,).
    """

    low: Floats
    high: Floats
    rows: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    accuracy_low: Floats
    accuracy_high: Floats


def fit_calibration(
    logits: ArrayLike,
    labels: ArrayLike,
    class_prior: ArrayLike,
    *,
    smoothing: float = 0.0,
    class_weights: Sequence[float] | NDArray[Any] | None = None,
) -> Calibration:
    """The temperature with which calibration rows are most likely, once smoothing and weights are divided out.

    logits: float (n, classes). labels: int (n,). class_prior: (classes,), shares or counts of the training rows.
    smoothing, class_weights: of the training, as in `Calibration`. Clean rows and the same rows mildly corrupted are
    best given together: with clean rows alone a handful of mistakes decides the temperature.

    Raises InputError when these do not fit each other or the training could not have been as they say.
    """
    values = checked_logits(logits)
    classes = values.shape[1]
    truth = checked_labels(labels, values)
    if not len(truth):
        raise InputError("no calibration rows were given; give labelled rows that the model was not trained on.")
    if not 0 <= smoothing < 1:
        raise InputError(f"label smoothing is {smoothing:g}; give a number from 0 to below 1.")
    weights = None if class_weights is None else np.asarray(class_weights, np.float64)
    if weights is not None and (weights.shape != (classes,) or not (weights >= 0).all() or not weights.any()):
        raise InputError(
            f"class weights are {weights.tolist()}; give one of 0 or more for each of {classes} classes, not all 0."
        )
    prior = checked_prior(class_prior, classes, "class_prior")
    unscaled = Calibration(
        float(smoothing), None if weights is None else tuple(weights.tolist()), 1.0, tuple(prior.tolist())
    )
    temperature = _likeliest_temperature(_undistorted(values, unscaled), truth)
    return Calibration(unscaled.smoothing, unscaled.class_weights, temperature, unscaled.class_prior)


def _undistorted(logits: ArrayLike, calibration: Calibration) -> Floats:
    """Logarithms of the softmax with weights and smoothing divided out, not normalised: float64 (n, classes)."""
    from scipy.special import softmax

    values = checked_logits(logits)
    classes = len(calibration.class_prior)
    if values.shape[1] != classes:
        raise InputError(f"logits have {values.shape[1]} classes and the calibration {classes}; fit it on this model.")
    shares = softmax(values, axis=1) * calibration.inverse_weights
    # Where a row is certain of a class that no row trained, nothing is left of it.
    total = np.maximum(shares.sum(1, keepdims=True), LEAST)
    smoothing = calibration.smoothing
    sharpened = (shares / total - smoothing / classes) / (1 - smoothing)
    return np.asarray(np.log(np.maximum(sharpened, calibration.least)))


def _likeliest_temperature(values: Floats, labels: NDArray[np.int64]) -> float:
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    of_truth = values[np.arange(len(labels)), labels]

    def loss(sharpness: float) -> float:
        return float((logsumexp(sharpness * values, axis=1) - sharpness * of_truth).mean())

    # Convex in 1 / T, so that the minimum is the only one.
    found = minimize_scalar(loss, bounds=(1 / LARGEST_TEMPERATURE, LARGEST_TEMPERATURE), method="bounded")
    return float(1 / found.x)


def restated(probabilities: ArrayLike, prior_from: ArrayLike, prior_to: ArrayLike) -> Floats:
    """The same probabilities for another differential count: float64 (n, classes), rows summing to 1.

    probabilities: (n, classes) float, calibrated where the classes have the shares prior_from. prior_to: the shares
    elsewhere. Both (classes,), shares or counts. It holds where the cells of each class look the same and only their
    shares differ: Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a Priori
    Probabilities, 2002. Raises InputError for a class that is expected and that prior_from has none of.
    """
    values = checked_probabilities(probabilities)
    classes = values.shape[1]
    before = checked_prior(prior_from, classes, "prior_from")
    after = checked_prior(prior_to, classes, "prior_to")
    if missing := np.flatnonzero((before == 0) & (after > 0)).tolist():
        raise InputError(
            f"class {missing[0]} is expected in prior_to, but prior_from has none of it, so that its probabilities say "
            "nothing; leave it out of prior_to."
        )
    weighed = values * np.divide(after, before, out=np.zeros_like(after), where=before > 0)
    total = weighed.sum(1, keepdims=True)
    # A row that is certain of classes which do not occur any more is known by the new shares alone.
    return np.where(total > 0, weighed / np.where(total > 0, total, 1.0), after)


def precision_at(confusion: ArrayLike, prior: ArrayLike) -> Floats:
    """The expected precision (positive predictive value) of each answer where classes have other shares.

    confusion: (classes, classes), how often each true class (row) was called each class (column), as counts or as
    shares of the row. prior: (classes,), shares or counts there. Returns float64 (classes,), NaN for an answer that is
    never expected. The errors' own uncertainty is not in it: a confusion that was never seen counts as impossible.
    Raises InputError for a class that is expected and has no row in the confusion matrix.
    """
    counts = np.asarray(confusion, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not np.isfinite(counts).all() or (counts < 0).any():
        raise InputError(
            f"the confusion matrix has the shape {counts.shape}; give counts of 0 or more, (classes, classes)."
        )
    shares = checked_prior(prior, len(counts), "prior")
    support = counts.sum(1, keepdims=True)
    if missing := np.flatnonzero((support[:, 0] == 0) & (shares > 0)).tolist():
        raise InputError(
            f"class {missing[0]} is expected, but the confusion matrix has no picture of it; leave it out of the prior "
            "or score labelled pictures of it."
        )
    expected = shares[:, None] * np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    answered = expected.sum(0)
    undefined = np.full(len(counts), np.nan)
    return np.asarray(np.divide(np.diag(expected), answered, out=undefined, where=answered > 0))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Reliability:
    """How often answers of each confidence are right: the table of a reliability diagram.

    probabilities: (n, classes) float. labels: int (n,). bins: how many of equal width, those of
    `hemascope.metrics.expected_calibration_error`; empty ones are left out. Murphy and Winkler, Reliability of
    Subjective Probability Forecasts of Precipitation and Temperature, 1977.
    """
    values = checked_probabilities(probabilities)
    truth = checked_labels(labels, values)
    if bins < 1:
        raise InputError(f"{bins} bins were asked for; ask for one or more.")
    found = confidence_bins(values.max(1), values.argmax(1) == truth, bins)
    counts = zip(found.right.tolist(), found.rows.tolist(), strict=True)
    intervals = np.array([wilson_interval(right, rows) for right, rows in counts]).reshape(-1, 2)
    return Reliability(
        found.low, found.high, found.rows, found.confidence, found.accuracy, intervals[:, 0], intervals[:, 1]
    )
