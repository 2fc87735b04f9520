"""The parts of a table that is being made, in a folder beside it, so that a job that was stopped can go on.

`OUT.parts/` holds `_job.json` (what the job is), and a Parquet file for each part that is finished, whole or not there
at all; each says which rows it has, of which files, in which job. When all are there, they are joined into OUT.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope.bulk.plan import Part
from hemascope.errors import InputError
from hemascope.files import replacing, write_json
from hemascope.wording import many

if TYPE_CHECKING:
    import pyarrow as pa

_JOB, _LOCK, _FINISHED = "_job.json", "_lock", "_finished.json"
_KEY = b"hemascope"


@dataclass(frozen=True)
class Job:
    """What a job is; two that are equal make the same table.

    inputs, model: fingerprints. options: as they were given.
    """

    pictures: int
    inputs: str
    model: str
    options: Mapping[str, Any]
    version: str

    def difference(self, other: Mapping[str, Any]) -> str:
        """What another job, as JSON, has that this one has not, in words; empty when they are the same."""
        own = asdict(self)
        if other.get("inputs") != own["inputs"]:
            return f"its inputs have changed ({many(other.get('pictures', 0), 'picture')} then, {self.pictures:,} now)"
        if other.get("model") != own["model"]:
            return "its model was another"
        if other.get("options") != own["options"]:
            return f"its options were {_words(other.get('options', {}))}, now they are {_words(own['options'])}"
        if other.get("version") != own["version"]:
            return f"hemascope {other.get('version')} began it and this is {self.version}"
        return ""


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items() if value) or "none"


def parts_folder(out: Path) -> Path:
    """Where the parts of a table are kept while it is made."""
    return out.with_name(f"{out.name}.parts")


def check_new(out: Path, resume: bool) -> None:
    """Raise InputError where the table stands already, or an unfinished one that nobody asked to go on with."""
    folder = parts_folder(out)
    if out.exists() and not (resume and (folder / _FINISHED).is_file()):
        raise InputError(f"{out}: exists already; name another file with --out, or remove it first.")
    if folder.exists() and not resume:
        raise InputError(f"{folder}: holds an unfinished job; go on with it by --resume, or remove that folder first.")


class Journal:
    """The folder of parts of one job."""

    def __init__(self, out: Path, job: Job) -> None:
        self.out, self.job, self.folder = out, job, parts_folder(out)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Made or gone on with, and locked. Raises InputError when it is another job's, or someone works on it now."""
        fresh = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            if not _locked(lock.fileno()):
                raise InputError(f"{self.folder}: another process is at work on it; wait for its end.")
            if fresh or not (self.folder / _JOB).is_file():
                write_json(self.folder / _JOB, asdict(self.job))
            elif difference := self.job.difference(json.loads((self.folder / _JOB).read_text(encoding="utf-8"))):
                raise InputError(
                    f"{self.folder}: this is not the job that was begun: {difference}; remove that folder to begin "
                    "again."
                )
            try:
                yield
            finally:
                # What has not begun needs no going on.
                if self.folder.exists() and not self.parts_there() and not (self.folder / _FINISHED).exists():
                    shutil.rmtree(self.folder)

    def path(self, part: Part) -> Path:
        """The file of a part."""
        return self.folder / f"part-{part.number:06}.parquet"

    def has(self, part: Part) -> bool:
        """Whether a part is finished. What cannot be read, or belongs to other rows, is not."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path(part)
        if not path.is_file():
            return False
        try:
            about = pq.ParquetFile(path)
            return (
                about.metadata.num_rows == part.count
                and (about.schema_arrow.metadata or {}).get(_KEY) == _words_of(part).encode()
            )
        except (pa.ArrowException, OSError):
            return False

    def parts_there(self) -> int:
        """How many files of parts there are, unread."""
        return sum(1 for _ in self.folder.glob("part-*.parquet"))

    def tables(self) -> Iterator[pa.Table]:
        """The parts in order. Each is checked to begin where the one before ended."""
        import pyarrow.parquet as pq

        first = 0
        for path in sorted(self.folder.glob("part-*.parquet")):
            with pq.ParquetFile(path) as file:
                table = file.read()
            if json.loads((table.schema.metadata or {})[_KEY])["first"] != first:
                raise InputError(f"{path}: does not follow the part before it; remove {self.folder} and begin again.")
            first += len(table)
            yield table.replace_schema_metadata()
        if first != self.job.pictures:
            raise InputError(
                f"{self.folder}: has {first:,} of {many(self.job.pictures, 'row')}; remove it and begin again."
            )

    def finished(self) -> dict[str, Any] | None:
        """What `finish` was told, where it was stopped after the table was in place."""
        path = self.folder / _FINISHED
        if not self.out.exists() or not path.is_file():
            return None
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return told

    @contextmanager
    def finishing(self, told: Any) -> Iterator[Path]:
        """A path for the joined table; moved to its place when the block ends well, and then the parts go.

        told: a dataclass, for `finished`, as it is at the end of the block.
        """
        temporary = self.folder / f"_joined{self.out.suffix}"
        yield temporary
        _flush(temporary)
        write_json(self.folder / _FINISHED, asdict(told))
        temporary.replace(self.out)
        self.remove()

    def keep_as_folder(self) -> None:
        """The parts themselves become the table: a folder of Parquet files."""
        for path in self.folder.iterdir():
            # What a killed process left half written.
            if path.name.startswith(".") or path.name == _LOCK:
                path.unlink()
        self.folder.rename(self.out)

    def remove(self) -> None:
        """Away with the folder, in an order in which a process that is killed meanwhile can be understood."""
        for path in self.folder.iterdir():
            if path.name != _FINISHED:
                path.unlink()
        shutil.rmtree(self.folder)


def write_part(path: Path, part: Part, table: pa.Table) -> None:
    """A part's table in its file, whole or not at all."""
    import pyarrow.parquet as pq

    told = table.replace_schema_metadata({_KEY: _words_of(part)})
    with replacing(path) as temporary:
        pq.write_table(told, temporary, compression="zstd")
        _flush(temporary)


def _words_of(part: Part) -> str:
    return json.dumps({"first": part.first, "count": part.count, "inputs": part.fingerprint})


def _flush(path: Path) -> None:
    """To the disk itself, so that no name outlives a power cut without its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _locked(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:
        # Without such locks two jobs at once are the user's own affair.
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some file systems of clusters know no locks.
        return True
    return True
