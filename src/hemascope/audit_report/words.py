"""Words and rows as the page of an audit shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 240  # letters of an id or a reason: a page of 2,000 rows stays small whatever the files are called


def shortened(text: object) -> str:
    """The text, or its beginning where it is long."""
    words = str(text)
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, each as a dict from column to value."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
