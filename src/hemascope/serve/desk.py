"""What a person decides on the pictures that an audit points at, and the file that it is kept in."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hemascope.audit.apply import DECISIONS, read_decisions
from hemascope.audit.copies import label_name
from hemascope.data import Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.files import write_text

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("id", "pixel_hash", "group", "near_group", "suggested_label", "advice", "reason")
_FLAGS = ("is_not_a_cell", "is_exact_copy", "is_near_copy", "is_leak", "is_label_suspect", "is_outlier")


class Decision(NamedTuple):
    """One of DECISIONS; label: the class of a relabel, else empty."""

    decision: str
    label: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture to decide on. Rows with the same pixels are one picture, as a decision counts for all of them.

    key: the pixel hash as text, since it has more digits than a number of JavaScript holds. row: one of its rows. ids:
    of its first rows. rows: how many there are. labels: under which they stand. suggested: what the audit thinks.
    """

    key: str
    row: int
    ids: tuple[str, ...]
    rows: int
    labels: tuple[str, ...]
    suggested: str
    advice: str
    reason: str


@dataclass(frozen=True)
class Item:
    """Pictures that are decided on together. issue: one of ISSUES without "is_"."""

    issue: str
    pictures: tuple[Picture, ...]


def items_of(cells: Cells, findings: pd.DataFrame) -> list[Item]:
    """What an audit points at, in the order of _FLAGS, each issue's worst first.

    findings: the table of the audit of these cells. Near copies stand side by side, and so do the labels of a picture
    that stands under several. Raises InputError when the table is not of these cells.
    """
    table = _checked(cells, findings)
    keys = table["pixel_hash"].to_numpy(np.uint64)
    rows_of = {name: table.groupby(name, sort=False).indices for name in ("pixel_hash", "group", "near_group")}
    items: list[Item] = []
    seen: set[tuple[int, ...]] = set()
    for flag in _FLAGS:
        issue = flag.removeprefix("is_")
        together = {"not_a_cell": "group", "exact_copy": "group", "near_copy": "near_group"}.get(issue, "pixel_hash")
        flagged = table[table[flag].astype(bool)].sort_values(f"{issue}_score", kind="stable")
        for number in dict.fromkeys(flagged[together].tolist()):
            pictures = tuple(dict.fromkeys(keys[rows_of[together][number]].tolist()))
            # One picture is asked about once, though it be a copy and an outlier.
            if pictures not in seen:
                seen.add(pictures)
                shown = (_picture(cells, table.iloc[rows_of["pixel_hash"][key]]) for key in pictures)
                items.append(Item(issue, tuple(shown)))
    return items


def _checked(cells: Cells, findings: pd.DataFrame) -> pd.DataFrame:
    if missing := [name for name in (*_COLUMNS, *_FLAGS) if name not in findings]:
        raise InputError(f"findings.csv has no column '{missing[0]}'; give the folder that `audit --out` wrote.")
    table = findings.iloc[: len(cells)]
    same = len(table) == len(cells) and np.array_equal(
        table["pixel_hash"].to_numpy(np.uint64), np.asarray(pixel_hashes(cells))
    )
    if not same:
        raise InputError(
            f"findings.csv is not of these pixels of {cells.source}; give the data that was audited, read with the "
            "same --crop, or audit it again."
        )
    return table


def _picture(cells: Cells, rows: pd.DataFrame) -> Picture:
    row = int(rows.index[0])
    labels = dict.fromkeys(label_name(cells, int(place)) or "no label" for place in rows.index)
    suggested = next((str(label) for label in rows["suggested_label"] if label), "")
    return Picture(
        key=str(int(rows["pixel_hash"].iloc[0])),
        row=row,
        ids=tuple(str(name) for name in rows["id"].iloc[:4]),
        rows=len(rows),
        labels=tuple(labels),
        suggested=suggested,
        advice=str(rows["advice"].iloc[0]) if rows["advice"].nunique() == 1 else "keep one",
        reason=next((str(reason) for reason in rows["reason"] if reason), ""),
    )


def read_findings(folder: Path) -> pd.DataFrame:
    """The findings table of an audit's folder. Raises InputError when there is none."""
    import pandas as pd

    path = folder / "findings.csv"
    if not path.is_file():
        raise InputError(f"{folder}: holds no findings.csv; give the folder that `hemascope audit --out` wrote.")
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype={"pixel_hash": np.uint64}, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{path}: is no table of findings that can be read; audit the data again.") from error
    return table


