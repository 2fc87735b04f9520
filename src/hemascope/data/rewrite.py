"""The way back: write a source again in the format that it came in, with changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hemascope.data.changes import Changes
from hemascope.data.folder import rewrite_folder
from hemascope.data.npz import rewrite_npz
from hemascope.data.parquet import rewrite_parquet
from hemascope.data.save import save_npz
from hemascope.data.tables import rewrite_table
from hemascope.errors import InputError

Writer = Callable[[Path, Path, Changes], None]

_TABLES, _PARQUET = (".csv", ".tsv"), (".parquet", ".pq")
WRITERS: dict[tuple[str, ...], Writer] = {(".npz",): rewrite_npz, _TABLES: rewrite_table, _PARQUET: rewrite_parquet}
"""For each kind of file, by its endings, what writes it again."""


def rewrite(source: Path, out: Path, changes: Changes) -> None:
    """Write what `load` reads from a source again, less the rows that do not stay and with their labels of now.

    source: a file or folder of any kind that `load` takes; it is opened to be read only. out: of the same kind, or
    an npz, which then holds the pictures as they were read. changes: of the cells that `load` gave of the source.

    An npz keeps its arrays, a table its columns, Parquet its columns and types, and a folder its files. Raises
    InputError when `out` is of another kind, or cannot be written.
    """
    writer = rewriter(source, out)
    try:
        writer(source, out, changes)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}); choose another place.") from error


def rewriter(source: Path, out: Path) -> Writer:
    """What writes a source again to a place. Raises InputError when the place is named after another kind."""
    ending = out.suffix.lower()
    if source.is_dir():
        writer: Writer = rewrite_parquet if any(source.glob("*.parquet")) else rewrite_folder
        fits = not any(ending in endings for endings in WRITERS)
    else:
        endings, writer = next(item for item in WRITERS.items() if source.suffix.lower() in item[0])
        fits = ending in endings
    if fits:
        return writer
    if ending == ".npz":
        return _as_npz
    kind = "a folder, so name one" if source.is_dir() else f"a {source.suffix} file, so name one that ends in it"
    raise InputError(f"{out}: {source.name} is {kind}, or one that ends in .npz to get the pictures as they were read.")


def _as_npz(source: Path, out: Path, changes: Changes) -> None:
    save_npz(replace(changes.cells, labels=changes.labels).take(changes.keep), out)
