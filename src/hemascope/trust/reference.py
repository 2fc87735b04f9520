"""What training looked like, class by class, in a few kilobytes that travel with a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.data.cells import Pictures
from hemascope.errors import InputError
from hemascope.trust.appearance import APPEARANCE, appearance

Floats = NDArray[np.float64]

DISTANCE = "embedding_distance"
MIDDLE = 0.95
"""The share of a class's training pictures whose numbers pass for usual."""
FEW = 40
"""Rows of a class below which its spread is that of all classes together."""

_DIGITS = 5


@dataclass(frozen=True)
class Measure:
    """One number of the pictures, in each class: float64 (classes,) each; classes without rows have a count of 0.

    mean, deviation: of the class's rows. low, high: between them lie MIDDLE of its rows. count: how many they are.
    """

    mean: Floats
    deviation: Floats
    low: Floats
    high: Floats
    count: Floats

    def outside(self, values: Floats, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a number lies outside of what is usual in its class: float64 (n,), int (n,) -> bool (n,).

        The bounds are kept in so few digits that a number which equals one may seem to lie beyond it; numbers that
        take few values, as noise in whole grey levels does, equal them often.
        """
        low, high = self.low[classes], self.high[classes]
        kept = 10.0 ** (1 - _DIGITS)
        return np.asarray((values < low - kept * np.abs(low)) | (values > high + kept * np.abs(high)))

    def pooled(self) -> Measure:
        """The same for every class: that of all rows together, within the widest bounds of any class."""
        known = self.count > 0
        share = self.count / max(self.count.sum(), 1)
        mean = float((share * self.mean).sum())
        spread = float(np.sqrt((share * (self.deviation**2 + (self.mean - mean) ** 2)).sum()))
        ends = (self.low[known].min(), self.high[known].max()) if known.any() else (0.0, 0.0)
        values = (mean, max(spread, 1e-6), *map(float, ends), float(self.count.sum()))
        return Measure(*(np.full(len(self.count), value) for value in values))


@dataclass(frozen=True)
class Reference:
    """What `hemascope.trust.drift.compare` holds new pictures against.

    class_names: the model's classes, in their order.
    measures: the numbers of APPEARANCE, of training pictures, and DISTANCE, of held-out ones.
    answers: float64 (classes,), how many held-out pictures the model named so.
    centres: float64 (classes, d), the mean embedding of each class, and scales: float64 (d,), the standard deviation
    around it, shared by the classes; both without rows where the model has no embedding.
    """

    class_names: tuple[str, ...]
    measures: Mapping[str, Measure]
    answers: Floats
    centres: Floats
    scales: Floats

    def whatever_class(self) -> Reference:
        """One that holds pictures against those of all classes together, for a model that tells classes badly."""
        measures = {name: one if name == DISTANCE else one.pooled() for name, one in self.measures.items()}
        return replace(self, measures=measures)

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to five digits, ready for a JSON file."""
        return {
            "class_names": list(self.class_names),
            "measures": {
                name: {part: _rounded(getattr(measure, part)) for part in _PARTS}
                for name, measure in self.measures.items()
            },
            "answers": _rounded(self.answers),
            "centres": [_rounded(row) for row in self.centres],
            "scales": _rounded(self.scales),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Reference:
        """What `as_json` gave. Raises InputError when something is missing or of another length."""
        try:
            names = tuple(map(str, content["class_names"]))
            measures = {
                str(name): Measure(*(_read(parts[part], len(names)) for part in _PARTS))
                for name, parts in content["measures"].items()
            }
            scales = _read(content["scales"])
            rows = len(names) if len(scales) else 0
            centres = np.array([_read(row, len(scales)) for row in content["centres"]]).reshape(rows, len(scales))
            return cls(names, measures, _read(content["answers"], len(names)), centres, scales)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"what the model's file says of its training pictures cannot be read ({error}); export the model again."
            ) from error


_PARTS = ("mean", "deviation", "low", "high", "count")


def fit_reference(
    images: Pictures,
    labels: ArrayLike,
    class_names: Sequence[str],
    *,
    held_out_answers: ArrayLike,
    embeddings: ArrayLike | None = None,
    held_out_embeddings: ArrayLike | None = None,
    numbers: Mapping[str, Floats] | None = None,
) -> Reference:
    """Describe the pictures that a model learnt from, and its answers on others of the same origin.

    images: uint8 (n, height, width, 3), the training and validation pictures, with labels: int (n,), positions in
    class_names. held_out_answers: int (m,), what the model calls the calibration pictures. embeddings: float (n, d),
    and held_out_embeddings: float (m, d), where the model has one: centres come from the first, and how far pictures
    usually lie from them from the second, as a network draws together what it was trained on. numbers: what
    `appearance(images)` gives, where the caller has it already. Raises InputError when lengths disagree.
    """
    truth, answers = np.asarray(labels, np.int64), np.asarray(held_out_answers, np.int64)
    names = tuple(class_names)
    _check_classes(truth, len(images), names, "labels")
    _check_classes(answers, len(answers), names, "answers")
    if not len(truth) or not len(answers):
        raise InputError("a reference needs training pictures and held-out answers; give at least one of each.")
    described = appearance(images) if numbers is None else numbers
    measures = {name: _measure(described[name], truth, len(names)) for name in APPEARANCE}
    centres, scales = np.zeros((0, 0)), np.zeros(0)
    if embeddings is not None and held_out_embeddings is not None:
        places, others = np.asarray(embeddings, np.float64), np.asarray(held_out_embeddings, np.float64)
        if places.ndim != 2 or len(places) != len(truth) or others.shape != (len(answers), places.shape[1]):
            raise InputError(
                f"embeddings have the shapes {places.shape} and {others.shape} for {len(truth):,} training and "
                f"{len(answers):,} held-out pictures; give a row for each."
            )
        centres, scales = _centres(places, truth, len(names))
        measures[DISTANCE] = _measure(embedding_distance(centres, scales, others, answers), answers, len(names))
    return Reference(names, measures, np.bincount(answers, minlength=len(names)).astype(float), centres, scales)


def describe(
    reference: Reference, images: Pictures, embeddings: ArrayLike | None, predicted: ArrayLike
) -> dict[str, Floats]:
    """The numbers of new pictures that a reference knows: float64 (n,) each, NaN where one cannot be told.

    images: uint8 (n, height, width, 3). embeddings: float (n, d), or None to leave out the distance. predicted:
    int (n,), what the model calls them. Raises InputError when lengths disagree.
    """
    answers = np.asarray(predicted, np.int64)
    _check_classes(answers, len(images), reference.class_names, "answers")
    found: dict[str, Floats] = dict(appearance(images))
    if embeddings is not None and len(reference.centres):
        places = np.asarray(embeddings, np.float64)
        if places.shape != (len(images), len(reference.scales)):
            raise InputError(
                f"embeddings have the shape {places.shape}, expected ({len(images)}, {len(reference.scales)}), as this "
                "model gives them."
            )
        found[DISTANCE] = embedding_distance(reference.centres, reference.scales, places, answers)
    return found


def embedding_distance(
    centres: Floats, scales: Floats, embeddings: Floats, predicted: NDArray[np.integer[Any]]
) -> Floats:
    """ln of the root mean square distance to the centre of the class, in standard deviations: float64 (n,).

    centres: float64 (classes, d). scales: float64 (d,). embeddings: float64 (n, d). predicted: int (n,). It is the
    distance of Mahalanobis with one diagonal covariance for all classes.
    """
    away = (embeddings - centres[predicted]) / scales
    return np.asarray(np.log(np.sqrt((away * away).mean(1)) + 1e-6))


def _measure(values: Floats, classes: NDArray[np.int64], class_count: int) -> Measure:
    """The statistics of one number by class; a class of few rows has the spread of all about their class means."""
    told = np.isfinite(values)
    values, classes = values[told], classes[told]
    count = np.bincount(classes, minlength=class_count).astype(float)
    mean = np.bincount(classes, values, class_count) / np.maximum(count, 1)
    away = values - mean[classes]
    tails = [(1 - MIDDLE) / 2, (1 + MIDDLE) / 2]
    deviation = np.full(class_count, away.std() if len(away) else 1.0)
    low, high = np.repeat(_quantiles(away, tails)[:, None] if len(away) else np.zeros((2, 1)), class_count, 1)
    for place in np.flatnonzero(count >= FEW):
        own = away[classes == place]
        deviation[place] = own.std()
        low[place], high[place] = _quantiles(own, tails)
    # Where all training pictures agree to the last digit, anything else would lie infinitely far away.
    return Measure(mean, np.maximum(deviation, 1e-6), mean + low, mean + high, count)


def _quantiles(values: Floats, shares: list[float]) -> Floats:
    # So that a new value lies beyond each with the very probability that is asked for, however few there are.
    return np.asarray(np.quantile(values, shares, method="weibull"))


def _centres(embeddings: Floats, labels: NDArray[np.int64], class_count: int) -> tuple[Floats, Floats]:
    count = np.bincount(labels, minlength=class_count)
    centres = np.zeros((class_count, embeddings.shape[1]))
    np.add.at(centres, labels, embeddings)
    centres /= np.maximum(count, 1)[:, None]
    # A class that nobody learnt from lies where all the others do on average.
    centres[count == 0] = embeddings.mean(0)
    scales = (embeddings - centres[labels]).std(0)
    return centres, np.maximum(scales, max(1e-6, 1e-3 * float(scales.max())))


def _check_classes(values: NDArray[np.int64], rows: int, names: tuple[str, ...], what: str) -> None:
    if values.shape != (rows,):
        raise InputError(f"{what} have the shape {values.shape} for {rows:,} pictures; give one for each.")
    if rows and (values.min() < 0 or values.max() >= len(names)):
        raise InputError(
            f"{what} reach from {values.min()} to {values.max()}, but the {len(names)} classes are numbered from 0 to "
            f"{len(names) - 1}."
        )


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def _read(values: Any, length: int | None = None) -> Floats:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or (length is not None and len(found) != length) or not all(map(math.isfinite, found.tolist())):
        raise ValueError(f"an array of shape {found.shape} instead of {length} numbers")
    return found
