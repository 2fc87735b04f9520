"""Read Parquet files with encoded pictures and labels, as Hugging Face datasets write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope.data.cells import Cells
from hemascope.data.classes import LABEL_ORDER_NOTE, label_table
from hemascope.data.folder import printable
from hemascope.data.reading import CHUNK, Row, read_pictures
from hemascope.data.text import (
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    find_column,
    group_column,
    known_split,
    need_column,
    split_name,
)
from hemascope.errors import InputError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_BUFFER_BYTES = 2**20


def read_parquet(
    path: Path,
    *,
    size: int | None = 96,
    crop: int | None = None,
    class_map: Mapping[str, str] | None = None,
    group_by: str | None = None,
) -> Cells:
    """Cells of a Parquet file, or of all the Parquet files of a folder, with columns `image` and `label`.

    `image` is a struct {bytes, path} or plain bytes; `label` an integer or a name. A column `split` is kept; without
    one, files of a folder that are all named after a split (train-0.parquet, test.parquet) keep that. Never more than
    a chunk of encoded pictures is in memory. Raises InputError for a missing column, a missing label or group, a
    label that is none of the eight cells, or when no picture can be read.
    """
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    files = [_opened(part) for part in parts]
    named = [known_split(part.name.split(".")[0].split("-")[0].split("_")[0]) for part in parts]
    split_by_name = len(parts) > 1 and all(named)
    table: list[dict[str, Any]] = []
    for part, file, split in zip(parts, files, named, strict=True):
        table += _columns(part, file, group_by, split if split_by_name else None)
    names = label_table((row["label"] for row in table), class_map, path.name)
    rows = [Row(row["id"], names[row["label"]], row["split"], row["group"]) for row in table]
    notes = [LABEL_ORDER_NOTE] if all(name.isdigit() for name in names) else []
    sources = _pictures(parts, files)
    return read_pictures(sources, rows, size=size, crop=crop, source=path.name, notes=notes)


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split(". ")[0].splitlines()[0].rstrip(".")
        raise InputError(f"{path.name}: is not a readable Parquet file ({reason}); write it again.") from error
    image = find_column(file.schema_arrow.names, ("image",))
    kind = file.schema_arrow.field(image).type if image else None
    held = (
        kind
        if kind is None or not pa.types.is_struct(kind)
        else kind.field("bytes").type
        if "bytes" in kind.names
        else None
    )
    if held is None or not (pa.types.is_binary(held) or pa.types.is_large_binary(held)):
        found = ", ".join(f"'{name}'" for name in file.schema_arrow.names) or "none"
        raise InputError(
            f"{path.name}: no column 'image' of encoded pictures ({{bytes, path}} or bytes) among {found}; add it, or "
            "list the pictures' paths in a CSV."
        )
    return file


def _columns(path: Path, file: pq.ParquetFile, group_by: str | None, split: str | None) -> list[dict[str, Any]]:
    """Everything but the pictures, a dictionary for each row: id, label (as text), split, group."""
    columns = list(file.schema_arrow.names)
    image = need_column(columns, ("image",), path.name, "the pictures")
    label = need_column(columns, LABEL_COLUMNS, path.name, "the labels")
    split_column = find_column(columns, SPLIT_COLUMNS)
    group = None if group_by is None else group_column(columns, group_by, path.name)
    labels = _text(path, file, label)
    names = _label_names(file, label)
    if names is not None:
        labels = [_named(path, row, value, names) for row, value in enumerate(labels)]
    splits = [split_name(name, path.name) for name in _text(path, file, split_column)] if split_column else None
    groups = _text(path, file, group) if group else None
    paths = _paths(file, image)
    return [
        {
            "id": f"{path.name}#{row}" + (f":{printable(Path(paths[row]))}" if paths[row] else ""),
            "label": labels[row],
            "split": splits[row] if splits else split,
            "group": groups[row] if groups else None,
        }
        for row in range(len(labels))
    ]


def _text(path: Path, file: pq.ParquetFile, column: str) -> list[str]:
    import pyarrow as pa

    kind = file.schema_arrow.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path.name}: column '{column}' holds {kind}; expected whole numbers or text.")
    values = file.read(columns=[column])[column].to_pylist()
    if None in values or "" in values:
        row = next(row for row, value in enumerate(values) if value is None or value == "")
        raise InputError(f"{path.name}: row {row} has nothing in '{column}'; fill it or take the row out.")
    return [str(value) for value in values]


def _label_names(file: pq.ParquetFile, label: str) -> list[str] | None:
    """The class names of integer labels, where Hugging Face datasets recorded them in the file."""
    try:
        features = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _named(path: Path, row: int, value: str, names: Sequence[str]) -> str:
    if not value.isdigit():
        return value
    if int(value) >= len(names):
        raise InputError(
            f"{path.name}: row {row} has label {value}, but the file names {len(names)} classes; correct it."
        )
    return names[int(value)]


def _paths(file: pq.ParquetFile, image: str) -> list[str]:
    """The path beside each picture, empty where there is none."""
    import pyarrow as pa

    kind = file.schema_arrow.field(image).type
    if not pa.types.is_struct(kind) or "path" not in kind.names:
        return [""] * file.metadata.num_rows
    return [(row and row["path"]) or "" for row in file.read(columns=[f"{image}.path"])[image].to_pylist()]


def _pictures(parts: Sequence[Path], files: Sequence[pq.ParquetFile]) -> Iterator[bytes | InputError]:
    import pyarrow as pa

    for part, file in zip(parts, files, strict=True):
        image = need_column(file.schema_arrow.names, ("image",), part.name, "the pictures")
        leaf = f"{image}.bytes" if pa.types.is_struct(file.schema_arrow.field(image).type) else image
        try:
            for batch in file.iter_batches(batch_size=CHUNK, columns=[leaf]):
                for value in batch.column(0).to_pylist():
                    content = value["bytes"] if isinstance(value, dict) else value
                    yield (
                        InputError("the row holds no picture; fill it or take it out.") if content is None else content
                    )
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{part.name}: its pictures cannot be read ({error}); the file is damaged, copy it again."
            ) from error
