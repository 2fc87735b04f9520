"""Divide cells into training, validation, calibration and test rows, copies and groups kept together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    free = np.flatnonzero(assigned == "")
    assigned[free] = _assign(units[free], cells.labels[free], wanted, seed, cells)
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
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

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
    units: NDArray[np.int64], labels: NDArray[np.int64], wanted: Mapping[str, float], seed: int, cells: Cells
) -> NDArray[np.str_]:
    """A split name for each row: whole units at a time, the share of every class as near to `wanted` as they allow."""
    from scipy.sparse import coo_array

    names = np.array(list(wanted), dtype="<U11")
    classes, label = np.unique(labels, return_inverse=True)
    _, unit, size = np.unique(units, return_inverse=True, return_counts=True)
    for place in range(len(classes)):
        if (count := len(np.unique(unit[label == place]))) < len(names):
            raise InputError(
                f"{cells.source}: class '{cells.class_names[classes[place]]}' has pictures of {count} independent "
                f"group(s); give at least {len(names)}, one for each of {', '.join(names)}."
            )
    totals = np.bincount(label)
    share = np.array(list(wanted.values())) / sum(wanted.values())
    quota = np.maximum(share[:, None] * totals, 1.0)
    quota[0] = totals - quota[1:].sum(axis=0)
    choice = np.full(len(size), -1)
    taken = np.zeros_like(quota)

    large = np.random.default_rng([seed, 20_602]).permutation(np.flatnonzero(size > 1))
    large = large[np.argsort(-size[large], kind="stable")]
    content = coo_array((np.ones(len(unit)), (unit, label)), shape=(len(size), len(totals))).tocsr()
    for done, member in enumerate(large):
        rows = content[[member]].toarray()[0]
        # What the squared distance from the wanted shares, each class and split in its own measure, would grow by.
        growth = (rows * (2 * (taken - quota) + rows) / (totals**2 * share[:, None])).sum(axis=1)
        empty = taken.sum(axis=1) == 0
        if len(size) - done <= empty.sum():
            growth[~empty] = np.inf
        choice[member] = np.argmin(growth)
        taken[choice[member]] += rows

    rng = np.random.default_rng([seed, 20_601])
    for place in range(len(classes)):
        single = np.unique(unit[(label == place) & (size[unit] == 1)])
        order = single[rng.permutation(len(single))]
        left = np.maximum(quota[:, place] - taken[:, place], 1e-9)
        ends = np.rint(np.cumsum(left) / left.sum() * len(order)).astype(int)
        choice[order] = np.searchsorted(ends, np.arange(len(order)), side="right")
    return np.asarray(names[choice[unit]])
