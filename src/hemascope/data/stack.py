"""Several cells one after the other, read as one, without copying their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Cells, Images, Pictures
from hemascope.errors import InputError


class PictureStack:
    """Pictures of one size that lie in several places, counted through; rows are read when they are asked for."""

    def __init__(self, parts: Sequence[Pictures]) -> None:
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.starts[-1]), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: Any) -> Images:
        wanted = np.arange(len(self))[rows]
        flat = np.atleast_1d(wanted)
        pictures = np.empty((len(flat), *self.shape[1:]), np.uint8)
        owner = np.searchsorted(self.starts, flat, side="right") - 1
        for part in np.unique(owner):
            mine = owner == part
            pictures[mine] = self.parts[part][flat[mine] - self.starts[part]]
        return pictures if np.ndim(wanted) else pictures[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def concatenate(parts: Sequence[Cells]) -> Cells:
    """Several cells as one, in order; pictures are not copied.

    A column that only some of them have (split, groups, jpeg) is left out, jpeg excepted, where absent means no.
    Raises InputError when their picture sizes or their classes differ.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if part.images.shape[1:] != first.images.shape[1:]:
            sizes = [f"{shape[2]} x {shape[1]}" for shape in (first.images.shape, part.images.shape)]
            raise InputError(
                f"{part.source or 'cells'}: pictures of {sizes[1]} cannot stand beside {sizes[0]}; give one --size."
            )
        if part.class_names != first.class_names:
            raise InputError(
                f"{part.source or 'cells'}: its classes differ from those of {first.source or 'the first'}."
            )

    def joined(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if any(column is None for column in columns) else np.concatenate(columns)

    jpeg = None
    if any(part.jpeg is not None for part in parts):
        jpeg = np.concatenate([np.zeros(len(part), np.bool_) if part.jpeg is None else part.jpeg for part in parts])
    return Cells(
        images=PictureStack([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        class_names=first.class_names,
        ids=np.concatenate([part.ids for part in parts]),
        split=joined("split"),
        groups=joined("groups"),
        source=", ".join(dict.fromkeys(part.source for part in parts if part.source)),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        unreadable={name: reason for part in parts for name, reason in part.unreadable.items()},
        jpeg=jpeg,
        facts={
            name: np.concatenate([part.facts[name] for part in parts])
            for name in first.facts
            if all(name in part.facts for part in parts)
        },
    )
