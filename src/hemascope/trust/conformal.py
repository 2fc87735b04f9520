"""Sets of classes that hold the true one with a coverage that is promised for each class, not only on average.

Split-conformal prediction within each class (Vovk, Conditional Validity of Inductive Conformal Predictors, 2012; with
the score 1 - probability, Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels,
2019). Cells of rare classes are those that matter, and one threshold for all classes would let their coverage fall.
The promise holds for pictures that come as the calibration rows did, not under corruption or from elsewhere.

The code is our own because MAPIE (1.6) has such sets for no classifier: it conditions on what is known of a picture
beforehand, not on its class. crepes has them, and the tests' reference is its rule; a threshold for each class, which
can travel in a model's file, and the pooling of classes with few rows are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.errors import InputError
from hemascope.metrics import wilson_interval
from hemascope.trust.checks import checked_labels, checked_probabilities, checked_share
from hemascope.wording import many

Floats = NDArray[np.float64]
Sets = NDArray[np.bool_]


@dataclass(frozen=True)
class ConformalSets:
    """What `fit_sets` found.

    coverage: what each class, or pool of classes, was promised. thresholds: (classes,), the least probability with
    which a class is in a set. rows: (classes,), how many calibration rows each class had. pooled: (classes,), whether
    the class had too few for a threshold of its own and shares that of all such classes.
    """

    coverage: float
    thresholds: tuple[float, ...]
    rows: tuple[int, ...]
    pooled: tuple[bool, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON file."""
        return {
            "coverage": self.coverage,
            "thresholds": list(self.thresholds),
            "rows": list(self.rows),
            "pooled": list(self.pooled),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ConformalSets:
        """What `as_json` gave."""
        return cls(
            float(values["coverage"]), tuple(values["thresholds"]), tuple(values["rows"]), tuple(values["pooled"])
        )


class Coverage(NamedTuple):
    """How often sets held the truth: rows, how many of them did, their share, and its 95% Wilson interval."""

    rows: int
    covered: int
    coverage: float
    low: float
    high: float


class CoverageTable(NamedTuple):
    """What `coverage_table` gives: all rows, each class, the mean number of classes in a set, the share with one."""

    overall: Coverage
    per_class: tuple[Coverage, ...]
    mean_size: float
    single: float


def rows_for(coverage: float) -> int:
    """The fewest calibration rows from which a threshold for a coverage can be taken: 99 for 0.99."""
    # The tolerance keeps 0.99 / 0.01 from being counted as a little more than 99.
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def fit_sets(probabilities: ArrayLike, labels: ArrayLike, coverage: float = 0.99) -> ConformalSets:
    """Thresholds with which sets hold a picture's class with probability `coverage` or more, whatever its class.

    probabilities: (n, classes) float, calibrated. labels: int (n,). Of a class with n rows the threshold is the
    ceil((n + 1) coverage)-th highest probability of the true class, which is exact for any n that has one. Classes
    with fewer than `rows_for(coverage)` rows are pooled: one threshold from all their rows, which promises the coverage
    to them together and not to each. Where the pool is too small as well, the class with the fewest rows of the others
    gives it its rows (and keeps its own threshold), then the next.

    Raises InputError when all rows together are too few.
    """
    values = checked_probabilities(probabilities)
    truth = checked_labels(labels, values)
    needed = rows_for(checked_share(coverage, "coverage"))
    if len(truth) < needed:
        raise InputError(
            f"{many(len(truth), 'calibration row was', 'calibration rows were')} given, and a coverage of "
            f"{coverage:g} needs {needed:,}; give more rows or ask for a lower coverage."
        )
    classes = values.shape[1]
    of_truth = values[np.arange(len(truth)), truth]
    counts = np.bincount(truth, minlength=classes)
    few = counts < needed
    lenders = np.argsort(np.where(few, -1, counts), kind="stable")
    size = int(few.sum())
    while few.any() and counts[lenders[:size]].sum() < needed:
        size += 1
    shared = np.isin(truth, lenders[:size])
    thresholds = tuple(_threshold(of_truth[shared if few[k] else truth == k], coverage) for k in range(classes))
    return ConformalSets(coverage, thresholds, tuple(counts.tolist()), tuple(few.tolist()))


def _threshold(of_truth: Floats, coverage: float) -> float:
    rank = math.ceil((len(of_truth) + 1) * coverage - 1e-9)
    return float(np.sort(of_truth)[::-1][rank - 1])


def prediction_sets(probabilities: ArrayLike, sets: ConformalSets) -> Sets:
    """Which classes each picture may be: bool (n, classes), never none, as the most probable class is always in.

    probabilities: (n, classes) float. Raises InputError when the classes are not as many as the thresholds.
    """
    values = checked_probabilities(probabilities)
    if values.shape[1] != len(sets.thresholds):
        raise InputError(
            f"probabilities have {values.shape[1]} classes and the sets {len(sets.thresholds)}; fit the sets on "
            "answers of the same model."
        )
    found: Sets = values >= np.array(sets.thresholds)
    found[np.arange(len(values)), values.argmax(1)] = True
    return found


def coverage_table(sets: ArrayLike, labels: ArrayLike) -> CoverageTable:
    """How often sets held the truth, overall and for each class, and how large they are.

    sets: bool (n, classes). labels: int (n,). What is undefined, such as the coverage of a class without rows, is NaN.
    """
    held = np.asarray(sets, bool)
    if held.ndim != 2 or not len(held):
        raise InputError(f"sets have the shape {held.shape}; give bool (n, classes) with a row or more.")
    truth = checked_labels(labels, held)
    covered = held[np.arange(len(truth)), truth]
    sizes = held.sum(1)
    per_class = tuple(_coverage(covered[truth == k]) for k in range(held.shape[1]))
    return CoverageTable(_coverage(covered), per_class, float(sizes.mean()), float((sizes == 1).mean()))


def _coverage(covered: Sets) -> Coverage:
    rows, right = len(covered), int(covered.sum())
    return Coverage(rows, right, right / rows if rows else math.nan, *wilson_interval(right, rows))
