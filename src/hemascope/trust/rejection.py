"""When not to answer: a threshold of confidence below which a picture goes to a person, and a bound on the errors left.

Confidence is any number that is higher for surer answers; the largest calibrated probability is what orders best here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.errors import InputError
from hemascope.metrics import clopper_pearson_interval
from hemascope.trust.checks import checked_confidence, checked_share
from hemascope.wording import many

Floats = NDArray[np.float64]

FIRST_SHARE = 0.5
"""The share of rows that the strictest threshold tested answers."""
STEPS = 50
"""How many thresholds are tested at most, from the strictest to the one that answers everything."""


@dataclass(frozen=True)
class RejectRule:
    """What `reject_rule` found: answer where confidence >= threshold.

    max_error: the share of wrong answers that was allowed. delta: the risk that the true share is larger all the same.
    rows: calibration rows. answered, mistakes: of them, how many the rule answers and how many of those wrongly.
    bound: the upper end of the one-sided 1 - delta interval of the error among answers.
    """

    threshold: float
    max_error: float
    delta: float
    rows: int
    answered: int
    mistakes: int
    bound: float

    @property
    def coverage(self) -> float:
        """The share of calibration rows that is answered."""
        return self.answered / self.rows

    def answers(self, confidence: ArrayLike) -> NDArray[np.bool_]:
        """Which pictures are answered: bool (n,), from confidences float (n,)."""
        return np.asarray(np.asarray(confidence, np.float64) >= self.threshold)

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON file."""
        return {**asdict(self), "coverage": self.coverage}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RejectRule:
        """What `as_json` gave."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class RiskCoverage:
    """What `risk_coverage` found.

    risk: (n,), the share of mistakes among the k surest rows, for k = 1 to n; a row of k of n rows is at coverage k/n.
    aurc: the mean of it. excess_aurc: aurc less that of an order in which all mistakes come last.
    """

    risk: Floats
    aurc: float
    excess_aurc: float

    @property
    def coverage(self) -> Floats:
        """(n,), rising to 1."""
        return np.arange(1, len(self.risk) + 1) / len(self.risk)

    def accuracy_at(self, coverage: float) -> float:
        """The accuracy on the surest rows that make up a share of all, at least one of them."""
        if not 0 < coverage <= 1:
            raise InputError(f"coverage is {coverage:g}; give a number above 0 and at most 1.")
        # A share of rows such as 0.95 of 100 must not become 96 by rounding.
        count = max(1, math.ceil(coverage * len(self.risk) - 1e-9))
        return float(1 - self.risk[count - 1])


def upper_bound(mistakes: int, rows: int, delta: float = 0.05) -> float:
    """The upper end of the exact one-sided 1 - delta interval of a share of mistakes; 1 without rows.

    Clopper and Pearson, The Use of Confidence or Fiducial Limits, 1934.
    """
    if not 0 <= mistakes <= rows:
        raise InputError(
            f"{mistakes} mistakes of {rows} rows were given; there are at least 0 and at most as many as rows."
        )
    # The upper end of the two-sided interval that leaves delta on that side, too.
    return clopper_pearson_interval(mistakes, rows, 1 - 2 * delta)[1]


def rows_needed(max_error: float, delta: float = 0.05) -> int:
    """The fewest rows that can certify an error, none of them wrong: 299 for 0.01 at delta 0.05."""
    return math.ceil(math.log(delta) / math.log1p(-max_error) - 1e-9)


def reject_rule(confidence: ArrayLike, correct: ArrayLike, max_error: float, delta: float = 0.05) -> RejectRule:
    """The laxest threshold of confidence that leaves at most a share of errors among the answers, certified.

    confidence: float (n,). correct: bool (n,), whether the answer was right. Thresholds are tested from strict to lax,
    each against `upper_bound`, and the first that fails ends the test: in such a fixed order none of them takes from
    the risk `delta` of the others (Bauer, Multiple Testing in Clinical Trials, 1991; Angelopoulos et al., Learn then
    Test, 2021). The first answers half of the rows, or as many as a bound needs where that is more, the last all of
    them, and those between are evenly spaced; confidences alone decide them, never the labels. The promise holds for
    pictures that come as these rows did.

    Raises InputError when the rows are too few for any answer to be certified, and when the surest are wrong too often.
    """
    order, right = checked_confidence(confidence, correct)
    needed = rows_needed(checked_share(max_error, "max_error"), checked_share(delta, "delta"))
    rows = len(order)
    if rows < needed:
        raise InputError(
            f"{many(rows, 'row was', 'rows were')} given, and an error of {max_error:g} needs {needed:,} without a "
            "mistake to be certified; give more labelled rows or allow a larger error."
        )
    ranked = np.sort(order)[::-1]
    first = max(needed, math.ceil(FIRST_SHARE * rows))
    best: RejectRule | None = None
    for count in np.unique(np.linspace(first, rows, STEPS).round().astype(np.int64)):
        threshold = float(ranked[count - 1])
        kept = order >= threshold
        answered, mistakes = int(kept.sum()), int((kept & ~right).sum())
        bound = upper_bound(mistakes, answered, delta)
        if bound > max_error:
            if best is None:
                raise InputError(
                    f"of the {many(answered, 'surest row')} {many(mistakes, 'is', 'are')} wrong, so that their error "
                    f"may be {bound:.4f}, and {max_error:g} was allowed; allow a larger error or give more rows."
                )
            break
        best = RejectRule(threshold, max_error, delta, rows, answered, mistakes, bound)
    assert best is not None
    return best


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """How the error falls when only the surest rows are answered.

    confidence: float (n,). correct: bool (n,). Of rows with the same confidence each counts as their mean, as no
    threshold could tell them apart. Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers, 2019.
    """
    order, right = checked_confidence(confidence, correct)
    _, tied = np.unique(-order, return_inverse=True)
    tied = tied.reshape(-1)
    wrong = np.bincount(tied, ~right) / np.bincount(tied)
    counts = np.arange(1, len(order) + 1)
    risk = np.cumsum(wrong[np.sort(tied)]) / counts
    ideal = np.cumsum(np.sort(~right)) / counts
    return RiskCoverage(risk, float(risk.mean()), float(risk.mean() - ideal.mean()))
