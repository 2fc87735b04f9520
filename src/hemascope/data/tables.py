"""Read a CSV or TSV of picture paths and labels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

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
    columns, lines = _lines(path)
    paths = need_column(columns, PATH_COLUMNS, path.name, "the pictures' paths")
    labels = need_column([name for name in columns if name != paths], LABEL_COLUMNS, path.name, "the labels")
    split = find_column(columns, SPLIT_COLUMNS)
    group = None if group_by is None else group_column(columns, group_by, path.name)
    needed = [name for name in (labels, split, group) if name is not None]
    for number, line in lines:
        if missing := next((name for name in needed if not line[name]), None):
            raise InputError(f"{path.name}: line {number} has nothing in '{missing}'; fill it or take the line out.")
    table = label_table((line[labels] for _, line in lines), class_map, path.name)
    times = Counter(line[paths] for _, line in lines)
    rows = [
        Row(
            id=_id(path, line[paths], number, times),
            label=table[line[labels]],
            split=split_name(line[split], f"{path.name} line {number}") if split else None,
            group=line[group] if group else None,
        )
        for number, line in lines
    ]
    sources = (
        path.parent / line[paths] if line[paths] else InputError(f"line {number} names no picture; fill '{paths}'.")
        for number, line in lines
    )
    notes = [LABEL_ORDER_NOTE] if all(name.strip().isdigit() for name in table) else []
    return read_pictures(sources, rows, size=size, crop=crop, source=path.name, notes=notes)


def _id(table: Path, picture: str, line: int, times: Mapping[str, int]) -> str:
    if not picture:
        return f"{table.name}#{line}"
    shown = printable(Path(picture))
    return shown if times[picture] == 1 else f"{shown}#{line}"


def _lines(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns, and each line that is not blank with its number in the file: column -> stripped text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max("\t,;", key=first.count))
            columns = [name.strip() for name in next(reader, [])]
            lines = []
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(columns):
                    raise InputError(
                        f"{path.name}: line {reader.line_num} has {len(values)} values but the header has "
                        f"{len(columns)}; correct it, or put names with a separator in quotes."
                    )
                lines.append(
                    (reader.line_num, {name: value.strip() for name, value in zip(columns, values, strict=True)})
                )
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is not UTF-8 text ({error.reason}); save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{path.name}: is not a readable table ({error}); save it as CSV again.") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be opened ({error.strerror or error}); check the name and your rights."
        ) from error
    if not lines:
        raise InputError(f"{path.name}: has no rows; expected a header line and a line for each picture.")
    return columns, lines
