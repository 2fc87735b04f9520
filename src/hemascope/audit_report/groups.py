"""The pictures on the page of an audit: for each issue, what stands side by side, the worst first."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.copies import label_name
from hemascope.audit.findings import Audit
from hemascope.audit_report.words import records, shortened
from hemascope.data.cells import SPLITS, Cells
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

MOST_GROUPS: Mapping[str, int] = {
    "not_a_cell": 12,
    "exact_copy": 12,
    "near_copy": 16,
    "leak": 16,
    "label_suspect": 24,
    "outlier": 24,
}
MOST_IN_GROUP = 4
"""Together with MOST_GROUPS, at most 172 thumbnails stand on a page."""

_SIDE = 96  # pixels: sharp on dense screens at the 72 CSS pixels that a thumbnail takes
_QUALITY = 75
_ELSEWHERE = -1


@dataclass(frozen=True)
class Shown:
    """A picture on the page: its set (0 the audited one, then the others in order), its row there, and its words."""

    part: int
    row: int
    id: str
    label: str
    suggested: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures that stand side by side, what joins them, and how many more there are than can be shown."""

    caption: str
    pictures: tuple[Shown, ...]
    more: int = 0
    alarm: bool = False


@dataclass(frozen=True)
class Section:
    """The pictures of one issue, the worst first. total: how many groups there are, shown or not."""

    issue: str
    title: str
    about: str
    counted: str
    groups: tuple[Group, ...]
    total: int


def sections_of(audit: Audit, parts: Sequence[Cells]) -> list[Section]:
    """The sections that have pictures. parts: the audited set and the others that it was held against."""
    sections = [
        _not_a_cell(audit),
        _exact_copies(audit),
        _leaks(audit, parts),
        _near_copies(audit, parts),
        _singles(
            audit,
            "label_suspect",
            "Suspect labels",
            "Each label was judged by a model that had not seen the picture. The given label stands first, then what "
            "the picture looks like; a person has to decide. The probability that a label is right takes into account "
            "how rarely labels of this set are wrong.",
        ),
        _singles(
            audit,
            "outlier",
            "Outliers",
            "Pictures far from what is usual in this set. A rare cell may be among them, so none is dropped unasked.",
        ),
    ]
    return [section for section in sections if section.groups]


def _not_a_cell(audit: Audit) -> Section:
    found = audit.findings[audit.findings["is_not_a_cell"].astype(bool)]
    by_size = sorted(found.groupby("group"), key=lambda item: -len(item[1]))
    groups = [
        Group(
            f"{many(len(rows), 'row')} under {many(_labels(rows), 'label')}"
            if _labels(rows)
            else f"{many(len(rows), 'row')}, no label",
            (_shown(audit.cells, int(rows.index[0]), label=""),),
        )
        for _, rows in by_size[: MOST_GROUPS["not_a_cell"]]
    ]
    return Section(
        "not_a_cell",
        "Not a cell",
        "Nobody photographs one cell so often, and no cell is of so many kinds. Each picture is shown once; all its "
        "rows are to be dropped.",
        _counted(len(groups), len(by_size), "picture", "most frequent"),
        tuple(groups),
        len(by_size),
    )


def _exact_copies(audit: Audit) -> Section:
    found = audit.findings[audit.findings["is_exact_copy"].astype(bool)]
    together = [rows for _, rows in found.groupby("group")]
    together.sort(key=lambda rows: (_labels(rows) < 2, -len(rows)))
    differing = sum(_labels(rows) > 1 for rows in together)
    groups = []
    for rows in together[: MOST_GROUPS["exact_copy"]]:
        # Rows of different labels come first, as they are what a reader has to see.
        order = [*rows.index[~rows["label"].duplicated()], *rows.index[rows["label"].duplicated()]][:MOST_IN_GROUP]
        labels = _labels(rows)
        groups.append(
            Group(
                f"{many(len(rows), 'row')}, {labels} labels: drop all"
                if labels > 1
                else f"{many(len(rows), 'row')}: keep one",
                tuple(_shown(audit.cells, row) for row in order),
                len(rows) - len(order),
                labels > 1,
            )
        )
    return Section(
        "exact_copy",
        "Exact copies",
        f"Rows with the same pixels. {_conflicts(differing)}"
        if differing
        else "Rows with the same pixels, each time under one label.",
        _counted(len(groups), len(together), "picture", "worst"),
        tuple(groups),
        len(together),
    )


def _conflicts(pictures: int) -> str:
    which = "One picture stands" if pictures == 1 else f"{pictures:,} pictures stand"
    return f"{which} under different labels, and nothing says which of them is right: all rows of such a picture go."


def _near_copies(audit: Audit, parts: Sequence[Cells]) -> Section:
    pairs = [pair for pair in records(audit.near) if not _is_leak(pair, audit.cells)]
    groups = [_pair(pair, parts) for pair in _worst(pairs)[: MOST_GROUPS["near_copy"]]]
    return Section(
        "near_copy",
        "Near copies",
        "The same cell, turned, mirrored, moved, resized or changed in brightness. None is dropped, but a split has to "
        "keep them on one side.",
        _counted(len(groups), len(pairs), "pair", "worst"),
        tuple(groups),
        len(pairs),
    )


