"""Everything that says when a model should be believed, fitted once after training and carried in the model's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.corrupt import compose
from hemascope.data import Cells, Images
from hemascope.draws import permutation, word
from hemascope.errors import InputError
from hemascope.trust.calibration import Calibration, fit_calibration
from hemascope.trust.conformal import ConformalSets, fit_sets, prediction_sets
from hemascope.trust.degradations import Degradation, degradations
from hemascope.trust.estimate import AccuracyEstimate, fit_estimate, measured_batch
from hemascope.trust.fingerprint import Fingerprint, fingerprint_of
from hemascope.trust.outliers import OutlierScore, OutlierThreshold
from hemascope.trust.reference import Reference, fit_reference
from hemascope.trust.rejection import RejectRule, reject_rule

Floats = NDArray[np.float64]
Asked = Callable[[Images], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Pictures uint8 (n, h, w, 3) -> logits float32 (n, classes) and embeddings float32 (n, d)."""

COVERAGE = 0.99
MAX_ERROR = 0.01
LEAST_RIGHT = 0.8
"""The share of wrong answers that is allowed where nobody names one."""
MOST_TRAINING = 6000
MOST_DEGRADED = 240
BATCH = 256


@dataclass(frozen=True)
class Trust:
    """What is known of a model beside its answers; None where there were too few rows to tell, and notes say so.

    calibration: how logits become probabilities, with the class prior. sets: for conformal sets. outliers: from which
    outlier score on a picture is called strange. confidence: float64 (m,), and correct: bool (m,), of the calibration
    rows, from which a threshold for any risk is found. estimate: of accuracy without labels. reference: of what the
    training pictures look like. fingerprint: which they were.
    """

    calibration: Calibration
    sets: ConformalSets | None
    outliers: OutlierThreshold | None
    confidence: Floats
    correct: NDArray[np.bool_]
    estimate: AccuracyEstimate | None = None
    reference: Reference | None = None
    fingerprint: Fingerprint | None = None
    notes: tuple[str, ...] = ()

    def reject_rule(self, max_error: float = MAX_ERROR) -> RejectRule:
        """The threshold of confidence with which at most a share of the answers is wrong. Raises InputError as
        `hemascope.trust.reject_rule` does."""
        return reject_rule(self.confidence, self.correct, max_error)

    @property
    def tells_classes(self) -> bool:
        """Whether it names enough calibration rows rightly for a picture to be held against others of its class."""
        return not len(self.correct) or float(np.mean(self.correct)) >= LEAST_RIGHT

    @cached_property
    def usual_rule(self) -> RejectRule | None:
        """That for MAX_ERROR, or the least share above it that the calibration rows can prove; None where none can."""
        for max_error in (MAX_ERROR, 0.02, 0.05, 0.1, 0.2):
            try:
                return self.reject_rule(max_error)
            except InputError:
                continue
        return None

    def sets_of(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_] | None:
        """Which classes each picture may be, bool (n, classes); None without `sets`."""
        return None if self.sets is None else prediction_sets(probabilities, self.sets)

    def as_json(self) -> dict[str, Any]:
        """Plain values for a model's file; `fingerprint` and `notes` included."""
        order = np.argsort(-self.confidence, kind="stable")
        return {
            "calibration": self.calibration.as_json(),
            "sets": None if self.sets is None else self.sets.as_json(),
            "outliers": None if self.outliers is None else self.outliers.as_json(),
            "confidence": [float(f"{value:.6g}") for value in self.confidence[order]],
            "correct": "".join("1" if right else "0" for right in self.correct[order]),
            "estimate": None if self.estimate is None else self.estimate.as_json(),
            "reference": None if self.reference is None else self.reference.as_json(),
            "fingerprint": None if self.fingerprint is None else self.fingerprint.as_json(),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trust:
        """What `as_json` gave. Raises InputError when it cannot be read."""

        def part(name: str, read: Callable[[Any], Any]) -> Any:
            return None if content[name] is None else read(content[name])

        try:
            return cls(
                Calibration.from_json(content["calibration"]),
                part("sets", ConformalSets.from_json),
                part("outliers", OutlierThreshold.from_json),
                np.array(content["confidence"], np.float64),
                np.array([mark == "1" for mark in content["correct"]], bool),
                part("estimate", AccuracyEstimate.from_json),
                part("reference", Reference.from_json),
                part("fingerprint", Fingerprint.from_json),
                tuple(content["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"what the model's file says of when to trust it cannot be read ({error}); export the model again."
            ) from error


class Distortion(NamedTuple):
    """What training did to probabilities: its label smoothing, and its class weights (classes,) or None."""

    smoothing: float = 0.0
    class_weights: NDArray[np.float64] | None = None


UNDISTORTED = Distortion()


def balanced_weights(counts: ArrayLike) -> NDArray[np.float64]:
    """The class weights of a loss to which each class counts alike: (classes,), 0 for classes without rows."""
    rows = np.asarray(counts, np.float64)
    fair = rows.sum() / max(int((rows > 0).sum()), 1)
    return np.asarray(np.divide(fair, rows, out=np.zeros_like(rows), where=rows > 0))


def fit_trust(asked: Asked, cells: Cells, distortion: Distortion, seed: int = 0) -> tuple[Trust, OutlierScore]:
    """Fit all of it on cells that are split: calibration rows fit, training rows say what is usual.

    asked: the model before calibration. What a small set cannot tell is left out, and a note says why. The same seed
    gives the same.
    """
    assert cells.split is not None
    training, calibration = _some(cells.in_split("train"), MOST_TRAINING, seed), cells.in_split("calibration")
    if not len(calibration):
        raise InputError(f"{cells.source}: has no calibration rows; split it with hemascope.split.")
    images, labels = np.asarray(calibration.images[:]), calibration.labels
    rows = np.arange(len(images), dtype=np.int64)
    own_seed = word(seed, 0, 0, "calibration rows")
    logits, embeddings = _in_batches(asked, images)
    mild, _ = _in_batches(asked, compose(images, "mild", seed=own_seed, rows=rows))
    counts = np.bincount(cells.in_split("train").labels, minlength=len(cells.class_names))
    fitted = fit_calibration(
        np.concatenate([logits, mild]),
        np.tile(labels, 2),
        counts / counts.sum(),
        smoothing=distortion.smoothing,
        class_weights=distortion.class_weights,
    )
    probabilities = fitted.probabilities(logits)
    shown = np.asarray(training.images[:])
    known_logits, known = _in_batches(asked, shown)
    score = OutlierScore.fit(known, known_logits, training.labels)
    notes: list[str] = []

    def if_enough(fit: Callable[[], Any], what: str) -> Any:
        try:
            return fit()
        except InputError as error:
            notes.append(f"{what}: {error}")
            return None

    def estimate() -> AccuracyEstimate:
        under = (Degradation(), *degradations())
        batches = []
        for one in under:
            some = one.rows(len(images), MOST_DEGRADED, seed)
            spoilt = one.applied(images[some], seed=own_seed, rows=some)
            given = fitted.probabilities(_in_batches(asked, spoilt)[0])
            batches.append(measured_batch(given, labels[some], one.families))
        return fit_estimate(batches)

    trust = Trust(
        calibration=fitted,
        sets=if_enough(lambda: fit_sets(probabilities, labels, COVERAGE), "no sets of classes"),
        outliers=if_enough(lambda: OutlierThreshold.fit(score.score(embeddings, logits)), "no threshold for outliers"),
        confidence=probabilities.max(1),
        correct=probabilities.argmax(1) == labels,
        estimate=if_enough(estimate, "no estimate of accuracy without labels"),
        reference=if_enough(
            lambda: fit_reference(
                shown,
                training.labels,
                cells.class_names,
                held_out_answers=probabilities.argmax(1),
                embeddings=known,
                held_out_embeddings=embeddings,
            ),
            "no reference for drift",
        ),
        fingerprint=fingerprint_of(cells.take(np.isin(cells.split, ("train", "validation", "calibration"))).images),
        notes=tuple(notes),
    )
    return trust, score


def _some(cells: Cells, most: int, seed: int) -> Cells:
    return cells if len(cells) <= most else cells.take(np.sort(permutation(seed, 0, len(cells))[:most]))


def _in_batches(asked: Asked, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    parts = [asked(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    logits, embeddings = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(embeddings)
