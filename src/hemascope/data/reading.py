"""Decode many pictures, several at a time, into one array of equal squares; the bad ones are listed with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Cells, Images
from hemascope.data.classes import CLASS_NAMES
from hemascope.data.pictures import decode_picture
from hemascope.data.storage import allocate
from hemascope.data.text import resized_note
from hemascope.errors import InputError
from hemascope.machine import cores
from hemascope.resize import central_window, resize

# How many encoded pictures are held at a time.
CHUNK = 256
# How many of them a thread takes at a time: handing over one small picture costs a tenth of decoding it.
TASK = 16
# From how many pictures on reading takes long enough to show how far it is.
MANY = 2000


# What is known of each picture's file.
FACTS = ("file size", "picture width", "picture height", "JPEG quality", "mode")


@dataclass(frozen=True, slots=True)
class Row:
    """One picture to read: where it is and what is known of it. label: a position in the classes, or -1."""

    id: str
    label: int = -1
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class _Picture:
    pixels: Images
    shape: tuple[int, int]
    cut: tuple[int, int]
    jpeg: bool
    several: bool
    facts: tuple[float, float, float, float, str]


def read_pictures(
    sources: Iterable[bytes | Path | InputError],
    rows: Sequence[Row],
    *,
    size: int | None,
    crop: int | None,
    source: str,
    notes: Sequence[str] = (),
    classes: tuple[str, ...] = CLASS_NAMES,
) -> Cells:
    """Cells of encoded pictures: decoded by a pool of threads, cut to the central square and resized to `size`.

    sources: for each row the encoded picture, its path, or why there is none; taken a chunk at a time. size: None
    keeps the pictures as they are, which must then be equal. source: the name of the file or folder.
    classes: what the labels count in.
    Raises InputError when no picture can be read, or when size is None and their sizes differ.
    """
    room: Images | None = None
    kept: list[int] = []
    jpeg: list[bool] = []
    facts: list[tuple[float, float, float, float, str]] = []
    several: list[str] = []
    shapes: set[tuple[int, int]] = set()
    cuts: set[tuple[int, int]] = set()
    unreadable: dict[str, str] = {}
    for number, picture in enumerate(_followed(_decoded(sources, size, crop), len(rows), source)):
        if isinstance(picture, InputError):
            unreadable[rows[number].id] = str(picture)
            continue
        if room is None:
            room = allocate((len(rows), *picture.pixels.shape))
        if picture.pixels.shape != room.shape[1:]:
            raise InputError(
                f"{source}: {rows[number].id} has {picture.cut[1]} x {picture.cut[0]} pixels but {rows[kept[0]].id} "
                f"has {room.shape[2]} x {room.shape[1]}; give a size that all are brought to."
            )
        room[len(kept)] = picture.pixels
        kept.append(number)
        jpeg.append(picture.jpeg)
        facts.append(picture.facts)
        shapes.add(picture.shape)
        cuts.add(picture.cut)
        if picture.several:
            several.append(rows[number].id)
    if room is None:
        raise InputError(_nothing_read(source, unreadable))
    told = [*notes, resized_note(shapes, cuts, (room.shape[1], room.shape[2])), _several_note(several)]
    good = [rows[number] for number in kept]
    return Cells(
        images=room[: len(good)],
        labels=np.array([row.label for row in good], np.int64),
        class_names=classes,
        ids=np.array([row.id for row in good]),
        split=_column([row.split for row in good]),
        groups=_column([row.group for row in good]),
        source=source,
        notes=tuple(note for note in told if note),
        unreadable=unreadable,
        jpeg=np.array(jpeg),
        facts={name: np.array(values) for name, values in zip(FACTS, zip(*facts, strict=True), strict=True)},
    )


def _followed(pictures: Iterator[_Picture | InputError], count: int, source: str) -> Iterator[_Picture | InputError]:
    """The same pictures, with their progress shown when there are many."""
    if count < MANY:
        yield from pictures
        return
    from hemascope.progress import Progress

    with Progress(f"reading {source}", count, "pictures") as progress:
        for picture in pictures:
            yield picture
            progress.advance()


def _decoded(
    sources: Iterable[bytes | Path | InputError], size: int | None, crop: int | None
) -> Iterator[_Picture | InputError]:
    def prepared(some: list[bytes | Path | InputError]) -> list[_Picture | InputError]:
        return [source if isinstance(source, InputError) else _prepared(source, size, crop) for source in some]

    remaining = iter(sources)
    with ThreadPoolExecutor(min(16, cores())) as pool:
        while chunk := list(islice(remaining, CHUNK)):
            for pictures in pool.map(prepared, (chunk[at : at + TASK] for at in range(0, len(chunk), TASK))):
                yield from pictures


def fitted(source: bytes | Path | Images, size: int, crop: int | None = None) -> Images:
    """One picture as a model takes it: its central square (of `crop` pixels, if given) at a size, (size, size, 3).

    source: the encoded file, its path, or its pixels uint8 (height, width, 3). Raises InputError with the reason when
    it cannot be decoded, or is smaller than the crop.
    """
    pixels = source if isinstance(source, np.ndarray) else decode_picture(source).pixels
    pixels = pixels[central_window(pixels.shape[0], pixels.shape[1], crop)]
    return np.asarray(resize(pixels[None], size)[0])


def _prepared(source: bytes | Path, size: int | None, crop: int | None) -> _Picture | InputError:
    try:
        decoded = decode_picture(source)
        pixels = decoded.pixels
        height, width = pixels.shape[:2]
        if size is not None or crop is not None:
            pixels = pixels[central_window(height, width, crop)]
        cut = (pixels.shape[0], pixels.shape[1])
        if size is not None:
            pixels = resize(pixels[None], size)[0]
        stored = float(source.stat().st_size if isinstance(source, Path) else len(source))
        facts = (stored, float(width), float(height), decoded.jpeg_quality, decoded.mode)
        return _Picture(pixels, (height, width), cut, decoded.jpeg, decoded.several, facts)
    except InputError as error:
        return error


def _column(values: list[str | None]) -> NDArray[np.str_] | None:
    return None if any(value is None for value in values) else np.array(values, np.str_)


def _nothing_read(source: str, unreadable: dict[str, str]) -> str:
    if not unreadable:
        return f"{source}: holds no pictures; give at least one."
    name, reason = next(iter(unreadable.items()))
    if len(unreadable) == 1:
        return f"{name}: {reason}"
    return f"{source}: none of its {len(unreadable):,} pictures can be read; the first is {name}: {reason}"


def _several_note(ids: list[str]) -> str:
    if not ids:
        return ""
    shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"Pictures with several frames gave their first ({len(ids):,}: {shown})."
