"""Read challenge and MedMNIST npz files, and write them again with changes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import UNKNOWN_LABEL, Cells, Images, Pictures
from hemascope.data.changes import Changes
from hemascope.data.classes import CLASS_NAMES, class_of, nearest
from hemascope.data.labels import labels_of
from hemascope.data.members import Member, open_members
from hemascope.data.pixels import MIN_SIDE, Scale, expected_ranges, scale_for, to_rgb
from hemascope.data.stack import concatenate
from hemascope.data.storage import allocate
from hemascope.data.text import group_column, resized_note, split_name
from hemascope.errors import InputError
from hemascope.files import replacing
from hemascope.resize import central_window, resize
from hemascope.wording import many

# The prefixes of MedMNIST's arrays (Yang et al., MedMNIST v2, 2023) and the split that each stands for.
MEDMNIST_PARTS = {"train": "train", "val": "validation", "test": "test"}
_COLUMNS = ("ids", "groups", "split", "jpeg")
# How many bytes of a stored array are read at a time where its pictures are taken one after the other.
_STREAM_BYTES = 2**22


@dataclass(frozen=True)
class _Wishes:
    """What the caller of `load` asked for."""

    size: int | None
    crop: int | None
    class_map: Mapping[str, str] | None
    group_by: str | None
    classes: tuple[str, ...]


def read_npz(
    path: Path,
    *,
    size: int | None = 96,
    crop: int | None = None,
    class_map: Mapping[str, str] | None = None,
    group_by: str | None = None,
    classes: tuple[str, ...] = CLASS_NAMES,
) -> Cells:
    """Cells of an npz with `images` and `labels`, or with MedMNIST's `train_images`, `train_labels`, ....

    Without labels all are -1. String arrays `class_names` (what the labels mean), `ids`, `groups` and `split` are
    taken when they are there. Raises InputError for everything that is not one of the two, or whose values cannot be
    pictures and labels.
    """
    members = open_members(path)
    wishes = _Wishes(size, crop, class_map, group_by, classes)
    if "images" in members:
        return _read_challenge(members, path, wishes)
    parts = [prefix for prefix in MEDMNIST_PARTS if f"{prefix}_images" in members]
    if not parts:
        found = ", ".join(f"'{name}'" for name in members) or "no arrays"
        raise InputError(
            f"{path.name}: holds {found}; expected 'images' and 'labels' (or MedMNIST's 'train_images', ...), "
            "so name them so in numpy.savez."
        )
    if group_by is not None:
        raise InputError(f"{path.name}: a MedMNIST file names no patients, so leave --group-by {group_by} out.")
    return concatenate([_read_medmnist_part(members, prefix, path, wishes) for prefix in parts])


def rewrite_npz(path: Path, out: Path, changes: Changes) -> None:
    """The same arrays (names, types and shapes, compressed where they were), less the rows that do not stay."""
    members = open_members(path)
    if "images" in members:
        parts = {"": slice(0, len(changes.keep))}
    else:
        sizes = [len(members.get(f"{prefix}_images", ())) for prefix in MEDMNIST_PARTS]
        ends = np.cumsum([0, *sizes])
        parts = {f"{prefix}_": slice(ends[at], ends[at + 1]) for at, prefix in enumerate(MEDMNIST_PARTS)}
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, member in members.items():
            place = next((rows for prefix, rows in parts.items() if name.startswith(prefix)), slice(0, 0))
            keep = changes.keep[place]
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_STORED if member.stored else zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as stream:
                if member.shape[:1] != keep.shape or name == "class_names":
                    np.lib.format.write_array(stream, member.read(), allow_pickle=False)
                elif name.endswith("labels"):
                    values = _relabelled(member, changes, place, members.get("class_names"))[keep]
                    np.lib.format.write_array(stream, values, allow_pickle=False)
                else:
                    _write_rows(stream, member, keep)


def _write_rows(stream: IO[bytes], member: Member, keep: NDArray[np.bool_]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(member.dtype),
        "fortran_order": False,
        "shape": (int(keep.sum()), *member.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(stream, header)
    for rows, batch in member.batches():
        stream.write(np.ascontiguousarray(batch[keep[rows]]).tobytes())


def _relabelled(member: Member, changes: Changes, place: slice, class_names: Member | None) -> NDArray[Any]:
    """The label array with some rows changed, in the form that it has: numbers, one-hot, or names."""
    values = member.read()
    before, after = changes.cells.labels[place], changes.labels[place]
    for label in np.unique(after[after != before]):
        rows = np.flatnonzero((after == label) & (after != before))
        alike = np.flatnonzero(before == label)
        if len(alike):
            values[rows] = values[alike[0]]
        elif values.dtype.kind in "US":
            name = np.array([CLASS_NAMES[label]]).astype(values.dtype.kind)
            values = values.astype(np.promote_types(values.dtype, name.dtype))
            values[rows] = name
        else:
            values[rows] = _number_for(int(label), values, class_names)
    return values


def _number_for(label: int, values: NDArray[Any], class_names: Member | None) -> Any:
    """What stands in a label array for a class that no row has yet: its number, or a row with a 1 in its place."""
    known = CLASS_NAMES if class_names is None else tuple(class_of(str(name)) for name in class_names.read())
    if CLASS_NAMES[label] not in known:
        raise InputError(
            f"'class_names' has no {CLASS_NAMES[label]}, so that no row can be relabelled to it; add the name."
        )
    number = known.index(CLASS_NAMES[label])
    return np.eye(values.shape[1], dtype=values.dtype)[number] if values.ndim == 2 and values.shape[1] > 1 else number


def count_npz_pictures(path: Path) -> int:
    """How many pictures an npz holds, whatever their labels. Raises InputError as `stream_npz`."""
    return sum(_rows(member) for _, member in _picture_arrays(path, open_members(path)))


def stream_npz(path: Path, first: int = 0) -> Iterator[tuple[str, Images]]:
    """The pictures of an npz from the one numbered `first` on, one after the other: (id, uint8 (height, width, 3)).

    A few megabytes are in memory at a time. Labels are not looked at. Raises InputError when the file is no npz of
    pictures, is damaged, or its values cannot be pictures.
    """
    members = open_members(path)
    start = 0
    for prefix, images in _picture_arrays(path, members):
        rows = _rows(images)
        if first < start + rows:
            skip = max(first - start, 0)
            ids = _stream_ids(path, prefix, members.get("ids") if not prefix else None, rows, skip)
            yield from zip(ids, _stream_pictures(images, skip), strict=True)
        start += rows


def _picture_arrays(path: Path, members: Mapping[str, Member]) -> list[tuple[str, Member]]:
    if "images" in members:
        return [("", members["images"])]
    found = [(f"{part}/", members[f"{part}_images"]) for part in MEDMNIST_PARTS if f"{part}_images" in members]
    if not found:
        held = ", ".join(f"'{name}'" for name in members) or "no arrays"
        raise InputError(f"{path.name}: holds {held}; expected pictures in an array 'images'.")
    return found


def _stream_ids(path: Path, prefix: str, ids: Member | None, rows: int, skip: int) -> Iterator[str]:
    if ids is None:
        yield from (f"{path.as_posix()}#{prefix}{row}" for row in range(skip, rows))
        return
    if ids.shape not in ((rows,), (rows, 1)):
        raise InputError(f"{path.name}: 'ids' has shape {ids.shape} for {many(rows, 'picture')}; give one for each.")
    for place, batch in ids.batches():
        yield from (str(value) for value in batch.reshape(-1)[max(skip - place.start, 0) :])


def _stream_pictures(images: Member, skip: int) -> Iterator[Images]:
    scale = _scale(images)
    for values in _stream_values(images, skip):
        yield from to_rgb(scale.to_bytes(values if values.ndim == 4 else values[..., None]))


def _stream_values(images: Member, skip: int) -> Iterator[NDArray[Any]]:
    if not images.stored or images.fortran:
        for place, batch in images.batches():
            if place.stop > skip:
                yield batch[max(skip - place.start, 0) :]
        return
    # A memory map would count every page that was read as memory in use.
    size = images.size // len(images)
    step = max(1, _STREAM_BYTES // size)
    for start in range(skip, len(images), step):
        rows = min(step, len(images) - start)
        count = rows * size // images.dtype.itemsize
        values = np.fromfile(images.file, images.dtype, count, offset=images.offset + start * size)
        if len(values) != count:
            raise InputError(f"{images.file.name}: '{images.name}' ends too early; it is damaged, copy it again.")
        yield values.reshape(rows, *images.shape[1:])


def _read_challenge(members: Mapping[str, Member], path: Path, wishes: _Wishes) -> Cells:
    rows = _rows(members["images"])
    columns = {name: _column(members[name], rows) for name in _COLUMNS if name in members}
    if wishes.group_by is not None:
        others = [name for name in members if name not in ("images", "labels", "class_names")]
        columns["groups"] = _column(members[group_column(others, wishes.group_by, path.name)], rows)
    class_names = tuple(map(str, members["class_names"].read())) if "class_names" in members else None
    labels, label_note = _labels(members, "labels", ("images", rows), class_names, wishes)
    pictures, notes = _pictures(members["images"], wishes)
    ids = columns["ids"].astype(np.str_) if "ids" in columns else _numbered(f"{path.name}#", rows)
    if "ids" in columns and len(np.unique(ids)) != rows:
        raise InputError(f"{path.name}: 'ids' names some pictures twice; give every picture an id of its own.")
    split = columns.get("split")
    return Cells(
        images=pictures,
        labels=labels,
        class_names=wishes.classes,
        ids=ids,
        split=None if split is None else np.array([split_name(str(name), path.name) for name in split]),
        groups=columns["groups"].astype(np.str_) if "groups" in columns else None,
        source=path.name,
        notes=tuple(note for note in (*notes, label_note) if note),
        jpeg=columns["jpeg"].astype(np.bool_) if "jpeg" in columns else None,
    )


def _read_medmnist_part(members: Mapping[str, Member], prefix: str, path: Path, wishes: _Wishes) -> Cells:
    images, labels_name = members[f"{prefix}_images"], f"{prefix}_labels"
    rows = _rows(images)
    if labels_name not in members:
        raise InputError(f"{path.name}: has '{images.name}' but no '{labels_name}'; add the labels.")
    labels, label_note = _labels(members, labels_name, (images.name, rows), None, wishes)
    pictures, notes = _pictures(images, wishes)
    return Cells(
        images=pictures,
        labels=labels,
        class_names=wishes.classes,
        ids=_numbered(f"{path.name}#{prefix}/", rows),
        split=np.full(rows, MEDMNIST_PARTS[prefix]),
        source=path.name,
        notes=tuple(note for note in (*notes, label_note) if note),
    )


def _numbered(prefix: str, rows: int) -> NDArray[np.str_]:
    return np.array([f"{prefix}{row}" for row in range(rows)])


def _rows(images: Member) -> int:
    """How many pictures an array holds. Raises InputError when it cannot be pictures, or holds none."""
    _shape(images)
    if not len(images):
        raise InputError(f"{images.file.name}: '{images.name}' holds no pictures; give at least one.")
    return len(images)


def _column(member: Member, rows: int) -> NDArray[Any]:
    if member.shape not in ((rows,), (rows, 1)):
        raise InputError(
            f"{member.file.name}: '{member.name}' has shape {member.shape} but 'images' has {many(rows, 'row')}; "
            "give one value for each image."
        )
    return member.read().reshape(rows)


def _labels(
    members: Mapping[str, Member],
    name: str,
    images: tuple[str, int],
    class_names: tuple[str, ...] | None,
    wishes: _Wishes,
) -> tuple[NDArray[np.int64], str]:
    if name in members:
        file = members[name].file.name
        return labels_of(
            members[name].read(),
            images=images,
            name=name,
            file=file,
            class_names=class_names,
            class_map=wishes.class_map,
            classes=wishes.classes,
        )
    typo = nearest(name, [member for member in members if member not in ("images", "class_names", *_COLUMNS)])
    if typo:
        file = members[typo].file.name
        raise InputError(f"{file}: has no '{name}' but an array '{typo}'; rename it to '{name}', or take it out.")
    return np.full(images[1], UNKNOWN_LABEL, np.int64), ""


def _pictures(member: Member, wishes: _Wishes) -> tuple[Pictures, list[str]]:
    """8-bit RGB pictures of the size asked for, and the notes: the file itself, mapped, when it holds just that."""
    file = member.file.name
    height, width, channels = _shape(member)
    try:
        keep = wishes.size is None and wishes.crop is None
        window = (slice(0, height), slice(0, width)) if keep else central_window(height, width, wishes.crop)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    cut = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    target = cut if wishes.size is None else (wishes.size, wishes.size)
    scale = _scale(member)
    notes = [note for note in (scale.note, resized_note([(height, width)], [cut], target)) if note]
    if channels == 1:
        notes.append("Grey pictures were given three equal channels.")
    if channels == 4:
        notes.append("Transparent pictures were laid on white.")
    mapped = member.mapped()
    if mapped is not None and member.dtype == np.uint8 and channels == 3 and cut == target:
        return mapped[:, window[0], window[1]], notes
    pictures = allocate((len(member), *target, 3))
    for rows, batch in member.batches():
        values = batch if batch.ndim == 4 else batch[..., None]
        whole = to_rgb(scale.to_bytes(values[:, window[0], window[1]]))
        pictures[rows] = whole if cut == target else resize(whole, target[0])
    return pictures, notes


def _shape(member: Member) -> tuple[int, int, int]:
    """Height, width and channels. Raises InputError when the array cannot be pictures."""
    named, shape = f"{member.file.name}: '{member.name}'", member.shape
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        raise InputError(
            f"{named} has shape {shape}, a single picture; add the axis that counts pictures: images[None]."
        )
    if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4):
        raise InputError(f"{named} has shape {shape}, channels first; transpose it to (n, height, width, channels).")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
        raise InputError(
            f"{named} has shape {shape}; expected (n, height, width, 3), 1 or 4 channels, or (n, height, width)."
        )
    height, width = shape[1:3]
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{named} has pictures of {width} x {height} pixels; a cell needs at least {MIN_SIDE} x {MIN_SIDE}."
        )
    return height, width, shape[3] if len(shape) == 4 else 1


def _scale(member: Member) -> Scale:
    named, dtype = f"{member.file.name}: '{member.name}'", member.dtype
    if dtype.kind not in "iuf":
        raise InputError(f"{named} has dtype {dtype}; expected uint8, uint16 or floats.")
    low, high = 0.0, 255.0
    if dtype != np.uint8:
        low, high = np.inf, -np.inf
        for rows, batch in member.batches():
            finite = np.isfinite(batch).reshape(len(batch), -1).all(axis=1)
            if not finite.all():
                row = rows.start + int(np.argmin(finite))
                raise InputError(f"{named} row {row} holds NaN or infinite values; remove or repair that picture.")
            low, high = min(low, float(batch.min())), max(high, float(batch.max()))
    scale = scale_for(dtype, low, high)
    if scale is None:
        raise InputError(
            f"{named} ({dtype.name}) runs from {low:.6g} to {high:.6g}; expected {expected_ranges(dtype)}, so rescale "
            "it first."
        )
    return scale
