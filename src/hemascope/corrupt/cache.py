"""Corrupted pictures kept on disk, so that a second model is stressed by pictures that are there already.

An entry is told by what it holds: the pixels and rows that went in, the corruption, its severity, the seed, and the
version of the code. Entries lie in $HEMASCOPE_CACHE, else $XDG_CACHE_HOME/hemascope, else ~/.cache/hemascope, under
`corrupt`. Together they take at most 8 GiB ($HEMASCOPE_CACHE_GIB sets another limit; 0 keeps nothing) and never more
than half of the disk space that would be free without them; the least recently used go first.
"""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt import COMPOSITES, compose, corrupt
from hemascope.corrupt.families import FAMILIES, VERSION
from hemascope.data.cells import Cells, Images, Rows
from hemascope.data.hashes import pixel_hashes
from hemascope.errors import InputError
from hemascope.files import replacing

LIMIT_GIB = 8.0

_BATCH = 256
_CHECKSUM_BYTES = 4
_HEADER_BYTES = 256  # and checksum, at most
# A process that was killed while it wrote leaves a temporary file, which nobody writes to any more after a day.
_ABANDONED_SECONDS = 24 * 3600


def cached(
    cells: Cells,
    name: str,
    severity: int | None = None,
    *,
    seed: int,
    rows: Rows | None = None,
    hashes: NDArray[np.uint64] | None = None,
) -> Images:
    """The pictures of the cells after a corruption, read from disk where they were made before.

    name: a family with a severity from 1 to 5, or a composite, which has severity None. rows: int (n,), the number of
    each picture, from 0 up where not given. hashes: `pixel_hashes(cells)`, where the caller has them already.
    Returns uint8 (n, height, width, 3), read-only: mapped from the disk, or in memory where no entry can be kept (no
    room, a folder that cannot be written). A damaged entry is made again. Raises InputError as `corrupt` and `compose`.
    """
    rows = np.arange(len(cells), dtype=np.int64) if rows is None else np.asarray(rows, np.int64)
    nothing = _corrupted(np.empty((0, *cells.images.shape[1:]), np.uint8), name, severity, seed, rows[:0])
    if len(rows) != len(cells):
        raise InputError(f"{len(rows):,} rows were given for {len(cells):,} pictures; give one for each.")
    if not len(cells):
        return nothing
    path = cache_folder() / _entry_name(name, severity, seed, rows, pixel_hashes(cells) if hashes is None else hashes)
    shape = (len(cells), *cells.images.shape[1:])
    found = _read(path, shape)
    if found is None and _make_room(path.parent, int(np.prod(shape)) + _HEADER_BYTES):
        try:
            _write(path, shape, _batches(cells, name, severity, seed, rows))
        except OSError:
            path.unlink(missing_ok=True)
        found = _read(path, shape)
    if found is None:
        found = np.concatenate(list(_batches(cells, name, severity, seed, rows)))
        found.flags.writeable = False
    return found


def cache_folder() -> Path:
    """Where the entries lie; the folder need not exist."""
    if chosen := os.environ.get("HEMASCOPE_CACHE"):
        return Path(chosen).expanduser() / "corrupt"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "hemascope" / "corrupt"


def cache_limit() -> int:
    """The most bytes that all entries take together. Raises InputError when $HEMASCOPE_CACHE_GIB is no such number."""
    chosen = os.environ.get("HEMASCOPE_CACHE_GIB", "")
    try:
        gib = float(chosen) if chosen else LIMIT_GIB
    except ValueError:
        gib = -1.0
    if not 0 <= gib < float("inf"):
        raise InputError(f"HEMASCOPE_CACHE_GIB is '{chosen}', expected a number from 0 up; 0 keeps nothing.")
    return int(gib * 2**30)


def _corrupted(images: Images, name: str, severity: int | None, seed: int, rows: Rows) -> Images:
    if name in COMPOSITES and severity is not None:
        raise InputError(f"'{name}' takes no severity, as each of its chains has its own; leave it out.")
    if severity is None and name not in FAMILIES:
        return compose(images, name, seed=seed, rows=rows)
    return corrupt(images, name, severity, seed=seed, rows=rows)  # type: ignore[arg-type]  # None is refused there


def _batches(cells: Cells, name: str, severity: int | None, seed: int, rows: Rows) -> Iterator[Images]:
    for part, images in cells.batches(_BATCH):
        yield _corrupted(images, name, severity, seed, rows[part])


def _entry_name(name: str, severity: int | None, seed: int, rows: Rows, hashes: NDArray[np.uint64]) -> str:
    # Pixels may depend on OpenCV's version by a grey level, and on every parameter of a chain's families.
    parameters = {family: dict(FAMILIES[family].parameters) for family in FAMILIES}
    digest = blake2b(repr((VERSION, cv2.__version__, parameters, name, severity, seed)).encode(), digest_size=16)
    for numbers in (np.asarray(hashes, "<u8"), np.asarray(rows, "<i8")):
        digest.update(numbers.tobytes())
    return f"{name}-{'mix' if severity is None else severity}-{digest.hexdigest()}.npy"


def _read(path: Path, shape: tuple[int, ...]) -> Images | None:
    """The entry, mapped from the disk; None when there is none or its length, header or checksum is wrong."""
    header, pixels = _header(shape), int(np.prod(shape))
    try:
        with path.open("rb") as file:
            whole = os.fstat(file.fileno()).st_size == len(header) + pixels + _CHECKSUM_BYTES
            if not whole or file.read(len(header)) != header:
                return None
            file.seek(-_CHECKSUM_BYTES, os.SEEK_END)
            checksum = int.from_bytes(file.read(), "little")
        images = np.memmap(path, np.uint8, "r", len(header), shape)
        if zlib.crc32(images.reshape(-1).data) != checksum:
            return None
        os.utime(path)
    except (OSError, ValueError):
        return None
    return images


def _write(path: Path, shape: tuple[int, ...], batches: Iterator[Images]) -> None:
    """Write an entry at once: an .npy file and, behind it, the CRC-32 of its pixels."""
    # Written, not mapped: a full disk then raises an error, where a map would end the process.
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(shape))
        checksum = 0
        for images in batches:
            file.write(images.data)
            checksum = zlib.crc32(images.data, checksum)
        file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def _header(shape: tuple[int, ...]) -> bytes:
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _make_room(folder: Path, wanted: int) -> bool:
    """Remove the least recently used entries until one of that many bytes fits; whether it does."""
    limit = cache_limit()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir())
        held = sum(size for _, size, _ in files)
        room = min(limit, (held + shutil.disk_usage(folder).free) // 2)
        if wanted > room:
            return False
        for used, size, path in files:
            abandoned = path.name.startswith(".") and time.time() - used > _ABANDONED_SECONDS
            if abandoned or (held + wanted > room and not path.name.startswith(".")):
                path.unlink(missing_ok=True)
                held -= size
        return held + wanted <= room
    except OSError:
        return False
