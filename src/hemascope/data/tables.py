"""Read a CSV or TSV of picture paths and labels, and write it again with changes."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hemascope.data.cells import Cells
from hemascope.data.changes import Changes
from hemascope.data.classes import CLASS_NAMES, LABEL_ORDER_NOTE, label_table
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
from hemascope.files import replacing
from hemascope.wording import many

if TYPE_CHECKING:
    from _csv import Reader


def read_table(
    path: Path,
    *,
    size: int | None = 96,
    crop: int | None = None,
    class_map: Mapping[str, str] | None = None,
    group_by: str | None = None,
    classes: tuple[str, ...] = CLASS_NAMES,
) -> Cells:
    """Cells of a CSV or TSV with a column of paths (relative to the table) and one of labels, by their usual names.

    A column `split` is kept; group_by names the column of the patient or slide. Raises InputError for a missing
    column, a row without label or group, a label that is none of the classes, or when no picture can be read.
    """
    lines = _lines(path, group_by).lines
    table = label_table((line.label for line in lines), class_map, path.name, classes)
    times = Counter(line.picture for line in lines)
    rows = [Row(_id(path, line, times), table[line.label], line.split, line.group) for line in lines]
    sources = (
        path.parent / line.picture if line.picture else InputError(f"line {line.number} names no picture; fill it in.")
        for line in lines
    )
    notes = [LABEL_ORDER_NOTE] if all(name.strip().isdecimal() for name in table) else []
    return read_pictures(sources, rows, size=size, crop=crop, source=path.name, notes=notes, classes=classes)


def rewrite_table(path: Path, out: Path, changes: Changes) -> None:
    """The same table without the lines that do not stay and with the labels that they have now.

    Paths are written so that they lead from the new place to the same pictures.
    """
    table = _lines(path, None)
    times = Counter(line.picture for line in table.lines)
    names = [_id(path, line, times) for line in table.lines]
    spelling = changes.spelling((name, line.label) for name, line in zip(names, table.lines, strict=True))
    moved = path.parent.resolve() != out.parent.resolve()
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=table.delimiter, lineterminator="\n")
        writer.writerow(table.columns)
        for name, line in zip(names, table.lines, strict=True):
            if not changes.stays(name):
                continue
            values = list(line.values)
            if moved and not Path(line.picture).is_absolute():
                place = os.path.relpath(path.parent.resolve() / line.picture, out.parent.resolve())
                values[table.picture] = Path(place).as_posix()
            label = changes.new_label(name)
            values[table.label] = values[table.label] if label is None else spelling[label]
            writer.writerow(values)


def stream_table(path: Path) -> Iterator[tuple[str, Path | InputError]]:
    """The pictures that a CSV or TSV names, line by line: (id, path, or what is wrong with the line).

    Labels are not looked at. Raises InputError when the file is no table or has no column of paths.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=_delimiter(file))
            columns = [name.strip() for name in next(reader, [])]
            place = columns.index(need_column(columns, PATH_COLUMNS, path.name, "the pictures' paths"))
            for values in reader:
                if any(value.strip() for value in values):
                    yield _line_picture(path, reader.line_num, values, len(columns), place)
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is not UTF-8 text ({error.reason}); save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{path.name}: is not a readable table ({error}); save it as CSV again.") from error


def _line_picture(path: Path, line: int, values: list[str], width: int, place: int) -> tuple[str, Path | InputError]:
    name = values[place].strip() if len(values) == width else ""
    if name:
        return printable(Path(name)), path.parent / name
    reason = (
        "names no picture" if len(values) == width else f"has {many(len(values), 'value')} but the header has {width}"
    )
    return f"{path.as_posix()}#{line}", InputError(f"line {line} {reason}; correct it.")


def _delimiter(file: IO[str]) -> str:
    first = file.readline()
    file.seek(0)
    return max("\t,;", key=first.count)


@dataclass(frozen=True, slots=True)
class _Line:
    """What a line of the table says; number: counted from 1, as editors do. values: all that stands in it."""

    number: int
    values: tuple[str, ...]
    picture: str
    label: str
    split: str | None
    group: str | None


@dataclass(frozen=True)
class _Table:
    """A table as it was read. picture, label: the places of those two columns."""

    delimiter: str
    columns: list[str]
    picture: int
    label: int
    lines: list[_Line]


def _id(table: Path, line: _Line, times: Mapping[str, int]) -> str:
    if not line.picture:
        return f"{table.name}#{line.number}"
    shown = printable(Path(line.picture))
    return shown if times[line.picture] == 1 else f"{shown}#{line.number}"


def _lines(path: Path, group_by: str | None) -> _Table:
    """Every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file)
            reader = csv.reader(file, delimiter=delimiter)
            columns = [name.strip() for name in next(reader, [])]
            lines = list(_parsed(reader, columns, path, group_by)) if columns else []
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is not UTF-8 text ({error.reason}); save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{path.name}: is not a readable table ({error}); save it as CSV again.") from error
    if not lines:
        raise InputError(f"{path.name}: has no rows; expected a header line and a line for each picture.")
    picture, label = _needed(columns, path)
    return _Table(delimiter, columns, columns.index(picture), columns.index(label), lines)


def _needed(columns: list[str], path: Path) -> tuple[str, str]:
    """The names of the columns of paths and of labels."""
    picture = need_column(columns, PATH_COLUMNS, path.name, "the pictures' paths")
    others = [name for name in columns if name != picture]
    return picture, need_column(others, LABEL_COLUMNS, path.name, "the labels")


def _parsed(reader: Reader, columns: list[str], path: Path, group_by: str | None) -> Iterator[_Line]:
    picture, label = _needed(columns, path)
    split = find_column(columns, SPLIT_COLUMNS)
    group = None if group_by is None else group_column(columns, group_by, path.name)
    place = {name: columns.index(name) for name in (picture, label, split, group) if name is not None}
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(columns):
            raise InputError(
                f"{path.name}: line {reader.line_num} has {many(len(values), 'value')} but the header has "
                f"{len(columns)}; correct it, or put names with a separator in quotes."
            )
        said = {name: values[position].strip() for name, position in place.items()}
        if missing := next((name for name in place if name != picture and not said[name]), None):
            raise InputError(
                f"{path.name}: line {reader.line_num} has nothing in '{missing}'; fill it or take the line out."
            )
        yield _Line(
            number=reader.line_num,
            values=tuple(values),
            picture=said[picture],
            label=said[label],
            split=split_name(said[split], f"{path.name} line {reader.line_num}") if split else None,
            group=said[group] if group else None,
        )
