"""Read a CSV or TSV of picture paths and labels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hemascope.data.cells import Cells
from hemascope.data.classes import LABEL_ORDER_NOTE, label_table
from hemascope.data.folder import printable
from hemascope.data.reading import Row, read_pictures
from hemascope.data.text import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    SPLIT_COLUMNS,
    find_column,
    group_column,
    need_column,
    split_name,
)
from hemascope.errors import InputError

if TYPE_CHECKING:
    from _csv import Reader


def read_table(
    path: Path,
    *,
    size: int | None = 96,
    crop: int | None = None,
    class_map: Mapping[str, str] | None = None,
    group_by: str | None = None,
) -> Cells:
    """Cells of a CSV or TSV with a column of paths (relative to the table) and one of labels, by their usual names.

    A column `split` is kept; group_by names the column of the patient or slide. Raises InputError for a missing
    column, a row without label or group, a label that is none of the eight cells, or when no picture can be read.
    """
    lines = _lines(path, group_by)
    table = label_table((line.label for line in lines), class_map, path.name)
    times = Counter(line.picture for line in lines)
    rows = [Row(_id(path, line, times), table[line.label], line.split, line.group) for line in lines]
    sources = (
        path.parent / line.picture if line.picture else InputError(f"line {line.number} names no picture; fill it in.")
        for line in lines
    )
    notes = [LABEL_ORDER_NOTE] if all(name.strip().isdecimal() for name in table) else []
    return read_pictures(sources, rows, size=size, crop=crop, source=path.name, notes=notes)


@dataclass(frozen=True, slots=True)
class _Line:
    """What a line of the table says; number: counted from 1, as editors do."""

    number: int
    picture: str
    label: str
    split: str | None
    group: str | None


def _id(table: Path, line: _Line, times: Mapping[str, int]) -> str:
    if not line.picture:
        return f"{table.name}#{line.number}"
    shown = printable(Path(line.picture))
    return shown if times[line.picture] == 1 else f"{shown}#{line.number}"


def _lines(path: Path, group_by: str | None) -> list[_Line]:
    """Every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max("\t,;", key=first.count))
            columns = [name.strip() for name in next(reader, [])]
            lines = list(_parsed(reader, columns, path, group_by)) if columns else []
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is not UTF-8 text ({error.reason}); save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{path.name}: is not a readable table ({error}); save it as CSV again.") from error
    if not lines:
        raise InputError(f"{path.name}: has no rows; expected a header line and a line for each picture.")
    return lines


def _parsed(reader: Reader, columns: list[str], path: Path, group_by: str | None) -> Iterator[_Line]:
    picture = need_column(columns, PATH_COLUMNS, path.name, "the pictures' paths")
    label = need_column([name for name in columns if name != picture], LABEL_COLUMNS, path.name, "the labels")
    split = find_column(columns, SPLIT_COLUMNS)
    group = None if group_by is None else group_column(columns, group_by, path.name)
    place = {name: columns.index(name) for name in (picture, label, split, group) if name is not None}
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(columns):
            raise InputError(
                f"{path.name}: line {reader.line_num} has {len(values)} values but the header has {len(columns)}; "
                "correct it, or put names with a separator in quotes."
            )
        said = {name: values[position].strip() for name, position in place.items()}
        if missing := next((name for name in place if name != picture and not said[name]), None):
            raise InputError(
                f"{path.name}: line {reader.line_num} has nothing in '{missing}'; fill it or take the line out."
            )
        yield _Line(
            number=reader.line_num,
            picture=said[picture],
            label=said[label],
            split=split_name(said[split], f"{path.name} line {reader.line_num}") if split else None,
            group=said[group] if group else None,
        )
