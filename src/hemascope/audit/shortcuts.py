"""Can the label be guessed from what is not the cell? From the background, the border and the file, against chance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.features import THREADS, over_batches
from hemascope.audit.labels import deal_folds, judged_rows
from hemascope.audit.shape import measured
from hemascope.data.cells import Cells, Images
from hemascope.errors import InputError
from hemascope.features import Floats

if TYPE_CHECKING:
    import pandas as pd

Measures = dict[str, Floats]
Columns = dict[str, NDArray[Any]]

BACKGROUND: dict[str, tuple[str, ...]] = {
    "background colour": ("background red", "background green", "background blue"),
    "background sharpness": ("background sharpness",),
    "border": ("border step", "border distance from glass"),
}
"""What `background_measures` measures: each candidate and the numbers that it consists of."""

NOTEWORTHY = 0.5
"""The gain, twice the distance of the area under the curve from chance, from which a shortcut is called one."""

# Cells stand in the middle: beyond this share of the half side, what is brightest is glass.
_OUTSIDE = 0.85
_GLASS_QUANTILE = 0.9
_GLASS_RANGE = 12
_NEIGHBOURS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
_STEP = 16
_LEAVES = 64
_LEAST_LEAF = 5
_Z = 1.96


def background_measures(cells: Cells, threads: int = THREADS) -> Measures:
    """Numbers of each picture that do not depend on its cell.

    Returns a dict from each name in BACKGROUND's values to float32 (n,), in grey levels:
    background red, green, blue: the colour of the glass, from the bright end of what lies away from the centre;
    background sharpness: the mean size of the Laplacian on glass there, which noise, blur and compression change;
    border step: how much the outermost line of pixels differs from the next, beyond what that one differs from the
    one after it; border distance from glass: of the outermost pixels, at their median. A frame changes either.
    """
    names = [name for columns in BACKGROUND.values() for name in columns]
    found = np.zeros((len(cells), len(names)), np.float32)
    for rows, values in over_batches(cells, _measure, threads):
        found[rows] = values
    return {name: np.ascontiguousarray(found[:, column]) for column, name in enumerate(names)}


def find_shortcuts(
    cells: Cells,
    measures: Mapping[str, Floats],
    facts: Mapping[str, NDArray[Any]] | None = None,
    groups: NDArray[Any] | None = None,
    learn: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """How well each candidate alone tells the label, out of sample, the best first.

    measures: what `background_measures` gives. facts: what is known of each picture's file, as a name ("file size",
    "picture width", "JPEG quality", ...) and numbers or words (n,), NaN or "" where unknown. groups: (n,), equal for
    copies, which then stand on one side. learn: bool (n,), the rows to look at, all labelled ones when it is None.

    A small decision tree guesses the label in five-fold cross-validation, every class weighing the same. One class
    told from the rest hardly shows in the balanced accuracy, so the candidates are ranked by the class that is told
    best: gain is 2 AUC - 1 for that class against the rest, 0 by chance and 1 when it is told without fail.

    Returns a row for each candidate: candidate, class_name, auc with auc_low and auc_high (95%; Hanley and McNeil, The
    meaning and use of the area under a ROC curve, 1982), gain, balanced_accuracy with its 95% interval
    balanced_accuracy_low and _high, chance, is_shortcut (gain surely above NOTEWORTHY), and finding, a sentence. The
    table is empty where fewer than two classes have enough labelled pictures. Raises InputError when rows disagree.
    """
    import pandas as pd

    facts = facts or {}
    for name, values in {**measures, **facts}.items():
        if len(values) != len(cells):
            raise InputError(f"'{name}' has {len(values):,} values for {len(cells):,} pictures; give one for each.")
    judged = judged_rows(cells.labels, len(cells.class_names)) & (True if learn is None else learn)
    names = [cells.class_names[label] for label in np.unique(cells.labels[judged])]
    labels = np.unique(cells.labels[judged], return_inverse=True)[1].astype(np.int64)
    groups = np.arange(len(cells)) if groups is None else groups
    fold = deal_folds(labels, groups[judged], np.random.default_rng(0))
    candidates: dict[str, Columns] = {
        candidate: {name: measures[name][judged] for name in columns} for candidate, columns in BACKGROUND.items()
    }
    candidates |= {name: {name: values[judged]} for name, values in facts.items()}

    found = [
        {"candidate": candidate, **_told(candidate, columns, labels, names, fold)}
        for candidate, columns in candidates.items()
        if len(names) > 1
    ]
    table = pd.DataFrame(found, columns=["candidate", *_COLUMNS])
    return table.sort_values(["gain", "candidate"], ascending=[False, True], ignore_index=True)


_COLUMNS = (
    "class_name",
    "auc",
    "auc_low",
    "auc_high",
    "gain",
    "balanced_accuracy",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "chance",
    "is_shortcut",
    "finding",
)


def _told(
    candidate: str, columns: Columns, labels: NDArray[np.int64], names: list[str], fold: NDArray[np.int64]
) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score
    from sklearn.tree import DecisionTreeClassifier

    known = np.stack([_as_numbers(values) for values in columns.values()], axis=1)
    guessed = np.zeros((len(labels), len(names)))
    for number in np.unique(fold):
        rest = fold != number
        tree = DecisionTreeClassifier(
            max_leaf_nodes=_LEAVES,
            min_samples_leaf=max(_LEAST_LEAF, len(labels) // 1000),
            class_weight="balanced",
            random_state=0,
        ).fit(known[rest], labels[rest])
        guessed[np.ix_(fold == number, tree.classes_)] = tree.predict_proba(known[~rest])

    areas = [float(roc_auc_score(labels == label, guessed[:, label])) for label in range(len(names))]
    best = int(np.argmax(areas))
    here = labels == best
    error = _Z * _area_error(areas[best], int(here.sum()), int((~here).sum()))
    low, high = max(areas[best] - error, 0.0), min(areas[best] + error, 1.0)

    counts = np.bincount(labels)
    recalls = np.bincount(labels[guessed.argmax(axis=1) == labels], minlength=len(names)) / counts
    accuracy = float(recalls.mean())
    half = _Z * float(np.sqrt((recalls * (1 - recalls) / counts).sum())) / len(names)
    chance = 1 / len(names)
    return {
        "class_name": names[best],
        "auc": areas[best],
        "auc_low": low,
        "auc_high": high,
        "gain": 2 * areas[best] - 1,
        "balanced_accuracy": accuracy,
        "balanced_accuracy_low": max(accuracy - half, 0.0),
        "balanced_accuracy_high": min(accuracy + half, 1.0),
        "chance": chance,
        "is_shortcut": 2 * low - 1 > NOTEWORTHY,
        "finding": f"{candidate} alone tells {names[best]} from the other classes with AUC {areas[best]:.2f} "
        f"(0.50 is chance){_difference(columns, here)}; over all classes it reaches a balanced accuracy of "
        f"{accuracy:.2f}, chance being {chance:.2f}",
    }


def _difference(columns: Columns, here: NDArray[np.bool_]) -> str:
    """In what the class differs most from the rest, in words."""
    apart: tuple[float, str] = (0.0, "")
    for name, values in columns.items():
        if values.dtype.kind not in "biuf":
            words = [_commonest(values[rows]) for rows in (here, ~here)]
            return f": {name} is mostly {words[0]} there and {words[1]} elsewhere" if words[0] != words[1] else ""
        some = [values[rows & np.isfinite(values)] for rows in (here, ~here)]
        if not all(map(len, some)):
            continue
        mine, others = (float(np.median(side)) for side in some)
        spread = float(np.median(np.abs(some[1] - others))) + 1e-3 * abs(others) + 1e-6
        if (share := abs(mine - others) / spread) > apart[0]:
            apart = (
                share,
                f": {name} has the median {measured(name, mine)} there and {measured(name, others)} elsewhere",
            )
    return apart[1]


def _commonest(words: NDArray[Any]) -> str:
    different, counts = np.unique(words.astype(str), return_counts=True)
    return str(different[counts.argmax()])


def _area_error(area: float, positives: int, negatives: int) -> float:
    """The standard error of an area under the curve. Hanley and McNeil, 1982."""
    one, two = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (one - area**2) + (negatives - 1) * (two - area**2)
    return float(np.sqrt(max(variance, 0) / (positives * negatives)))


def _as_numbers(values: NDArray[Any]) -> Floats:
    """Words become the rank of their frequency, so that a tree can part the common ones from the rare."""
    if values.dtype.kind in "biuf":
        numbers = np.asarray(values, np.float32)
        return np.where(np.isfinite(numbers), numbers, np.float32(np.nan))
    words, place, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    rank = np.empty(len(words), np.float32)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(words))
    return np.asarray(rank[place])


def _measure(images: Images) -> Floats:
    return np.concatenate([_measure_some(images[at : at + _STEP]) for at in range(0, len(images), _STEP)])


def _measure_some(images: Images) -> Floats:
    count, height, width, _ = images.shape
    outside = _outside(height, width)
    around = images.reshape(count, -1, 3)[:, np.flatnonzero(outside)[::2]]
    glass = np.quantile(around, _GLASS_QUANTILE, axis=1).astype(np.float32)

    grey = images.mean(axis=3, dtype=np.float32)
    clear = np.abs(images - glass[:, None, None]).max(axis=3) <= _GLASS_RANGE
    # Glass with glass all around: the edge of a cell or of a frame says nothing of how sharp the background is.
    here, *beside = (_shifted(clear, *step) for step in _NEIGHBOURS)
    clear = here & outside[1:-1, 1:-1] & np.logical_and.reduce(beside)
    here, *beside = (_shifted(grey, *step) for step in _NEIGHBOURS)
    sharpness = (np.abs(sum(beside) - 4 * here) * clear).sum((1, 2)) / np.maximum(clear.sum((1, 2)), 1)

    lines = [_line(grey, depth) for depth in range(3)]
    step = np.abs(lines[0] - lines[1]).mean(1) - np.abs(lines[1] - lines[2]).mean(1)
    edge = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    away = np.median(np.abs(edge - glass[:, None]).max(axis=2), axis=1)
    return np.column_stack([glass, sharpness, step, away]).astype(np.float32)


def _shifted(values: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    """A view on what stands so many pixels down and right of each pixel inside the picture."""
    height, width = values.shape[1:3]
    return values[:, 1 + down : height - 1 + down, 1 + right : width - 1 + right]


def _line(grey: Floats, depth: int) -> Floats:
    """The four lines of pixels at a depth from the edge, but for the corners: (n, 2 (height + width) - 24)."""
    last = -1 - depth
    sides = (grey[:, depth, 3:-3], grey[:, last, 3:-3], grey[:, 3:-3, depth], grey[:, 3:-3, last])
    return np.concatenate(sides, axis=1)


@lru_cache(maxsize=4)
def _outside(height: int, width: int) -> NDArray[np.bool_]:
    """(height, width): the pixels away from the centre."""
    y, x = (np.abs(2 * np.arange(side) / max(side - 1, 1) - 1) for side in (height, width))
    return np.asarray(np.hypot(y[:, None], x[None, :]) >= _OUTSIDE)