class Desk:
    """The decisions of one person, each in the file before it counts as made.

    path: the CSV of `audit --decisions`: pixel_hash, decision, label. What stands there already is gone on from. Raises
    InputError when it is no such file.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path, self.classes = path, tuple(classes)
        self._lock = threading.Lock()
        self._history: list[tuple[str, Decision | None]] = []
        self._decided: dict[str, Decision] = {}
        if path.exists():
            for key, decision, label in read_decisions(path).itertuples(index=False):
                self._decided[str(int(key))] = Decision(decision, label if decision == "relabel" else "")

    @property
    def decided(self) -> Mapping[str, Decision]:
        """pixel hash -> what was decided."""
        return dict(self._decided)

    def decide(self, key: str, decision: Decision | None) -> None:
        """Keep a decision, or take one back (None). Raises InputError for what is none."""
        if decision is not None and decision.decision not in DECISIONS:
            raise InputError(f"'{decision.decision}' is no decision, expected {', '.join(DECISIONS)}.")
        if decision is not None and decision.decision == "relabel" and decision.label not in self.classes:
            raise InputError(f"'{decision.label}' is none of the classes, expected {', '.join(self.classes)}.")
        with self._lock:
            before = self._decided.get(key)
            self._keep(key, decision)
            self._history.append((key, before))

    def undo(self) -> str | None:
        """Take back the last change since the desk was opened; returns its pixel hash, or None when there is none."""
        with self._lock:
            if not self._history:
                return None
            key, before = self._history[-1]
            self._keep(key, before)
            self._history.pop()
            return key

    def _keep(self, key: str, decision: Decision | None) -> None:
        decided = {other: made for other, made in self._decided.items() if other != key}
        if decision is not None:
            decided[key] = decision
        write_text(self.path, _table(("pixel_hash", "decision", "label"), [(k, *made) for k, made in decided.items()]))
        # Only what is on the disk counts as decided.
        self._decided = decided


@dataclass(frozen=True)
class SpotCheck:
    """How often a person agrees. checked: pictures that were named. agreed: under the label that was to be checked.

    low, high: the exact interval of the share at 95%.
    """

    checked: int
    agreed: int
    low: float
    high: float


class SpotDesk:
    """Some pictures drawn at random, which a person names without being told the label that is checked.

    rows: of the cells, each of other pixels. labels: what is checked, for each of them. path: a CSV of pixel_hash, id,
    label and named, written after every answer; what stands there already is gone on from.
    """

    def __init__(self, path: Path, cells: Cells, rows: Sequence[int], labels: Sequence[str]) -> None:
        drawn = cells.take(np.array(rows, np.int64))
        self.path, self.classes = path, cells.class_names
        self.rows, self.labels = tuple(rows), tuple(labels)
        self.ids = tuple(str(name) for name in drawn.ids)
        self.keys = tuple(str(int(key)) for key in pixel_hashes(drawn))
        self._lock = threading.Lock()
        self._named: dict[str, str] = {}
        if path.exists():
            self._named = {key: name for key, name in _named_before(path).items() if key in self.keys}

    def name(self, key: str, label: str | None) -> None:
        """Keep what a person calls a picture, or take it back (None). Raises InputError for another one or class."""
        if key not in self.keys:
            raise InputError(f"{key} is none of the pictures that were drawn.")
        if label is not None and label not in self.classes:
            raise InputError(f"'{label}' is none of the classes, expected {', '.join(self.classes)}.")
        with self._lock:
            named = {other: given for other, given in self._named.items() if other != key}
            if label is not None:
                named[key] = label
            rows = [
                (key, name, label, named[key])
                for key, name, label in zip(self.keys, self.ids, self.labels, strict=True)
                if key in named
            ]
            write_text(self.path, _table(("pixel_hash", "id", "label", "named"), rows))
            self._named = named

    def state(self) -> dict[str, Any]:
        """Each picture, what it was named, and the label that is checked where it was named; and the result so far."""
        pictures = [
            {"key": key, "row": row, "named": self._named.get(key), "label": label if key in self._named else None}
            for key, row, label in zip(self.keys, self.rows, self.labels, strict=True)
        ]
        return {"pictures": pictures, "result": asdict(self.result())}

    def result(self) -> SpotCheck:
        """How often the person agrees so far."""
        from hemascope.metrics import clopper_pearson_interval

        named = [
            (self._named[key], label) for key, label in zip(self.keys, self.labels, strict=True) if key in self._named
        ]
        agreed = sum(given == label for given, label in named)
        return SpotCheck(len(named), agreed, *clopper_pearson_interval(agreed, len(named)))


def rows_to_check(cells: Cells, count: int, seed: int, labelled: bool = True) -> list[int]:
    """Rows drawn at random without replacement, each of other pixels; fewer where there are no more.

    labelled: whether only rows with a label are drawn. Raises InputError when there is none.
    """
    _, first = np.unique(pixel_hashes(cells), return_index=True)
    rows = np.sort(first[cells.labels[first] >= 0] if labelled else first)
    if not len(rows):
        raise InputError(f"{cells.source}: has no labelled picture to check; give labelled data or --model.")
    return [int(row) for row in np.random.default_rng(seed).permutation(rows)[:count]]


def _named_before(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"pixel_hash", "named"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}: is no spot check that can be gone on with; name another file.")
        return {row["pixel_hash"]: row["named"] for row in reader}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([header, *rows])
    return written.getvalue()
