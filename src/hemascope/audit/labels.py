"""Labels that the pictures speak against: probabilities out of sample, then confident learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import UNKNOWN_LABEL, Cells
from hemascope.errors import InputError
from hemascope.features import Floats

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
MIN_CLASS_ROWS = 10
"""Classes with fewer pictures than this are not judged: too few are left to learn from when one fold is out."""

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]

_LANDMARKS = 1500
_WIDTH = 0.3
_RIDGES = (0.01, 0.05, 0.25, 1.25)
_BLOCK = 4096
# Enough to fit a temperature and a table of class by class.
_FIT_ROWS = 50_000
_PASSES = 200


def out_of_sample_probabilities(
    features: Floats,
    labels: Labels,
    classes: int,
    groups: NDArray[Any] | None = None,
    learn: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Probabilities:
    """What each picture's class would be by the others: (n, classes) float64, rows summing to 1.

    features: float32 (n, k), what `cell_features` gives. labels: (n,), -1 where unknown. groups: (n,), equal for
    pictures of which none may speak for another: copies, or one patient's. learn: bool (n,), the rows to learn from,
    all of them when it is None; every row gets its probabilities from a model that saw none of its group.

    Ridge regression on the classes with a Gaussian kernel over at most 1,500 landmark pictures (Williams and Seeger,
    Using the Nystrom method to speed up kernel machines, 2001): time grows with the rows, and each of the five folds
    costs one small matrix. Its squared error bears with wrong labels. The ridge is the one with the least error out of
    sample; the scores become probabilities by one temperature (Guo et al., On calibration of modern neural networks,
    2017), fitted together with a share of wrong labels, so that those do not make the rest look unsure.

    Raises InputError when fewer than two classes have 10 labelled pictures.
    """
    from scipy.linalg import solve
    from scipy.special import softmax

    labels = np.where(judged_rows(labels, classes), labels, UNKNOWN_LABEL)
    learn = (labels != UNKNOWN_LABEL) & (True if learn is None else learn)
    present = np.unique(labels[learn])
    if len(present) < 2:
        raise InputError(
            f"label suspects need two classes with at least {MIN_CLASS_ROWS} labelled pictures each, found "
            f"{len(present)}; leave the label check out or label more pictures."
        )
    generator = np.random.default_rng(seed)
    fold = deal_folds(labels, np.arange(len(labels)) if groups is None else groups, generator)
    targets = (labels[:, None] == present).astype(np.float32)
    prior = targets[learn].mean(axis=0)
    machine = _Landmarks(features, np.flatnonzero(learn), generator)

    products = []
    for number in range(FOLDS):
        gram, moment = np.zeros((machine.size, machine.size)), np.zeros((machine.size, len(present)))
        for rows, seen in machine.blocks(features, np.flatnonzero(learn & (fold == number))):
            gram += seen.T @ seen
            moment += seen.T @ (targets[rows] - prior)
        products.append((gram, moment))
    all_gram, all_moment = (sum(parts) for parts in zip(*products, strict=True))

    scores = np.zeros((len(_RIDGES), len(labels), len(present)), np.float32)
    for number, (gram, moment) in enumerate(products):
        rest = all_gram - gram
        weights = [
            solve(rest + ridge * np.eye(len(rest)), all_moment - moment, assume_a="pos", overwrite_a=True)
            for ridge in _RIDGES
        ]
        together = np.concatenate(weights, axis=1).astype(np.float32)
        for rows, seen in machine.blocks(features, np.flatnonzero(fold == number)):
            scores[:, rows] = (seen @ together).reshape(len(rows), len(_RIDGES), -1).swapaxes(0, 1) + prior
    errors = [float(((scores[at, learn] - targets[learn]) ** 2).mean()) for at in range(len(_RIDGES))]
    best = scores[int(np.argmin(errors))]
    sharpened = best.astype(np.float64) * _temperature(best[learn], targets[learn].argmax(axis=1))
    probabilities = np.zeros((len(labels), classes))
    probabilities[:, present] = softmax(sharpened, axis=1)
    return probabilities


def find_label_suspects(
    cells: Cells,
    probabilities: Probabilities,
    learn: NDArray[np.bool_] | None = None,
    threshold: float = 0.5,
) -> pd.DataFrame:
    """Say which labels are more likely wrong than right.

    probabilities: (n, classes), out of sample: from `out_of_sample_probabilities`, or from a model that was trained on
    none of these pictures; a row of NaN is not judged. learn: bool (n,), the rows that are judged, all that have a
    label when it is None.

    Two estimates must agree. Confident learning (Northcutt et al., Confident learning: estimating uncertainty in
    dataset labels, 2021, by cleanlab) counts for each class the labels whose probability for another class exceeds
    what is usual for pictures of that class, and names as many rows of the class, those with the lowest probability of
    the given label. Of these, the ones are flagged that come out wrong with a probability above 1 - threshold when the
    share of each class that goes by each label is estimated too (Dawid and Skene, Maximum likelihood estimation of
    observer error-rates using the EM algorithm, 1979): where nearly all labels are right, an unusual picture is
    likelier than a wrong label.

    Returns one row for each picture: `label_suspect_score` in [0, 1], the probability that the label is right (1 where
    not judged), `is_label_suspect`, `label_suspect_reason` and `suggested_label`, the likeliest class (int, -1 where
    not judged). Raises InputError when the shapes disagree or a row is not a probability.
    """
    import pandas as pd
    from cleanlab.filter import find_label_issues

    expected = (len(cells), len(cells.class_names))
    if probabilities.shape != expected:
        raise InputError(f"the probabilities have shape {probabilities.shape}, expected {expected}, a column a class.")
    known = ~np.isnan(probabilities).any(axis=1)
    if not (np.isfinite(probabilities[known]).all() and (probabilities[known] >= 0).all()):
        raise InputError("the probabilities hold values below 0 or not finite; give those of a softmax.")
    judged = known & judged_rows(cells.labels, len(cells.class_names)) & (True if learn is None else learn)
    present, given = np.unique(cells.labels[judged], return_inverse=True)
    score = np.ones(len(cells))
    suspect = np.zeros(len(cells), bool)
    suggested = np.full(len(cells), UNKNOWN_LABEL, np.int64)
    reason = np.full(len(cells), "", dtype=object)
    if len(present) > 1:
        believed = np.maximum(probabilities[judged][:, present], 1e-9)
        believed /= believed.sum(axis=1, keepdims=True)
        likeliest = believed.argmax(axis=1)
        right = _right_labels(believed, given)
        score[judged], suggested[judged] = right, present[likeliest]
        named = find_label_issues(given, believed, filter_by="low_self_confidence", n_jobs=1)
        suspect[judged] = named & (likeliest != given) & (right < threshold)
    for row in np.flatnonzero(suspect):
        names = cells.class_names[cells.labels[row]], cells.class_names[suggested[row]]
        reason[row] = (
            f"labelled {names[0]} but looks like {names[1]}: the label is right with probability {score[row]:.3f}"
        )
    return pd.DataFrame(
        {
            "label_suspect_score": score,
            "is_label_suspect": suspect,
            "label_suspect_reason": reason,
            "suggested_label": suggested,
        }
    )


class _Landmarks:
    """The kernel's view of features: of how like each of some pictures a picture is, made orthonormal."""

    def __init__(self, features: Floats, learn: NDArray[np.int64], generator: np.random.Generator) -> None:
        sample = np.sort(generator.permutation(learn)[:_BLOCK])
        self.middle = features[sample].mean(axis=0)
        self.scale = features[sample].std(axis=0) + 1e-6
        self.landmarks = self._standard(features[np.sort(generator.permutation(learn)[:_LANDMARKS])])
        values, vectors = np.linalg.eigh(self._kernel(self.landmarks).astype(np.float64))
        kept = values > 1e-6 * values[-1]
        self.whiten = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        self.size = int(kept.sum())

    def blocks(self, features: Floats, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Some of the rows and their view (rows, size), until all are done."""
        for at in range(0, len(rows), _BLOCK):
            block = rows[at : at + _BLOCK]
            yield block, self._kernel(self._standard(features[block])) @ self.whiten

    def _standard(self, features: Floats) -> Floats:
        return np.asarray((features - self.middle) / self.scale, np.float32)

    def _kernel(self, standard: Floats) -> Floats:
        square = (standard * standard).sum(1)[:, None] + (self.landmarks * self.landmarks).sum(1)
        square -= 2 * standard @ self.landmarks.T
        return np.asarray(np.exp(np.minimum(square * (-_WIDTH / standard.shape[1]), 0)))


def judged_rows(labels: Labels, classes: int) -> NDArray[np.bool_]:
    """bool (n,): the rows whose class has at least MIN_CLASS_ROWS labelled pictures."""
    counts = np.bincount(labels[labels != UNKNOWN_LABEL], minlength=classes)
    return np.asarray((labels != UNKNOWN_LABEL) & (counts[labels] >= MIN_CLASS_ROWS))


def _right_labels(believed: Probabilities, given: Labels) -> NDArray[np.float64]:
    """How likely each label (n,) is right, the rate of each mistake being estimated from all of them."""
    count = believed.shape[1]
    step = -(-len(given) // _FIT_ROWS)
    some, labels = believed[::step], given[::step]
    rates = np.where(np.eye(count, dtype=bool), 0.98, 0.02 / (count - 1))
    for _ in range(_PASSES):
        shares = some * rates[:, labels].T
        shares /= shares.sum(axis=1, keepdims=True)
        # One right label of each class more than there are keeps a class of few pictures from explaining all away.
        counts = np.stack([shares[labels == label].sum(axis=0) for label in range(count)], axis=1) + np.eye(count)
        before, rates = rates, counts / counts.sum(axis=1, keepdims=True)
        if np.abs(rates - before).max() < 1e-5:
            break
    shares = believed * rates[:, given].T
    return np.asarray(shares[np.arange(len(given)), given] / shares.sum(axis=1))


def deal_folds(labels: Labels, groups: NDArray[Any], generator: np.random.Generator) -> NDArray[np.int64]:
    """One of FOLDS folds (n,) for each row: groups stay together, and each class is dealt out evenly."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((generator.permutation(len(first)), labels[first]))
    dealt = np.empty(len(first), np.int64)
    dealt[order] = np.arange(len(first)) % FOLDS
    return dealt[group.reshape(-1)]


def _temperature(scores: Floats, labels: Labels) -> float:
    """The factor on the scores under which the labels are likeliest, if some of them are drawn by lot.

    Fewer than half: were all by lot, any factor would do, and scores that say nothing would look sure.
    """
    from scipy.optimize import minimize
    from scipy.special import softmax

    step = -(-len(scores) // _FIT_ROWS)
    scores, labels = scores[::step].astype(np.float64), labels[::step]
    rows = np.arange(len(labels))

    def surprise(parameters: NDArray[np.float64]) -> float:
        by_lot = 0.5 / (1 + np.exp(-parameters[1]))
        right = softmax(scores * np.exp(parameters[0]), axis=1)[rows, labels]
        return -float(np.log((1 - by_lot) * right + by_lot / scores.shape[1] + 1e-12).mean())

    return float(np.exp(minimize(surprise, [2.0, -3.0], method="Nelder-Mead").x[0]))
