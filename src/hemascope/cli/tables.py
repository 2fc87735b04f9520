"""Scores on the terminal: a leaderboard as wide as it is, and a few aligned lines for one model."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope.wording import listed, many

if TYPE_CHECKING:
    from rich.table import Table

HIDDEN = ("_low", "_high", "_std", "balanced_accuracy", "chosen", "weights", "parameters", "seed", "seeds")
"""How columns end by which no choice is made: the file alone has them."""

FIRST = ("recipe", "share", "validation_stress_score", "test_accuracy", "validation_accuracy", "rows")
LAST = ("test_stress_score", "milliseconds_a_picture")
"""What a narrow terminal shows first, and what it leaves out first, from the end."""

_NAME = 20  # letters in a line of a name that is broken, between its words


def print_table(table: Any, file: Path) -> None:
    """Print the columns that a choice is made by, as many as there is room for. file: where all of them stand.

    No word is broken: where the terminal is narrow, headings and names go over several lines, then deviations, and
    then columns are left out, and named.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console, endless = Console(), Console(width=10_000)
    columns = [str(name) for name in table.columns if not str(name).endswith(HIDDEN)]
    for kept, narrow, below in _ways(columns):
        shown = _laid_out(table, kept, narrow, below)
        if Measurement.get(endless, endless.options, shown).maximum <= console.width:
            break
    console.print()
    console.print(shown)
    if left_out := [_title(name) for name in columns if name not in kept]:
        console.print(f"{file} has {listed(left_out)} too", markup=False, highlight=False, soft_wrap=True)


def _ways(columns: list[str]) -> Iterator[tuple[list[str], bool, bool]]:
    """How a table may be laid out, the widest first: its columns, and what `_laid_out` takes."""
    yield columns, False, False
    kept = columns
    order = [*FIRST, *(name for name in columns if name not in (*FIRST, *LAST)), *LAST]
    while True:
        yield kept, True, False
        yield kept, True, True
        if len(kept) < 3:
            return
        least = max(kept, key=order.index)
        kept = [name for name in kept if name != least]


def _laid_out(table: Any, columns: list[str], narrow: bool, below: bool) -> Table:
    """The table for rich. narrow: headings and names may take several lines; below: deviations stand under means."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    rows = table.to_dict("records")
    cells = [
        [_cell(row[name]) + _spread(row.get(f"{name}_std"), "\n" if below else " ") for name in columns] for row in rows
    ]
    for row, texts in zip(rows, cells, strict=True):
        texts[0] = f"{texts[0]}, chosen" if row.get("chosen") else texts[0]
        texts[0] = textwrap.fill(texts[0], _NAME, break_long_words=False) if narrow else texts[0]
    for place, name in enumerate(columns):
        lines = [line for texts in cells for line in texts[place].split("\n")]
        least = max(map(len, [*lines, *_title(name).split()])) if narrow else 1_000
        numbers = table[name].dtype.kind in "fi"
        shown.add_column(
            textwrap.fill(_title(name), least, break_long_words=False, break_on_hyphens=False),
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=True,
        )
    for row, texts in zip(rows, cells, strict=True):
        first = Text(texts[0], style="bold" if row.get("chosen") else "")
        shown.add_row(first, *map(Text, texts[1:]))
    return shown


def _title(column: str) -> str:
    if column.startswith("accuracy on"):
        return column
    return {"milliseconds_a_picture": "ms a picture"}.get(column, column.replace("_", " "))


def _spread(deviation: float | None, before: str) -> str:
    return "" if deviation is None or deviation != deviation else f"{before}± {deviation:.3f}"


def _cell(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def summary(scores: Mapping[str, Any]) -> str:
    """The scores in a few aligned lines, for a terminal."""
    classes = sum(row["support"] > 0 for row in scores["per_class"])
    lines = [("scored on", f"{many(scores['n'], 'picture')}, {many(classes, 'class', 'classes')}")]
    for name, title in (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("macro_f1", "macro-F1"),
        ("auc", "AUC, one against rest"),
    ):
        interval = scores[f"{name}_interval"]
        between = f"   {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        lines.append((title, "undefined" if scores[name] is None else f"{scores[name]:.4f}{between}"))
    weakest = sorted((row for row in scores["per_class"] if row["support"]), key=lambda row: float(row["recall"]))
    lines += [
        ("" if place else "weakest classes", f"{row['class']}: {row['recall']:.4f}, {_found(row)} found")
        for place, row in enumerate(row for row in weakest[:3] if row["recall"] < 1)
    ]
    lines += [
        (
            "" if place else "most confused",
            f"{pair['true']} called {pair['predicted']}: {pair['count']:,} ({pair['share']:.1%})",
        )
        for place, pair in enumerate(scores["most_confused"][:3])
    ]
    calibration = scores["calibration"]
    lines.append(("calibration error", f"{calibration['expected_calibration_error']:.4f}"))
    width = max(len(title) for title, _ in lines) + 3
    return "\n".join(f"{title:<{width}}{text}" for title, text in lines)


def _found(row: Mapping[str, Any]) -> str:
    return f"{round(row['recall'] * row['support']):,} of {row['support']:,}"
