"""Read Parquet files with encoded pictures and labels, as Hugging Face datasets write them; write them with changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope.data.cells import Cells
from hemascope.data.changes import Changes
from hemascope.data.classes import CLASS_NAMES, LABEL_ORDER_NOTE, class_of, label_table
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
from hemascope.files import replacing, replacing_folder
from hemascope.wording import many

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
    classes: tuple[str, ...] = CLASS_NAMES,
) -> Cells:
    """Cells of a Parquet file, or of all the Parquet files of a folder, with columns `image` and `label`.

    `image` is a struct {bytes, path} or plain bytes; `label` an integer or a name. A column `split` is kept; without
    one, files of a folder that are all named after a split (train-0.parquet, test.parquet) keep that. Never more than
    a chunk of encoded pictures is in memory. Raises InputError for a missing column, a missing label or group, a
    label that is none of the classes, or when no picture can be read.
    """
    parts = _parts(path)
    files = [_opened(part) for part in parts]
    named = [known_split(part.name.split(".")[0].split("-")[0].split("_")[0]) for part in parts]
    split_by_name = len(parts) > 1 and all(named)
    labels: list[str] = []
    for part, file in zip(parts, files, strict=True):
        labels += _labels(part, file)
    table = label_table(labels, class_map, path.name, classes)
    rows: list[Row] = []
    for part, file, split in zip(parts, files, named, strict=True):
        of_part = (table[label] for label in labels[len(rows) : len(rows) + file.metadata.num_rows])
        rows += map(
            Row, _ids(part, file), of_part, *_split_and_group(part, file, split if split_by_name else None, group_by)
        )
    notes = [LABEL_ORDER_NOTE] if all(name.isdecimal() for name in table) else []
    sources = _pictures(parts, files)
    return read_pictures(sources, rows, size=size, crop=crop, source=path.name, notes=notes, classes=classes)


def rewrite_parquet(path: Path, out: Path, changes: Changes) -> None:
    """The same file or folder of files, with its columns and types, less the rows that do not stay."""
    parts = _parts(path)
    files = [_opened(part) for part in parts]
    names = [_ids(part, file) for part, file in zip(parts, files, strict=True)]
    columns = [
        need_column(file.schema_arrow.names, LABEL_COLUMNS, part.name, "the labels")
        for part, file in zip(parts, files, strict=True)
    ]
    texts = [_text(part, file, column) for part, file, column in zip(parts, files, columns, strict=True)]
    spelling = changes.spelling(
        pair for name, text in zip(names, texts, strict=True) for pair in zip(name, text, strict=True)
    )
    known = _label_names(files[0], columns[0])
    if known is not None:
        # A class that no row has may still have its number in the file's list of names.
        numbers = {class_of(name): str(number) for number, name in enumerate(known)}
        present = set(changes.cells.labels.tolist())
        spelling = [
            text if label in present else numbers.get(CLASS_NAMES[label], text) for label, text in enumerate(spelling)
        ]
    with replacing_folder(out) if path.is_dir() else replacing(out) as temporary:
        for part, file, column, ids in zip(parts, files, columns, names, strict=True):
            target = temporary / part.name if path.is_dir() else temporary
            _write_part(part, file, target, column, ids, changes, spelling)


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files of a folder, sorted; or the file itself."""
    return _parts(path)


def count_parquet_pictures(path: Path) -> int:
    """How many rows a Parquet file of pictures has. Raises InputError as `stream_parquet`."""
    return int(_opened(path).metadata.num_rows)


def stream_parquet(path: Path, first: int = 0) -> Iterator[tuple[str, bytes | InputError]]:
    """The encoded pictures of one Parquet file from row `first` on: (id, bytes, or why there are none).

    A chunk of rows is in memory at a time. Labels are not looked at. Raises InputError when the file cannot be read or
    has no column `image`.
    """
    import pyarrow as pa

    # A memory map would count every page that was read as memory in use.
    file = _opened(path, mapped=False)
    image = need_column(file.schema_arrow.names, ("image",), path.name, "the pictures")
    kind = file.schema_arrow.field(image).type
    leaves = [f"{image}.{name}" for name in ("bytes", "path") if name in kind.names] if pa.types.is_struct(kind) else []
    groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    row, wanted = 0, 0
    while wanted < len(groups) and row + groups[wanted] <= first:
        row += groups[wanted]
        wanted += 1
    with _told_of(path):
        batches = file.iter_batches(
            batch_size=CHUNK, columns=leaves or [image], row_groups=list(range(wanted, len(groups)))
        )
        for batch in batches:
            if row + len(batch) > first:
                for place, value in enumerate(batch.column(0).to_pylist()):
                    if row + place >= first:
                        yield _named_picture(path, row + place, value)
            row += len(batch)


