"""What a job will do, found out without reading a picture: its inputs as parts of equally many pictures.

The inputs are walked in one fixed order, so that the same inputs give the same parts on any machine, each time. A part
is small and tells where its pictures lie, so that it can be carried to another process or machine.
"""

from __future__ import annotations

import glob
import heapq
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from hemascope.bulk.archives import TAR_ENDINGS, ZIP_ENDINGS, tar_pictures, zip_pictures
from hemascope.data.folder import is_hidden, is_picture, printable
from hemascope.data.npz import count_npz_pictures, stream_npz
from hemascope.data.parquet import count_parquet_pictures, parquet_files, stream_parquet
from hemascope.data.pictures import PICTURE_ENDINGS
from hemascope.data.tables import stream_table
from hemascope.errors import InputError

PART_ROWS = 4096
"""So many pictures are lost at most where a job is killed: some seconds of work."""
# From so many names in one folder on they are sorted on the disk.
_NAMES_IN_MEMORY = 200_000


class File(NamedTuple):
    """One picture in a file of its own. error: what is wrong with the line or file that names it; then path is ""."""

    id: str
    path: str
    error: str = ""


class Span(NamedTuple):
    """Some neighbouring pictures of a file that holds many. kind: how it is read, a key of STREAMS."""

    kind: str
    path: str
    first: int
    rows: int


@dataclass(frozen=True)
class Part:
    """Neighbouring rows of the table to be. number: which part; first: its first row; count: how many.

    fingerprint: changes when one of its files does, by name, size or time.
    """

    number: int
    first: int
    count: int
    pieces: tuple[File | Span, ...]
    fingerprint: str


class Survey(NamedTuple):
    """What all inputs amount to: how many pictures, and a fingerprint of their names, sizes and times."""

    pictures: int
    fingerprint: str


def _count(pictures: Callable[[Path], Iterator[Any]]) -> Callable[[Path], int]:
    return lambda path: sum(1 for _ in pictures(path))


STREAMS: dict[str, Callable[[Path, int], Iterator[tuple[str, Any]]]] = {
    "npz": stream_npz,
    "parquet": stream_parquet,
    "zip": zip_pictures,
    "tar": tar_pictures,
}
"""For each kind of file that holds many pictures: those from a number on, as (id, what to decode)."""
_COUNTS: dict[str, Callable[[Path], int]] = {
    "npz": count_npz_pictures,
    "parquet": count_parquet_pictures,
    "zip": _count(zip_pictures),
    "tar": _count(tar_pictures),
}
_KINDS = {
    ".npz": "npz",
    ".parquet": "parquet",
    ".pq": "parquet",
    **dict.fromkeys(ZIP_ENDINGS, "zip"),
    **dict.fromkeys(TAR_ENDINGS, "tar"),
}


def plan(inputs: Iterable[str | Path], part_rows: int = PART_ROWS) -> Iterator[Part]:
    """The parts of a job, one after the other.

    inputs: pictures, folders of them at any depth, patterns ("slides/**/*.png"), npz, CSV or TSV, Parquet (a file or a
    folder of them), zip, tar; in that order, each picture file once. What cannot be read is a row, too. part_rows: how
    many pictures a part has, but for the last. Raises InputError for a folder without pictures and a pattern that
    nothing matches.
    """
    number, first = 0, 0
    pieces: list[File | Span] = []
    stamps = blake2b(digest_size=16)
    room = part_rows
    for piece in _pieces(inputs):
        taken = 0
        size = piece.rows if isinstance(piece, Span) else 1
        while taken < size:
            count = min(room, size - taken)
            some = piece._replace(first=piece.first + taken, rows=count) if isinstance(piece, Span) else piece
            pieces.append(some)
            stamps.update(_stamp(some))
            taken, room = taken + count, room - count
            if not room:
                yield Part(number, first, part_rows, tuple(pieces), stamps.hexdigest())
                number, first, room = number + 1, first + part_rows, part_rows
                pieces, stamps = [], blake2b(digest_size=16)
    if pieces:
        yield Part(number, first, part_rows - room, tuple(pieces), stamps.hexdigest())


class Surveyor:
    """Adds parts up to a survey."""

    def __init__(self) -> None:
        self._count, self._digest = 0, blake2b(digest_size=16)

    def add(self, part: Part) -> None:
        """Take a part into account; the order matters."""
        self._count += part.count
        self._digest.update(part.fingerprint.encode())

    @property
    def survey(self) -> Survey:
        return Survey(self._count, self._digest.hexdigest())


def survey(parts: Iterable[Part]) -> Survey:
    """All parts in one: walks through them. Raises InputError when there are none."""
    seen = Surveyor()
    for part in parts:
        seen.add(part)
    if not seen.survey.pictures:
        raise InputError("the inputs hold no pictures; name others.")
    return seen.survey


def _stamp(piece: File | Span) -> bytes:
    try:
        about = Path(piece.path).stat() if piece.path else None
    except OSError:
        about = None
    told = "missing" if about is None else f"{about.st_size} {about.st_mtime_ns}"
    return os.fsencode("\0".join([*map(str, piece), told, "\n"]))


