"""What the parts of trust check of their inputs, told as one sentence each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.errors import InputError

Floats = NDArray[np.float64]


def checked_probabilities(probabilities: ArrayLike) -> Floats:
    """Probabilities as float64 (n, classes), n >= 0. Raises InputError unless their rows sum to 1."""
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"probabilities have the shape {values.shape}; give (n, classes).")
    if not np.isfinite(values).all() or (values < 0).any() or (np.abs(values.sum(1) - 1) > 0.005).any():
        raise InputError("some probabilities are negative or no numbers, or do not sum to 1; give one row a picture.")
    return values


def checked_logits(logits: ArrayLike) -> Floats:
    """Logits as float64 (n, classes). Raises InputError unless they are numbers."""
    values = np.asarray(logits, np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InputError(f"logits have the shape {values.shape}; give (n, classes) with two classes or more.")
    if not np.isfinite(values).all():
        raise InputError("some logits are no finite numbers; look for the pictures that gave them.")
    return values


def checked_labels(labels: ArrayLike, values: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as int64 (n,) that fit values (n, classes). Raises InputError when they do not."""
    truth = np.asarray(labels)
    if truth.shape != values.shape[:1] or truth.dtype.kind not in "iu":
        raise InputError(
            f"labels are {truth.dtype} {truth.shape} for {len(values):,} rows; give one whole number for each row."
        )
    if len(truth) and (truth.min() < 0 or truth.max() >= values.shape[1]):
        raise InputError(
            f"labels lie in {truth.min()}..{truth.max()} for {values.shape[1]} classes; count them from 0 and leave "
            "out rows without one."
        )
    return truth.astype(np.int64)


def checked_share(share: float, name: str) -> float:
    """A share strictly between 0 and 1. Raises InputError for any other."""
    if not 0 < share < 1:
        raise InputError(f"{name} is {share:g}; give a number between 0 and 1.")
    return float(share)


def checked_confidence(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Confidences as float64 (n,) and whether each answer was right as bool (n,), n >= 1; InputError otherwise."""
    order, right = np.asarray(confidence, np.float64), np.asarray(correct)
    if order.ndim != 1 or right.shape != order.shape or not len(order):
        raise InputError(f"confidences are {order.shape} and answers {right.shape}; give one of each for every row.")
    if np.isnan(order).any():
        raise InputError("some confidences are no numbers; look for the pictures that gave them.")
    if right.dtype != np.bool_ and not np.isin(right, (0, 1)).all():
        raise InputError(
            "whether an answer was right must be true or false; compare the answers with the labels first."
        )
    return order, right.astype(bool)


def checked_prior(prior: ArrayLike, classes: int, name: str) -> Floats:
    """Shares of the classes as float64 (classes,) summing to 1; counts may be given. InputError otherwise."""
    shares = np.asarray(prior, np.float64)
    if shares.shape != (classes,) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum() > 0:
        raise InputError(
            f"{name} is {shares.tolist()}; give a share or count of 0 or more for each of {classes} classes."
        )
    return np.asarray(shares / shares.sum())
