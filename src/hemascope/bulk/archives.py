"""Pictures inside zip and tar archives, read where they lie: nothing is ever unpacked to the disk.

An archive is a stranger's file. What it says of itself is checked before it is believed: a picture may not be larger
than LARGEST_PICTURE, neither by its own account nor in fact, the packed pictures of a zip may not overlap, and no
archive may unpack to more than MOST_TIMES its own size.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hemascope.data.folder import is_picture, printable
from hemascope.errors import InputError
from hemascope.wording import first_line

ZIP_ENDINGS = (".zip",)
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
LARGEST_PICTURE = 256 * 2**20
"""In bytes; the 64 million pixels that are decoded at most fit in, uncompressed."""
MOST_TIMES = 100
FREE = 256 * 2**20
"""So many bytes an archive may always unpack to: below that, its ratio is not looked at."""

_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s22xHH")
_LONGEST_COMMENT = 65_535
_UNKNOWN = 0xFFFFFFFF
_DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, IndexError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Slice:
    """The bytes of one picture inside another file.

    offset: where they begin; of a zip's, where the header before them does. packed, size: how many bytes they are in
    the file and unpacked. checksum: their CRC-32; None in a tar, which keeps none.
    """

    path: str
    offset: int
    packed: int
    size: int
    deflated: bool = False
    checksum: int | None = None

    def read(self) -> bytes:
        """The encoded picture. Raises InputError when it is not what the archive says."""
        try:
            with Path(self.path).open("rb") as file:
                file.seek(self.offset)
                if self.checksum is not None:
                    signature, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
                    if signature != b"PK\x03\x04":
                        raise ValueError("no picture begins where the list says")
                    file.seek(name + extra, os.SEEK_CUR)
                content = file.read(self.packed)
            if self.deflated:
                # One byte more than announced is enough to know that it lies.
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, self.size + 1)
        except _DAMAGED as error:
            raise InputError(f"it cannot be unpacked ({_reason(error)}); copy the archive again.") from error
        if len(content) != self.size or (self.checksum is not None and zlib.crc32(content) != self.checksum):
            raise InputError("it is not what the archive's list says of it; copy the archive again.")
        return content


Packed = tuple[str, "Slice | bytes | InputError"]


def zip_pictures(path: Path, first: int = 0) -> Iterator[Packed]:
    """The pictures of a zip in the order of its list, from the one numbered `first` on: (id, where it lies).

    The list is read entry by entry, so that its length does not matter. Raises InputError when the file is no zip, is
    damaged, or is made to unpack to far more than it holds.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            number, packed, unpacked = 0, 0, 0
            for name, entry in _entries(file, size):
                packed, unpacked = packed + entry.packed, unpacked + entry.size
                if packed > size or (unpacked > FREE and unpacked > MOST_TIMES * size):
                    raise InputError(_bomb(path))
                if _wanted(name):
                    if number >= first:
                        yield _id(path, name), _checked(entry)
                    number += 1
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path}: is not a zip that can be read ({_reason(error)}); copy it again.") from error


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    offset: int
    packed: int
    size: int
    method: int
    flags: int
    checksum: int


def _entries(file: IO[bytes], size: int) -> Iterator[tuple[str, _Entry]]:
    place, length, shift = _directory(file, size)
    file.seek(place)
    stop = place + length
    while place < stop:
        head = file.read(_ENTRY.size)
        fields = _ENTRY.unpack(head)
        if fields[0] != b"PK\x01\x02":
            raise ValueError("its list of files is damaged")
        _, _, _, flags, method, _, _, checksum, packed, unpacked, name_length, extra, comment, _, _, _, offset = fields
        name = file.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437", "backslashreplace")
        packed, unpacked, offset = _in_64_bits(file.read(extra), packed, unpacked, offset)
        file.seek(comment, os.SEEK_CUR)
        place += _ENTRY.size + name_length + extra + comment
        if offset + shift + packed > size:
            raise ValueError("it ends before its pictures do")
        yield name, _Entry(file.name, offset + shift, packed, unpacked, method, flags, checksum)


def _directory(file: IO[bytes], size: int) -> tuple[int, int, int]:
    """Where the list of files begins, its length, and by how much offsets are short of what stands before the zip."""
    file.seek(max(size - _END.size - _LONGEST_COMMENT, 0))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise ValueError("it has no list of files")
    *_, length, start, _ = _END.unpack(tail[end : end + _END.size])
    place = size - len(tail) + end
    if end >= _LOCATOR.size and tail[end - _LOCATOR.size : end].startswith(b"PK\x06\x07"):
        _, _, end64, _ = _LOCATOR.unpack(tail[end - _LOCATOR.size : end])
        file.seek(end64)
        signature, *_, length, start = _END64.unpack(file.read(_END64.size))
        if signature != b"PK\x06\x06":
            raise ValueError("its list of files is damaged")
        place = end64
    shift = place - length - start
    if shift < 0:
        raise ValueError("its list of files is damaged")
    return start + shift, length, shift