def _pieces(inputs: Iterable[str | Path]) -> Iterator[File | Span]:
    alone: set[Path] = set()
    folders: list[Path] = []
    for path in _matched(inputs):
        if path in alone or path in folders:
            continue
        if path.is_dir() and not any(path.glob("*.parquet")):
            yield from _pictures_in(path, alone, folders)
            folders.append(path)
        elif path.is_dir():
            for file in parquet_files(path):
                yield from _whole("parquet", file)
            folders.append(path)
        elif not any(_holds(folder, path) for folder in folders):
            alone.add(path)
            yield from _of_file(path)


def _of_file(path: Path) -> Iterator[File | Span]:
    name = path.name.lower()
    kind = next((kind for ending, kind in _KINDS.items() if name.endswith(ending)), None)
    if kind is not None:
        yield from _whole(kind, path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        yield from _listed(path)
    else:
        yield File(printable(path), str(path))


def _whole(kind: str, path: Path) -> Iterator[File | Span]:
    """All of a file; one row with the reason where it cannot be read."""
    try:
        yield Span(kind, str(path), 0, _COUNTS[kind](path))
    except (InputError, OSError) as error:
        yield File(printable(path), "", _told(error, path))


def _listed(path: Path) -> Iterator[File]:
    try:
        for name, picture in stream_table(path):
            broken = isinstance(picture, InputError)
            yield File(name, "" if broken else str(picture), str(picture) if broken else "")
    except (InputError, OSError) as error:
        yield File(printable(path), "", _told(error, path))


def _told(error: Exception, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist; check the name."
    if isinstance(error, OSError):
        return f"it cannot be opened ({error.strerror or error}); check the name and your rights."
    return str(error).removeprefix(f"{path.name}: ")


def _matched(inputs: Iterable[str | Path]) -> Iterator[Path]:
    """The inputs, patterns among them replaced by what matches, sorted; a file of such a name goes first."""
    for name in map(str, inputs):
        if not glob.has_magic(name) or os.path.lexists(name):
            yield Path(name)
            continue
        found = sorted(glob.iglob(name, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not found:
            raise InputError(f"{name}: nothing matches this pattern; check it.")
        found = [match for match in found if "__MACOSX" not in Path(match).parts]
        # What ** matches are folders, too, whose pictures match by themselves.
        yield from (Path(match) for match in found if "**" not in name or not Path(match).is_dir())


def _holds(folder: Path, path: Path) -> bool:
    """Whether walking a folder has come by that file."""
    if not path.is_relative_to(folder) or not is_picture(path) or not path.exists():
        return False
    return not any(is_hidden(part) for part in path.relative_to(folder).parts)


def _pictures_in(folder: Path, alone: set[Path], folders: Sequence[Path]) -> Iterator[File]:
    """The pictures of a folder at any depth, sorted, less those that stood among the inputs before."""
    inside = [other for other in folders if other.is_relative_to(folder) or folder.is_relative_to(other)]
    found = False
    for file in _walk(folder):
        found = True
        if alone and Path(file.path) in alone:
            continue
        if not any(Path(file.path).is_relative_to(other) for other in inside):
            yield file
    if not found:
        raise InputError(f"{folder}: holds no pictures ({', '.join(sorted(PICTURE_ENDINGS))}); name another folder.")


def _walk(folder: Path) -> Iterator[File]:
    """Pictures of a folder, then of the folders inside it, both sorted; links to folders are not followed."""
    inner: list[str] = []

    def names() -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                elif is_picture(Path(entry.name)) and not entry.is_dir():
                    yield entry.name

    shown, place = printable(folder), str(folder)
    try:
        for name in sorted_names(names()):
            # `folder / name`, spelt out, since paths cost more than all else here.
            joined = name if place == "." else f"{place.rstrip(os.sep)}{os.sep}{name}"
            told = name if name.isascii() and name.isprintable() else printable(Path(name))
            yield File(told if place == "." else f"{shown.rstrip('/')}/{told}", joined)
    except OSError as error:
        yield File(shown, "", _told(error, folder))
    for name in sorted(inner):
        yield from _walk(folder / name)


def sorted_names(names: Iterator[str], in_memory: int = _NAMES_IN_MEMORY) -> Iterator[str]:
    """Names of files in order, however many: sorted stretches of them wait in temporary files."""
    with ExitStack() as stack:
        runs: list[IO[str]] = []
        while len(some := sorted(islice(names, in_memory))) == in_memory:
            run = stack.enter_context(
                tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", newline="\n")
            )
            # No name holds a slash, which thus may stand for the line feed that it may hold.
            run.writelines(name.replace("\n", "/") + "\n" for name in some)
            run.seek(0)
            runs.append(run)
        kept = ((line[:-1].replace("/", "\n") for line in run) for run in runs)
        yield from heapq.merge(*kept, some)
