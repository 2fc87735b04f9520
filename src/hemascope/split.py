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
from hemascope.wording import every, many

FRACTIONS: Mapping[str, float] = {"train": 0.76, "validation": 0.08, "calibration": 0.08, "test": 0.08}
"""Validation stops and selects, calibration fits confidence and never stops or selects, test is scored once."""


def split(
    cells: Cells,
    *,
    seed: int = 0,
    fractions: Mapping[str, float] = FRACTIONS,
    hashes: NDArray[Any] | None = None,
    near: NDArray[np.int64] | None = None,
) -> Cells:
    """The same cells with `split` filled: one of "train", "validation", "calibration", "test" for each row.

    Stratified by class and decided by the seed. All exact copies of a picture (`hashes`, (n,), computed when not
    given) and all pictures of a group (`cells.groups`) stand on one side. near: (n,), equal for near copies, as
    `near_copy_groups` gives them; they are then brought to the side where most of them stand, the one held out
    longest when several have as many, and the rest of the split stays as it is without. A split that the source brought
    is kept; what it lacks of validation and calibration rows is cut from its training rows, and test rows too when it
    has none. Raises InputError when there is one class only, or too few pictures of a class to stand in every split.
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
    if near is not None:
        assigned[free] = _brought_together(assigned[free], _joined(units[free], near[free]), cells.take(free))
    return replace(cells, split=assigned)


def _check(cells: Cells) -> None:
    counts = {name: count for name, count in cells.class_counts().items() if count}
    if not cells.labelled:
        missing = int((cells.labels < 0).sum())
        raise InputError(
            f"{cells.source}: {missing:,} of {many(len(cells), 'picture')} {'has' if missing == 1 else 'have'} no label"
            "; training needs a label for each."
        )
    if len(counts) < 2:
        raise InputError(
            f"{cells.source}: {every(len(cells), 'picture is', 'pictures are')} of one class ({next(iter(counts))}); "
            "training needs at least two classes."
        )
    if small := {name: count for name, count in counts.items() if count < len(SPLITS)}:
        name, count = next(iter(small.items()))
        raise InputError(
            f"{cells.source}: class '{name}' has {many(count, 'picture')}; give at least "
            f"{len(SPLITS)} (one each for {', '.join(SPLITS)}) or leave the class out."
        )


def _units(cells: Cells, hashes: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each row; rows that share pixels or a group, directly or through others, share it.

    Units are numbered by their first row, so that the split does not depend on how pixels are hashed.
    """
    units = np.unique(hashes, return_inverse=True)[1].astype(np.int64)
    if cells.groups is not None:
        units = _joined(units, cells.groups)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _joined(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each row; rows that are equal in one or the other, directly or through others, share it."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(one)
    rows = np.arange(count)
    sources = np.concatenate([rows, rows])
    places = [np.unique(values, return_inverse=True)[1].reshape(-1) for values in (one, other)]
    targets = np.concatenate([count + places[0], 2 * count + places[1]])
    graph = coo_array((np.ones(2 * count, np.int8), (sources, targets)), shape=(3 * count, 3 * count))
    return np.asarray(connected_components(graph, directed=False)[1][:count], np.int64)


def _brought_together(assigned: NDArray[np.str_], group: NDArray[np.int64], cells: Cells) -> NDArray[np.str_]:
    """The same sides, but each group on one: where most of it stands, the last of SPLITS when several have as many.

    Held out, since the training rows are many and lose little by it.

    Raises InputError when a class would be left without a picture on a side where it had some.
    """
    side = np.select([assigned == name for name in SPLITS], list(range(len(SPLITS))))
    _, number = np.unique(group, return_inverse=True)
    counts = np.zeros((number.max(initial=-1) + 1, len(SPLITS)), np.int64)
    np.add.at(counts, (number, side), 1)
    most = len(SPLITS) - 1 - counts[:, ::-1].argmax(axis=1)
    together: NDArray[np.str_] = np.asarray(SPLITS, assigned.dtype)[most[number]]
    for label, name in enumerate(cells.class_names):
        mine = cells.labels == label
        if gone := sorted(set(assigned[mine].tolist()) - set(together[mine].tolist())):
            raise InputError(
                f"{cells.source}: class '{name}' has so many near copies that none of its cells is left for "
                f"{gone[0]}; give more different ones, or leave the class out."
            )
    return together


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
