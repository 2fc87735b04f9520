"""The arrays inside an npz file, without ever unpickling: memory-mapped where they are stored, streamed otherwise."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hemascope.errors import InputError
from hemascope.wording import first_line

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_BATCH_BYTES = 32 * 2**20
# What zipfile and NumPy's reader of headers raise for bytes that are not what they should be.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    MemoryError,
)


@dataclass(frozen=True)
class Member:
    """One array of an npz whose header has been read and whose values have not."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    stored: bool
    offset: int

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def size(self) -> int:
        """Size of the values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def mapped(self) -> NDArray[Any] | None:
        """A read-only memory map straight into the npz, or None when the member is compressed.

        Its CRC-32 goes unchecked, since that would mean reading all of it.
        """
        if not self.stored or not self.size:
            return None
        order: Literal["C", "F"] = "F" if self.fortran else "C"
        mapped: NDArray[Any] = np.memmap(self.file, self.dtype, "r", self.offset, self.shape, order)
        return mapped

    def read(self) -> NDArray[Any]:
        """The whole array in memory."""
        values = self.mapped()
        if values is not None:
            return np.array(values)
        return np.concatenate([batch for _, batch in self.batches()]) if len(self) else np.empty(self.shape, self.dtype)

    def batches(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Walk over the rows in order, some 32 MiB at a time: (row slice, values)."""
        rows = len(self)
        if not rows:
            return
        step = max(1, _BATCH_BYTES // max(1, self.size // rows))
        values = self.mapped()
        if values is None and self.fortran:
            values = self._all_at_once()
        if values is not None:
            for start in range(0, rows, step):
                yield slice(start, min(start + step, rows)), np.asarray(values[start : start + step])
            return
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(f"{self.name}.npy") as stream:
                _read_header(stream)
                for start in range(0, rows, step):
                    stop = min(start + step, rows)
                    yield slice(start, stop), self._take(stream, (stop - start, *self.shape[1:]))
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _all_at_once(self) -> NDArray[Any]:
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(f"{self.name}.npy") as stream:
                _read_header(stream)
                return self._take(stream, self.shape[::-1]).transpose()
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _take(self, stream: IO[bytes], shape: tuple[int, ...]) -> NDArray[Any]:
        wanted = math.prod(shape) * self.dtype.itemsize
        content = stream.read(wanted)
        if len(content) != wanted:
            raise EOFError("it ends too early")
        return np.frombuffer(content, self.dtype).reshape(shape)

    def _damaged(self, error: Exception) -> InputError:
        if isinstance(error, InputError):
            return error
        reason = first_line(error)
        return InputError(f"{self.file.name}: '{self.name}' cannot be read ({reason}); it is damaged, copy it again.")


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"npy version {version[0]}.{version[1]} holds structured arrays")


def open_members(path: Path) -> dict[str, Member]:
    """The arrays of an npz by name, headers read and checked; values are read when asked for.

    Raises InputError for a file that is not an npz or is damaged, and for arrays of Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            names = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            return {info.filename.removesuffix(".npy"): _member(path, archive, raw, info) for info in names}
    except (InputError, FileNotFoundError, PermissionError):
        raise
    except _DAMAGED as error:
        raise InputError(
            f"{path.name}: is not an npz file ({first_line(error).lower()}); write it with numpy.savez."
        ) from error


def _member(path: Path, archive: zipfile.ZipFile, raw: IO[bytes], info: zipfile.ZipInfo) -> Member:
    name = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as stream:
            shape, fortran, dtype = _read_header(stream)
            header = stream.tell()
    except _DAMAGED as error:
        raise InputError(
            f"{path.name}: '{name}' cannot be read ({first_line(error)}); write it again with numpy.savez."
        ) from error
    if dtype.hasobject:
        raise InputError(
            f"{path.name}: '{name}' is an array of Python objects, which is never unpickled; "
            "save it as plain numbers of one shape."
        )
    raw.seek(info.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
    start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    member = Member(path, name, shape, dtype, fortran, info.compress_type == zipfile.ZIP_STORED, start + header)
    if signature != b"PK\x03\x04" or header + member.size != info.file_size:
        raise InputError(
            f"{path.name}: '{name}' does not have the size that it announces; the file is damaged, copy it again."
        )
    return member