def _leaks(audit: Audit, parts: Sequence[Cells]) -> Section:
    pairs = [pair | {"similarity": 1.0, "transform": "the same pixels"} for pair in records(audit.leaks)]
    pairs += [pair for pair in records(audit.near) if _is_leak(pair, audit.cells)]
    groups = [_pair(pair, parts) for pair in _worst(pairs)[: MOST_GROUPS["leak"]]]
    return Section(
        "leak",
        "Leaks",
        "The same cell on both sides: in two splits, or in another file too. A score on such pictures says what was "
        "learnt by heart.",
        _counted(len(groups), len(pairs), "pair", "worst"),
        tuple(groups),
        len(pairs),
    )


def _singles(audit: Audit, issue: str, title: str, about: str) -> Section:
    found = audit.findings[audit.findings[f"is_{issue}"].astype(bool)].sort_values(f"{issue}_score", kind="stable")
    suspect = issue == "label_suspect"
    groups = [
        Group(
            f"the label is right with probability {row[f'{issue}_score']:.3f}" if suspect else shortened(row["reason"]),
            (_shown(audit.cells, place, suggested=row["suggested_label"] if suspect else ""),),
        )
        for place, row in zip(found.index, records(found.head(MOST_GROUPS[issue])), strict=False)
    ]
    return Section(
        issue, title, about, _counted(len(groups), len(found), "picture", "worst"), tuple(groups), len(found)
    )


def _labels(rows: pd.DataFrame) -> int:
    """Under how many labels some rows stand; a row without a label contradicts none."""
    return int(rows.loc[rows["label"] != "", "label"].nunique())


def _worst(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs under different labels first, then those that are most alike."""
    return sorted(pairs, key=lambda pair: (not pair["other_label"], -pair["similarity"]))


def _is_leak(pair: Mapping[str, Any], cells: Cells) -> bool:
    """Whether a near pair crosses files or splits."""
    if pair["where"] != cells.source:
        return True
    return cells.split is not None and bool(cells.split[pair["row"]] != cells.split[pair["other_row"]])


def _pair(pair: Mapping[str, Any], parts: Sequence[Cells]) -> Group:
    cells = parts[0]
    part = _part_of(pair, parts)
    there = Shown(_ELSEWHERE, 0, shortened(pair["other_id"]), "")
    words = [str(pair["transform"] or "nearly the same pixels")]
    if pair["similarity"] < 1:
        words.append(f"similarity {pair['similarity']:.3f}")
    if part != _ELSEWHERE:
        there = _shown(parts[part], pair["other_row"], part=part)
    if _is_leak(pair, cells):
        words.append(str(pair["where"]) if " and " in pair["where"] else f"also in {pair['where']}")
    return Group(shortened("; ".join(words)), (_shown(cells, pair["row"]), there), alarm=bool(pair["other_label"]))


def _part_of(pair: Mapping[str, Any], parts: Sequence[Cells]) -> int:
    """The set that holds the other picture of a pair: the one that is named and has that id in that row."""
    cells, row = parts[0], pair["other_row"]
    splits = {f"{one} and {other}" for one in SPLITS for other in SPLITS}
    names = [{cells.source} | splits, *({part.source, f"{cells.source} and {part.source}"} for part in parts[1:])]
    for place, (part, known) in enumerate(zip(parts, names, strict=True)):
        if pair["where"] in known and row < len(part) and part.ids[row] == pair["other_id"]:
            return place
    return _ELSEWHERE


def _shown(cells: Cells, row: int, *, part: int = 0, label: str | None = None, suggested: str = "") -> Shown:
    label = (label_name(cells, row) or "no label") if label is None else label
    return Shown(part, row, shortened(cells.ids[row]), shortened(label), shortened(suggested))


def _counted(shown: int, total: int, word: str, order: str) -> str:
    """How many of how many are shown, in words."""
    if shown < total:
        return f"The {shown:,} {order} of {total:,} {word}s."
    return f"All {total:,} {word}s." if total > 1 else f"One {word}."


def thumbnails(parts: Sequence[Cells], sections: Iterable[Section]) -> dict[tuple[int, int], str]:
    """(set, row) -> a data address of each picture that is at hand, read once."""
    pictures = (shown for section in sections for group in section.groups for shown in group.pictures)
    wanted = sorted({(shown.part, shown.row) for shown in pictures if shown.part != _ELSEWHERE})
    found = {}
    for part in {part for part, _ in wanted}:
        rows = np.array([row for place, row in wanted if place == part], np.int64)
        for row, image in zip(rows.tolist(), np.asarray(parts[part].images[rows]), strict=True):
            found[part, row] = _thumbnail(image)
    return found


def _thumbnail(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"
