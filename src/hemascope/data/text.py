"""Sentences and names that every reader shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hemascope.data.classes import nearest
from hemascope.errors import InputError

NO_GROUPS_NOTE = (
    "The data do not say which pictures come from the same patient, so one patient may stand on both sides of a split "
    "and the figures say nothing about new patients; name the column with --group-by if there is one."
)

# What people call the columns of a table of pictures, the commonest first; case and underscores do not matter.
PATH_COLUMNS = (
    "path",
    "file",
    "filename",
    "image",
    "filepath",
    "imagepath",
    "imgpath",
    "imagefile",
    "imgname",
    "imagename",
)
LABEL_COLUMNS = ("label", "class", "celltype", "classname", "labels", "target", "category")
SPLIT_COLUMNS = ("split", "set", "subset", "partition")

_SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "cal": "calibration",
    "calib": "calibration",
    "calibration": "calibration",
    "test": "test",
    "testing": "test",
}


def known_split(name: str) -> str | None:
    """The split that a name means ("val" is "validation"), or None."""
    return _SPLIT_OF.get(name.strip().casefold())


def split_name(name: str, source: str) -> str:
    """The split that a name means. Raises InputError when it means none."""
    split = known_split(name)
    if split is None:
        raise InputError(f"{source}: the split '{name}' is not known; expected train, validation, calibration or test.")
    return split


def find_column(columns: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted columns that a table has, whatever its case, spaces and underscores; None without one."""
    plain = {column.strip().casefold().replace("_", "").replace(" ", "").replace("-", ""): column for column in columns}
    return next((plain[name] for name in wanted if name in plain), None)


def need_column(columns: Sequence[str], wanted: Sequence[str], source: str, what: str) -> str:
    """As `find_column`. Raises InputError when there is none, with the columns found."""
    column = find_column(columns, wanted)
    if column is None:
        found = ", ".join(f"'{name}'" for name in columns) or "none"
        raise InputError(f"{source}: no column for {what} among {found}; name one '{wanted[0]}'.")
    return column


def group_column(columns: Sequence[str], group_by: str, source: str) -> str:
    """The column to group by. Raises InputError when it is missing, with the one spelt most like it."""
    if group_by in columns:
        return group_by
    near = nearest(group_by, columns)
    remedy = f"did you mean '{near}'?" if near else "it has " + ", ".join(f"'{name}'" for name in columns) + "."
    raise InputError(f"{source}: has no column '{group_by}' to group by; {remedy}")


def resized_note(before: Iterable[tuple[int, int]], cut: Iterable[tuple[int, int]], after: tuple[int, int]) -> str:
    """What was done to the shapes (height, width) of the pictures, in one sentence; empty when nothing was done.

    before, cut: the shapes as they came and as they were cut. after: the shape of all of them now.
    """
    shapes, cuts = set(before), set(cut)

    def shown(found: set[tuple[int, int]], several: str) -> str:
        return several if len(found) != 1 else "{1} x {0} pixels".format(*next(iter(found)))

    was_cut, was_resized = cuts != shapes, cuts != {after}
    if not was_cut and not was_resized:
        return ""
    steps = [f"cut to the central {shown(cuts, 'square')}"] if was_cut else []
    steps += [f"resized to {after[1]} x {after[0]} with antialiasing"] if was_resized else []
    return f"The pictures were {shown(shapes, 'of several sizes')}; each was {', then '.join(steps)}."
