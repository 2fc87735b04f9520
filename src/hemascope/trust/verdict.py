"""Whether to believe each answer of a model, and why not: the one place where that is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Cells, Images
from hemascope.runtime import Answers, Model
from hemascope.trust.scale import CellSizes

UNSURE = "unsure"
OUTLIER = "outlier"
"""The kinds of reasons. Each reason is "KIND: a sentence", so that a program counts them and a person reads them."""
PROVISIONAL = 0.5
MOST_EXCLUDED = 0.5
"""From this part of the probability on classes that the differential count has none of, what is left says little."""


@dataclass(frozen=True)
class Verdict:
    """Judges the answers of one model.

    confidence: the highest probability below which an answer is not trusted. max_error: the share of wrong answers that
    the confidence was set for, or None where nothing is known of the model. outlier_score: above it a picture is called
    unlike the training pictures; None where that is not known. sizes: how large training cells are, where it is known.
    """

    confidence: float = PROVISIONAL
    max_error: float | None = None
    outlier_score: float | None = None
    sizes: CellSizes | None = None

    def why_not(self, answers: Answers, images: Images | None = None) -> list[list[str]]:
        """Reasons not to trust each answer, each as "KIND: a sentence"; an empty list means trust.

        images: uint8 (n, height, width, 3), as the model saw them; without them nothing is said of the scale.
        """
        confidences, scores = answers.probabilities.max(axis=1).tolist(), answers.outlier_score.tolist()
        excluded = [0.0] * len(scores) if answers.excluded is None else answers.excluded.tolist()
        reasons = [self._reasons(*each) for each in zip(confidences, scores, excluded, strict=True)]
        if self.sizes is not None and images is not None and len(images):
            for known, size in zip(reasons, self.sizes.reasons(images, answers.probabilities.argmax(1)), strict=True):
                known += [size] if size else []
        return reasons

    def of_cells(self, answers: Answers, cells: Cells) -> list[list[str]]:
        """The same for all pictures of cells, as the model saw them, a batch at a time. answers: to them, in order."""
        return [each for rows, images in cells.batches() for each in self.why_not(_rows_of(answers, rows), images)]

    def _reasons(self, sure: float, strange: float, excluded: float) -> list[str]:
        reasons, most = [], self.outlier_score
        # What is no number is neither sure nor usual.
        if most is not None and not strange <= most:
            reasons.append(f"{OUTLIER}: unlike the training pictures ({strange:.1f}, above {most:.1f}).")
        if not sure >= self.confidence:
            reasons.append(f"{UNSURE}: the highest probability is {sure:.2f}, below {self.confidence:.2f}.")
        if excluded > MOST_EXCLUDED:
            reasons.append(f"{UNSURE}: it looks like a class that the differential count has none of ({excluded:.2f}).")
        return reasons

    def thresholds(self) -> Mapping[str, float | None]:
        """What it judges by, for people and programs."""
        return {name: value for name, value in vars(self).items() if name != "sizes"}


def _rows_of(answers: Answers, rows: slice) -> Answers:
    excluded = None if answers.excluded is None else answers.excluded[rows]
    told, strange, seen = (column[rows] for column in answers[:3])
    return Answers(told, strange, seen, excluded=excluded)


def verdict_of(model: Model, max_error: float | None = None) -> Verdict:
    """How the answers of a model are judged, by what its file knows of itself.

    max_error: the share of wrong answers that is allowed; the usual one when None. Raises InputError when the
    calibration rows are too few to prove it.
    """
    trust = model.trust
    if trust is None:
        return Verdict()
    rule = trust.usual_rule if max_error is None else trust.reject_rule(max_error)
    strange = None if trust.outliers is None else trust.outliers.value
    sizes = None if trust.reference is None or not trust.tells_classes else CellSizes.of(trust.reference)
    if rule is None:
        return Verdict(outlier_score=strange, sizes=sizes)
    return Verdict(rule.threshold, rule.max_error, strange, sizes)


def kind_of(reason: str) -> str:
    """The kind of a reason: what stands before its colon."""
    return reason.partition(":")[0]


def kinds(reasons: list[list[str]]) -> NDArray[Any]:
    """The kinds of reasons of each answer in one word or two, "" for trust: str (n,), for a table."""
    return np.array(["; ".join(kind_of(reason) for reason in each) for each in reasons], dtype=object)