def _in_64_bits(extra: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """The three numbers, those taken from the extra field that do not fit in 32 bits."""
    if _UNKNOWN not in (packed, size, offset):
        return packed, size, offset
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = [*struct.unpack_from(f"<{length // 8}Q", extra, at + 4)]
            # In this order, and only those that are missing.
            size, packed, offset = (numbers.pop(0) if value == _UNKNOWN else value for value in (size, packed, offset))
            return packed, size, offset
        at += 4 + length
    raise ValueError("its list of files is damaged")


def _checked(entry: _Entry) -> Slice | InputError:
    if entry.flags & _ENCRYPTED:
        return InputError("it is encrypted; unpack the archive with its password first.")
    if entry.method not in (_STORED, _DEFLATED):
        return InputError(f"it is packed by method {entry.method}; expected stored or deflated.")
    if entry.size > LARGEST_PICTURE or entry.packed > LARGEST_PICTURE:
        return InputError(_too_large(entry.size))
    return Slice(entry.path, entry.offset, entry.packed, entry.size, entry.method == _DEFLATED, entry.checksum)


def tar_pictures(path: Path, first: int = 0) -> Iterator[Packed]:
    """The pictures of a tar in its order, from the one numbered `first` on: (id, where it lies, or what it holds).

    A tar that is packed as a whole (gzip, bzip2, xz) is unpacked while it is read, from its beginning. Raises
    InputError when the file is no tar, is damaged, or is made to unpack to far more than it holds.
    """
    try:
        with path.open("rb") as file:
            unpacked = _unpacked(path, file)
            if unpacked is None:
                yield from _tar_members(path, tarfile.open(fileobj=file, mode="r:"), first, packed=False)  # noqa: SIM115
            else:
                bounded: Any = _Bounded(path, unpacked)
                yield from _tar_members(path, tarfile.open(fileobj=bounded, mode="r|"), first, packed=True)  # noqa: SIM115
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path}: is not a tar that can be read ({_reason(error)}); copy it again.") from error


def _tar_members(path: Path, archive: tarfile.TarFile, first: int, packed: bool) -> Iterator[Packed]:
    number = 0
    while (member := archive.next()) is not None:
        # The archive would keep a record of each.
        archive.members = []  # type: ignore[attr-defined]
        if not member.isfile() or not _wanted(member.name):
            continue
        number += 1
        if number <= first:
            continue
        source: Slice | bytes | InputError
        if member.size > LARGEST_PICTURE:
            source = InputError(_too_large(member.size))
        elif member.issparse():
            source = InputError("it is a sparse file, which no picture is; copy it again.")
        elif packed:
            stream = archive.extractfile(member)
            source = stream.read() if stream is not None else InputError("it holds nothing; copy it again.")
        else:
            source = Slice(str(path), member.offset_data, member.size, member.size)
        yield _id(path, member.name), source


class _Bounded:
    """What a packed tar unpacks to, as far as it is not much more than a tar of pictures can be."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream, self.taken = path, stream, 0
        self.most = max(FREE, MOST_TIMES * path.stat().st_size)

    def read(self, size: int) -> bytes:
        content = self.stream.read(size)
        self.taken += len(content)
        if self.taken > self.most:
            raise InputError(_bomb(self.path))
        return content


def _unpacked(path: Path, file: IO[bytes]) -> IO[bytes] | None:
    """What a packed file unpacks to, or None where it is not packed."""
    start = file.read(6)
    file.seek(0)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    return next((opened(file) for signature, opened in openers.items() if start.startswith(signature)), None)


def _wanted(name: str) -> bool:
    place = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in place.parts)
    return is_picture(Path(place)) and not hidden


def _id(path: Path, name: str) -> str:
    return f"{printable(path)}/{printable(Path(name))}"


def _too_large(size: int) -> str:
    return f"it has {size / 2**20:,.0f} MiB, more than the {LARGEST_PICTURE // 2**20} that are read; cut the cell out."


def _bomb(path: Path) -> str:
    return (
        f"{path}: unpacks to more than {MOST_TIMES} times its own size, or counts bytes twice, which no archive of "
        "pictures does; pack the pictures again."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return first_line(error)
