"""Write the parts of a table as one file: CSV, JSON lines or Parquet, by its ending."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

DIGITS = 6
"""Decimals of numbers in text."""


def write_csv(tables: Iterable[pa.Table], path: Path) -> None:
    """Numbers with DIGITS decimals, empty where there is none; a list takes a column for each of its numbers."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, table in enumerate(tables):
            columns = dict(_flat(table))
            if not number:
                writer.writerow(columns)
            writer.writerows(zip(*(_texts(values) for values in columns.values()), strict=True))


def write_jsonl(tables: Iterable[pa.Table], path: Path) -> None:
    """An object a line; null where there is no value."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in tables:
            for row in table.to_pylist():
                file.write(
                    json.dumps({name: _rounded(value) for name, value in row.items()}, ensure_ascii=False) + "\n"
                )


def write_parquet(tables: Iterable[pa.Table], path: Path) -> None:
    """A row group for each part."""
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


WRITERS: Mapping[str, Callable[[Iterable[Any], Path], None]] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}


def check_ending(out: Path) -> None:
    """Raise InputError unless the table can be written by that name: one of WRITERS' endings, or none for a folder."""
    if out.suffix not in WRITERS and out.suffix:
        raise InputError(
            f"{out}: ends in '{out.suffix}', expected {', '.join(WRITERS)}, or no ending for a folder of Parquet parts."
        )


def _flat(table: pa.Table) -> Iterator[tuple[str, list[Any]]]:
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_pylist()
        if not hasattr(column.type, "list_size"):
            yield name, values
            continue
        for place in range(column.type.list_size):
            yield f"{name}_{place}", [None if value is None else value[place] for value in values]


def _texts(values: list[Any]) -> list[str]:
    return ["" if value is None else f"{value:.{DIGITS}f}" if isinstance(value, float) else value for value in values]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, DIGITS) if isinstance(value, float) else value
