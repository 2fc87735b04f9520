"""Labels as arrays hold them (numbers, a column of numbers, one-hot, names) to positions in the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.classes import CLASS_NAMES, LABEL_ORDER_NOTE, label_table
from hemascope.errors import InputError
from hemascope.wording import many


def labels_of(
    values: NDArray[Any],
    *,
    images: tuple[str, int],
    name: str,
    file: str,
    class_names: tuple[str, ...] | None = None,
    class_map: Mapping[str, str] | None = None,
    classes: tuple[str, ...] = CLASS_NAMES,
) -> tuple[NDArray[np.int64], str]:
    """Labels int64 (n,), positions in classes, and a sentence when they were numbers without names.

    values: whole numbers or names, (n,) or (n, 1), or one-hot (n, classes). images: the name and the number of the
    pictures. class_names: what the numbers mean; without it, the eight cells. class_map: as in `load`. classes: the
    eight cells and any others that labels may name.
    Raises InputError, with the row, for a wrong shape or length and for every label that means none of the classes.
    """
    others, rows = images
    if values.ndim == 0 or len(values) != rows:
        count = len(values) if values.ndim else 1
        remedy = "image or add its label" if count < rows else "label or add its image"
        raise InputError(
            f"{file}: '{name}' has {many(count, 'row')} but '{others}' has {rows:,}; remove the extra {remedy}."
        )
    width = len(class_names or CLASS_NAMES)
    shape = values.shape
    if shape[1:] == (1,):
        values = values[:, 0]
    elif shape[1:] == (width,) and values.dtype.kind in "biuf":
        values = _from_one_hot(values, name, file)
    if values.ndim != 1:
        raise InputError(
            f"{file}: '{name}' has shape {shape}; expected ({rows},), ({rows}, 1) or one-hot ({rows}, {width})."
        )
    if values.dtype.kind in "US":
        return _looked_up(values.astype(np.str_), class_map, file, classes), ""
    numbers = _whole_numbers(values, name, file)
    _refuse_outside(numbers, width, class_map if class_names is None else None, name, file)
    if class_names is None:
        return _looked_up(numbers.astype(np.str_), class_map, file, classes), LABEL_ORDER_NOTE
    table = label_table(class_names, class_map, file, classes)
    return np.array([table[cell] for cell in class_names], np.int64)[numbers], ""


def _looked_up(
    names: NDArray[np.str_], class_map: Mapping[str, str] | None, file: str, classes: tuple[str, ...]
) -> NDArray[np.int64]:
    distinct, place = np.unique(names, return_inverse=True)
    table = label_table((str(label) for label in distinct), class_map, file, classes)
    return np.array([table[str(label)] for label in distinct], np.int64)[place]


def _from_one_hot(values: NDArray[Any], name: str, file: str) -> NDArray[np.int64]:
    clean = ((values == 0) | (values == 1)).all(axis=1) & ((values == 1).sum(axis=1) == 1)
    if not clean.all():
        raise InputError(f"{file}: '{name}' row {np.argmin(clean)} is not one-hot; expected one 1 and zeros elsewhere.")
    return np.asarray(values.argmax(axis=1), np.int64)


def _whole_numbers(values: NDArray[Any], name: str, file: str) -> NDArray[np.int64]:
    if values.dtype.kind not in "iuf":
        raise InputError(f"{file}: '{name}' has dtype {values.dtype}; expected whole numbers or class names.")
    whole = np.isfinite(values) & (np.trunc(values) == values) & (np.abs(values.astype(np.float64)) < 2**31)
    if not whole.all():
        row = int(np.argmin(whole))
        raise InputError(f"{file}: '{name}' row {row} is {values[row]}, which is no label; expected a whole number.")
    return values.astype(np.int64)


def _refuse_outside(
    numbers: NDArray[np.int64], classes: int, class_map: Mapping[str, str] | None, name: str, file: str
) -> None:
    mapped = [int(key) for key in class_map or {} if key.strip().isdecimal()]
    outside = ((numbers < 0) | (numbers >= classes)) & ~np.isin(numbers, mapped)
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(
            f"{file}: '{name}' row {row} is {numbers[row]}, but labels run from 0 to {classes - 1}; correct it or take "
            "that picture out."
        )