def _named_picture(path: Path, row: int, value: bytes | dict[str, Any] | None) -> tuple[str, bytes | InputError]:
    held: dict[str, Any] = value if isinstance(value, dict) else {"bytes": value}
    name = f"{path.as_posix()}#{row}" + (f":{printable(Path(held['path']))}" if held.get("path") else "")
    content: bytes | None = held.get("bytes")
    return name, InputError("the row holds no picture; fill it or take it out.") if content is None else content


def _write_part(
    part: Path,
    file: pq.ParquetFile,
    out: Path,
    column: str,
    ids: Sequence[str],
    changes: Changes,
    spelling: Sequence[str],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = file.schema_arrow
    place, kind = schema.names.index(column), schema.field(column).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    codec = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "SNAPPY"
    start = 0
    with _told_of(part), pq.ParquetWriter(out, schema, compression=codec) as writer:
        for batch in file.iter_batches(batch_size=CHUNK):
            here = ids[start : start + len(batch)]
            start += len(batch)
            table = pa.Table.from_batches([batch])
            new = [changes.new_label(name) for name in here]
            if any(label is not None for label in new):
                old = table.column(column).to_pylist()
                values = [value if label is None else spelling[label] for value, label in zip(old, new, strict=True)]
                values = [int(value) for value in values] if pa.types.is_integer(plain) else values
                table = table.set_column(place, schema.field(column), pa.array(values, plain).cast(kind))
            writer.write_table(table.filter(pa.array([changes.stays(name) for name in here])).cast(schema))


def _parts(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn what Arrow raises for a damaged file into a sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise InputError(f"{path.name}: cannot be read as Parquet ({reason}); copy it again.") from error


def _opened(path: Path, mapped: bool = True) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _told_of(path):
        file = pq.ParquetFile(path, memory_map=mapped, buffer_size=_BUFFER_BYTES, pre_buffer=False)
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


def _labels(path: Path, file: pq.ParquetFile) -> list[str]:
    """The label of each row, as text: a name where the file has or records names, else a number."""
    column = need_column(file.schema_arrow.names, LABEL_COLUMNS, path.name, "the labels")
    labels = _text(path, file, column)
    names = _label_names(file, column)
    return labels if names is None else [_named(path, row, label, names) for row, label in enumerate(labels)]


def _split_and_group(
    path: Path, file: pq.ParquetFile, split: str | None, group_by: str | None
) -> tuple[list[str | None], list[str | None]]:
    columns, rows = file.schema_arrow.names, file.metadata.num_rows
    splits: list[str | None] = [split] * rows
    groups: list[str | None] = [None] * rows
    if column := find_column(columns, SPLIT_COLUMNS):
        splits = [split_name(name, path.name) for name in _text(path, file, column)]
    if group_by is not None:
        groups = [*_text(path, file, group_column(columns, group_by, path.name))]
    return splits, groups


def _ids(path: Path, file: pq.ParquetFile) -> list[str]:
    """File and row, and the path beside the picture where there is one."""
    import pyarrow as pa

    image = need_column(file.schema_arrow.names, ("image",), path.name, "the pictures")
    kind = file.schema_arrow.field(image).type
    if not pa.types.is_struct(kind) or "path" not in kind.names:
        return [f"{path.name}#{row}" for row in range(file.metadata.num_rows)]
    with _told_of(path):
        pictures = file.read(columns=[f"{image}.path"])[image].to_pylist()
    paths = [picture["path"] if picture else None for picture in pictures]
    return [f"{path.name}#{row}" + (f":{printable(Path(name))}" if name else "") for row, name in enumerate(paths)]


def _text(path: Path, file: pq.ParquetFile, column: str) -> list[str]:
    import pyarrow as pa

    kind = file.schema_arrow.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path.name}: column '{column}' holds {kind}; expected whole numbers or text.")
    with _told_of(path):
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
    if not value.isdecimal():
        return value
    if int(value) >= len(names):
        raise InputError(
            f"{path.name}: row {row} has label {value}, but the file names {many(len(names), 'class', 'classes')}; "
            "correct it."
        )
    return names[int(value)]


def _pictures(parts: Sequence[Path], files: Sequence[pq.ParquetFile]) -> Iterator[bytes | InputError]:
    import pyarrow as pa

    for part, file in zip(parts, files, strict=True):
        image = need_column(file.schema_arrow.names, ("image",), part.name, "the pictures")
        leaf = f"{image}.bytes" if pa.types.is_struct(file.schema_arrow.field(image).type) else image
        with _told_of(part):
            for batch in file.iter_batches(batch_size=CHUNK, columns=[leaf]):
                for value in batch.column(0).to_pylist():
                    content = value["bytes"] if isinstance(value, dict) else value
                    yield (
                        InputError("the row holds no picture; fill it or take it out.") if content is None else content
                    )
