"""Divide cells into training, validation, calibration and test rows, copies and groups kept together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hemascope.data import SPLITS, Cells
from hemascope.data.hashes import pixel_hashes
from hemascope.errors import InputError

FRACTIONS: Mapping[str, float] = {"train": 0.76, "validation": 0.08, "calibration": 0.08, "test": 0.08}
"""Validation stops and selects, calibration fits confidence and never stops or selects, test is scored once."""


def split(
    cells: Cells,
    *,
    seed: int = 0,
    fractions: Mapping[str, float] = FRACTIONS,
    hashes: NDArray[Any] | None = None,
) -> Cells:
    """The same cells with `split` filled: one of "train", "validation", "calibration", "test" for each row.

    Stratified by class and decided by the seed. All exact copies of a picture (`hashes`, (n,), computed when not
    given) and all pictures of a group (`cells.groups`) stand on one side. A split that the source brought is kept;
    what it lacks of validation and calibration rows is cut from its training rows, and test rows too when it has
    none. Raises InputError when there is one class only, or too few pictures of a class to stand in every split.
    """
    _check(cells)
    units = _units(cells, pixel_hashes(cells) if hashes is None else hashes)
    if cells.split is None:
        assigned = np.full(len(cells), "", "<U11")
        wanted = dict(fractions)
    else:
        assigned = cells.split.astype("<U11")
        present = {name for name in SPLITS if (assigned == name).any()}
        if "train" not in present:
            raise InputError(f"{cells.source}: its own split has no training rows; give a file that has some.")
        wanted = {name: share for name, share in fractions.items() if name == "train" or name not in present}
        assigned[assigned == "train"] = ""
    rng = np.random.default_rng([seed, 20_601])
    free = assigned == ""
    for label in np.unique(cells.labels):
        rows = np.flatnonzero(free & (cells.labels == label))
        if len(rows):
            assigned[rows] = _assign(units[rows], wanted, rng, str(cells.class_names[label]), cells.source)
    if cells.split is None:
        assigned = _one_side(units, assigned)
    return replace(cells, split=assigned)


def _check(cells: Cells) -> None:
    counts = {name: count for name, count in cells.class_counts().items() if count}
    if not cells.labelled:
        raise InputError(
            f"{cells.source}: {int((cells.labels < 0).sum()):,} of {len(cells):,} pictures have no label; "
            "training needs a label for each."
        )
    if len(counts) < 2:
        raise InputError(
            f"{cells.source}: all {len(cells):,} pictures are of one class ({next(iter(counts))}); "
            "training needs at least two classes."
        )
    if small := {name: count for name, count in counts.items() if count < len(SPLITS)}:
        name, count = next(iter(small.items()))
        raise InputError(
            f"{cells.source}: class '{name}' has {count} picture{'s' if count > 1 else ''}; give at least "
            f"{len(SPLITS)} (one each for {', '.join(SPLITS)}) or leave the class out."
        )


def _units(cells: Cells, hashes: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each row; rows that share pixels or a group, directly or through others, share it.

    Units are numbered by their first row, so that the split does not depend on how pixels are hashed.
    """
    count = len(cells)
    units = np.unique(hashes, return_inverse=True)[1].astype(np.int64)
    if cells.groups is not None:
        by_group = np.unique(cells.groups, return_inverse=True)[1]
        rows = np.arange(count)
        sources = np.concatenate([rows, rows])
        targets = np.concatenate([count + units, 2 * count + by_group])
        graph = coo_array((np.ones(2 * count, np.int8), (sources, targets)), shape=(3 * count, 3 * count))
        units = connected_components(graph, directed=False)[1][:count].astype(np.int64)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _assign(
    units: NDArray[np.int64], wanted: Mapping[str, float], rng: np.random.Generator, name: str, source: str
) -> NDArray[np.str_]:
    """A split name for each row of one class, whole units at a time, shares as near to `wanted` as they allow."""
    members, inverse, sizes = np.unique(units, return_inverse=True, return_counts=True)
    if len(members) < len(wanted):
        raise InputError(
            f"{source}: class '{name}' has pictures of {len(members)} independent group(s) only; "
            f"give at least {len(wanted)}, one for each of {', '.join(wanted)}."
        )
    share = np.array(list(wanted.values())) / sum(wanted.values())
    quota = np.maximum(share * len(units), 1.0)
    quota[0] = len(units) - quota[1:].sum()
    choice = np.zeros(len(members), np.int64)
    order = rng.permutation(len(members))
    order = order[np.argsort(-sizes[order], kind="stable")]
    large = order[sizes[order] > 1]
    for unit in large:
        place = int(np.argmax(quota))
        choice[unit] = place
        quota[place] -= sizes[unit]
    single = order[len(large) :]
    ends = np.rint(np.cumsum(np.maximum(quota, 0)) / max(np.maximum(quota, 0).sum(), 1e-9) * len(single)).astype(int)
    choice[single] = np.searchsorted(ends, np.arange(len(single)), side="right")
    return np.array(list(wanted), dtype="<U11")[choice[inverse]]


def _one_side(units: NDArray[np.int64], assigned: NDArray[np.str_]) -> NDArray[np.str_]:
    """A unit that holds several classes was divided class by class: all of it follows its first row."""
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    return assigned[first][inverse]
