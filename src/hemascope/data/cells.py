"""The one type that pictures of cells travel in, whatever file they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from hemascope.errors import InputError
from hemascope.field import FieldOfView
from hemascope.wording import many

SPLITS = ("train", "validation", "calibration", "test")
UNKNOWN_LABEL = -1

Images = NDArray[np.uint8]
Rows = NDArray[np.int64]


class Pictures(Protocol):
    """Pictures that can be read by row: an array, a memory map, or a view that reads from either on demand.

    Indexing with a slice or with an array of row numbers gives uint8 (n, height, width, 3).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> Images: ...
    @overload
    def __getitem__(self, rows: slice | Rows) -> Images: ...


class PictureView:
    """Some rows of other pictures, read when they are asked for, so that a subset of a large file costs nothing."""

    def __init__(self, pictures: Pictures, rows: Rows) -> None:
        # A view of a view looks straight at the pictures, so that chains of subsets stay as fast as one.
        below = pictures if isinstance(pictures, PictureView) else None
        self.pictures: Pictures = pictures if below is None else below.pictures
        self.rows: Rows = rows if below is None else below.rows[rows]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.pictures.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Images:
        return np.asarray(self.pictures[self.rows[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class Cells:
    """Pictures of single cells and what is known of them.

    images: `Pictures`, uint8 (n, height, width, 3), RGB.
    labels: int64 (n,), positions in class_names; -1 where a picture has no label.
    class_names: the names, in the order of the labels.
    ids: str (n,), unique; each leads back to the source ("training_set.npz#17", "basophil/BA_1.jpg").
    split: str (n,), one of SPLITS for each row, when the source brought its own split; otherwise None.
    groups: str (n,), the patient or slide of each picture; None when the source does not say.
    source: the name of the file or folder.
    notes: sentences on what reading had to do (resized, rescaled, ...), each said once.
    unreadable: id -> why it could not be read; those pictures are not among the rows.
    jpeg: bool (n,), whether the picture was decoded from JPEG (decoders differ by a grey level), or None for no row.
    facts: name ("file size", "picture width", "JPEG quality", "mode", ...) -> numbers or words (n,), what is known of
        each picture's file; NaN or "" where unknown.
    field: how wide each picture is, where the user says it.
    """

    images: Pictures
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    ids: NDArray[np.str_]
    split: NDArray[np.str_] | None = None
    groups: NDArray[np.str_] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = dataclass_field(default_factory=dict)
    jpeg: NDArray[np.bool_] | None = None
    facts: Mapping[str, NDArray[Any]] = dataclass_field(default_factory=dict)
    field: FieldOfView | None = None

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        labelled = int((self.labels >= 0).sum())
        present = len({label for label in self.labels.tolist() if label >= 0})
        told = f"{many(len(self), 'picture')} of {width} x {height} pixels, {labelled:,} labelled, "
        return f"<Cells: {told}{many(present, 'class', 'classes')}, from {self.source or 'memory'}>"

    def __post_init__(self) -> None:
        rows = len(self.images)
        for name in ("labels", "ids", "split", "groups", "jpeg"):
            values = getattr(self, name)
            if values is not None and len(values) != rows:
                raise InputError(
                    f"{self.source or 'cells'}: '{name}' has {many(len(values), 'row')} but 'images' has {rows:,}; "
                    "give one for each image."
                )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Rows | NDArray[np.bool_]) -> Cells:
        """The given rows (int positions or a bool mask), in that order; pictures are read only when asked for."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, np.int64)

        def of(values: Any) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            images=PictureView(self.images, rows),
            labels=self.labels[rows],
            ids=self.ids[rows],
            split=of(self.split),
            groups=of(self.groups),
            jpeg=of(self.jpeg),
            facts={name: values[rows] for name, values in self.facts.items()},
        )

    def in_split(self, name: str) -> Cells:
        """The rows whose split has that name. Raises InputError when the cells are not split yet."""
        if self.split is None:
            raise InputError(f"{self.source or 'cells'}: the cells are not split yet; call hemascope.split first.")
        return self.take(np.flatnonzero(self.split == name))

    def batches(self, size: int = 1024) -> Iterator[tuple[slice, Images]]:
        """Walk over the pictures in order: (row slice, uint8 (<= size, height, width, 3)), bounded in memory."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, np.asarray(self.images[rows])

    @property
    def labelled(self) -> bool:
        """Whether every picture has a label."""
        return bool(len(self)) and bool((self.labels >= 0).all())

    def class_counts(self) -> dict[str, int]:
        """How many pictures each class has, in the order of class_names; unlabelled pictures are not counted."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names))
        return {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}

    def with_classes(self, class_names: tuple[str, ...]) -> Cells:
        """The same cells with labels counted in another list of classes, matched by name.

        Raises InputError when a picture's class is not in that list.
        """
        if class_names == self.class_names:
            return self
        place = {name: position for position, name in enumerate(class_names)}
        present = [name for name, count in self.class_counts().items() if count]
        if missing := [name for name in present if name not in place]:
            raise InputError(
                f"{self.source or 'cells'}: has pictures of {', '.join(missing)}, but the classes expected are "
                f"{', '.join(class_names)}; leave those pictures out or map them with --map."
            )
        table = np.array([place.get(name, UNKNOWN_LABEL) for name in self.class_names] + [UNKNOWN_LABEL], np.int64)
        return replace(self, labels=table[self.labels], class_names=class_names)
