"""Whether to believe each answer of a model, and why not: the one place where that is decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hemascope.runtime import Answers, Model

UNSURE = "unsure"
OUTLIER = "outlier"
"""The kinds of reasons. Each reason is "KIND: a sentence", so that a program counts them and a person reads them."""


class Verdict(Protocol):
    """Judges the answers of one model."""

    def why_not(self, answers: Answers) -> list[list[str]]:
        """Reasons not to trust each answer, each as "KIND: a sentence"; an empty list means trust."""
        ...


@dataclass(frozen=True)
class LeastConfidence:
    """A provisional verdict, for a model whose file says nothing of when to believe it.

    threshold: the highest probability below which an answer is not trusted.
    """

    threshold: float = 0.5

    def why_not(self, answers: Answers) -> list[list[str]]:
        """As the protocol says."""
        return [
            [f"{UNSURE}: the highest probability is {confidence:.2f}, below {self.threshold:.2f}."]
            if not confidence >= self.threshold
            else []
            for confidence in answers.probabilities.max(axis=1).tolist()
        ]


def verdict_of(model: Model) -> Verdict:
    """How the answers of a model are judged."""
    return LeastConfidence()


def kind_of(reason: str) -> str:
    """The kind of a reason: what stands before its colon."""
    return reason.partition(":")[0]
