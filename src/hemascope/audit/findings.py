"""The whole audit of a set of pictures: one findings table, and what follows from it in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.copies import Copies, find_copies, label_name, leaks
from hemascope.audit.features import cell_features, picture_statistics
from hemascope.audit.labels import find_label_suspects, judged_rows, out_of_sample_probabilities
from hemascope.audit.near_copies import near_copies, near_copy_groups
from hemascope.audit.outliers import OutlierThresholds, find_outliers
from hemascope.audit.shape import Finding, shape_of_set
from hemascope.audit.shortcuts import background_measures, find_shortcuts
from hemascope.data import Cells, pixel_hashes
from hemascope.data.cells import UNKNOWN_LABEL
from hemascope.files import replacing
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

ISSUES = ("unreadable", "not_a_cell", "exact_copy", "near_copy", "leak", "label_suspect", "outlier")
"""Each has a column `<issue>_score` in [0, 1], low is bad, and `is_<issue>`, in the order in which they count."""

ADVICE = ("drop", "look", "keep")
GOOD_JUDGE = 0.9
"""A judge of labels that names fewer of them itself errs too often for its doubt to stand without a word."""

LOOKED_AT = {
    "near_copy": ("near copy", "near copies"),
    "leak": ("leak", "leaks"),
    "label_suspect": ("suspect label", "suspect labels"),
    "outlier": ("outlier", "outliers"),
}
"""The issues that a person has to look at, in words for one and for several; the others drop a row or say nothing."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    findings: a row for each picture, also for one that could not be read: id, label, split, pixel_hash, group (equal
    for exact copies), near_group (equal for near copies too), the columns of ISSUES, suggested_label, advice (one of
    ADVICE) and reason, in words. Its first len(cells) rows are those of the cells, in their order.
    near, leaks: the pairs found, a row each. shortcuts: how well the background and the file tell the label.
    about: what is so of the set as a whole. statistics: name -> float32 (n,), what outliers were judged by.
    labels_named: the share of judged labels that what judges them names too, out of sample; NaN where none was judged.
    """

    cells: Cells
    findings: pd.DataFrame
    near: pd.DataFrame
    leaks: pd.DataFrame
    shortcuts: pd.DataFrame
    about: tuple[Finding, ...]
    statistics: Mapping[str, NDArray[np.float32]]
    labels_named: float = float("nan")

    @property
    def sentences(self) -> list[Finding]:
        """The findings in sentences with a number each, those that ask for care first."""
        return [*_told(self), *self.about]

    @property
    def advice(self) -> dict[str, int]:
        """How many rows each of ADVICE is given to. To look at are rows that stay and have an issue of LOOKED_AT."""
        counts = self.findings["advice"].value_counts()
        return {name: int(counts.get(name, 0)) for name in ADVICE}

    @property
    def verdict(self) -> str:
        """How many rows should go and how many need a look, in a sentence without a full stop."""
        rows, advice = len(self.findings), self.advice
        if not (advice["drop"] or advice["look"]):
            return f"nothing stands against the {many(rows, 'row')}"
        return f"{advice['drop']:,} of {many(rows, 'row')} should go, {many(advice['look'], 'needs', 'need')} a look"

    @property
    def to_look_at(self) -> str:
        """Why rows need a look, with a number for each reason; empty when none does."""
        rows = self.findings[self.findings["advice"] == "look"]
        counts = {issue: int(rows[f"is_{issue}"].sum()) for issue in LOOKED_AT}
        told = ", ".join(many(count, *LOOKED_AT[issue]) for issue, count in counts.items() if count)
        return f"{told}; some for more than one reason" if sum(counts.values()) > len(rows) else told

    def write(self, folder: Path) -> None:
        """Write findings, near copies, leaks and shortcuts as CSV, and the findings as Parquet too."""
        for name in ("findings", "near", "leaks", "shortcuts"):
            table: pd.DataFrame = getattr(self, name)
            with replacing(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False)
        with replacing(folder / "findings.parquet") as temporary:
            self.findings.to_parquet(temporary, index=False)


def audit(
    cells: Cells,
    *,
    against: Sequence[Cells] = (),
    probabilities: NDArray[Any] | None = None,
    thresholds: OutlierThresholds | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Audit:
    """Look for everything that is wrong with a set of pictures before anything learns from it.

    against: other sets in which none of these pictures should stand. probabilities: (n, classes), what a model that
    was trained on none of these pictures says, a row of NaN where it has no say; without it the labels are judged by
    cross-validation on quick features. thresholds: when a picture counts as an outlier. say: told what is done while
    it is done.

    Nothing is changed, and nothing is dropped: `apply` does that when the user asks for it.
    """
    import pandas as pd

    hashes = pixel_hashes(cells)
    say("looking for copies")
    copies = find_copies(cells, hashes)
    leaked = _all_leaks(cells, against, hashes)
    near = pd.concat(
        [
            near_copies(cells, hashes=hashes).assign(where=cells.source, elsewhere=False),
            *(
                near_copies(cells, against=other, hashes=hashes).assign(where=other.source, elsewhere=True)
                for other in against
            ),
        ],
        ignore_index=True,
    )
    within = near[~near["elsewhere"].astype(bool)]
    say("measuring each picture")
    statistics = picture_statistics(cells)
    features = cell_features(cells)
    outliers = find_outliers(cells, statistics, features, thresholds, learn=copies.keep)
    near_group = near_copy_groups(copies.group, within)
    say("judging the labels")
    judged = judged_rows(cells.labels, len(cells.class_names)) & copies.keep
    if probabilities is None and len(np.unique(cells.labels[judged])) > 1:
        probabilities = out_of_sample_probabilities(
            features, cells.labels, len(cells.class_names), near_group, learn=copies.keep
        )
    suspects = None if probabilities is None else find_label_suspects(cells, probabilities, learn=copies.keep)
    say("looking for shortcuts")
    facts = _varied(cells)
    shortcuts = find_shortcuts(cells, background_measures(cells), facts, near_group, copies.keep)
    findings = _table(cells, hashes, copies, near_group, near, leaked, outliers, suspects)
    about = tuple(shape_of_set(cells, statistics, facts))
    named = float("nan") if suspects is None else _labels_named(suspects, cells.labels)
    return Audit(cells, findings, near, leaked, shortcuts, about, statistics, named)


def _labels_named(suspects: pd.DataFrame, labels: NDArray[np.int64]) -> float:
    """The share of judged labels that the judge names too; NaN where none was judged."""
    likeliest = suspects["suggested_label"].to_numpy()
    judged = likeliest != UNKNOWN_LABEL
    return float((likeliest == labels)[judged].mean()) if judged.any() else float("nan")


def _varied(cells: Cells) -> dict[str, NDArray[Any]]:
    """The facts of the files that differ between pictures: what is the same for all tells nothing."""
    return {name: values for name, values in cells.facts.items() if len(np.unique(values)) > 1}


def _all_leaks(cells: Cells, against: Sequence[Cells], hashes: NDArray[Any]) -> pd.DataFrame:
    import pandas as pd

    parts = [leaks(cells, hashes=hashes), *(leaks(cells, other, hashes=hashes) for other in against)]
    return pd.concat(parts, ignore_index=True)


def _table(
    cells: Cells,
    hashes: NDArray[Any],
    copies: Copies,
    near_group: NDArray[np.int64],
    near: pd.DataFrame,
    leaked: pd.DataFrame,
    outliers: pd.DataFrame,
    suspects: pd.DataFrame | None,
) -> pd.DataFrame:
    import pandas as pd

    count = len(cells)
    score = {issue: np.ones(count) for issue in ISSUES}
    flag = {issue: np.zeros(count, bool) for issue in ISSUES}
    reasons: list[list[str]] = [[reason] if reason else [] for reason in copies.reason]

    flag["not_a_cell"] = copies.verdict == "not_a_cell"
    flag["exact_copy"] = (copies.copies > 1) & ~flag["not_a_cell"]
    for issue in ("not_a_cell", "exact_copy"):
        score[issue] = np.where(flag[issue], 1 / copies.copies, 1.0)
    for pair in near.to_dict("records"):
        row, other = pair["row"], pair["other_row"]
        elsewhere = pair["elsewhere"]
        issue = "leak" if elsewhere or _crosses(cells, row, other) else "near_copy"
        label = ", under another label" if pair["other_label"] else ""
        place = f" in {pair['where']}" if elsewhere else ""
        words = f" ({pair['transform']})" if pair["transform"] else ""
        reasons[row].append(f"the same cell as {pair['other_id']}{place}{words}{label}")
        if not elsewhere:
            reasons[other].append(f"the same cell as {pair['id']}{label}")
        for end in (row,) if elsewhere else (row, other):
            score[issue][end] = min(score[issue][end], 1 - pair["similarity"])
            flag[issue][end] = True
    for leak in leaked.to_dict("records"):
        score["leak"][leak["row"]], flag["leak"][leak["row"]] = 0.0, True
        reasons[leak["row"]].append(f"{leak['reason']} ({leak['where']})")
    for issue, found in (("label_suspect", suspects), ("outlier", outliers)):
        if found is not None:
            # What is no cell, or goes as a copy, has said enough with that.
            flag[issue] = found[f"is_{issue}"].to_numpy() & copies.keep
            score[issue] = found[f"{issue}_score"].to_numpy()
            for row in np.flatnonzero(flag[issue]):
                reasons[row].append(found[f"{issue}_reason"].iloc[row])

    look = np.any([flag[issue] for issue in LOOKED_AT], axis=0)
    suggested = np.full(count, "", dtype=object)
    if suspects is not None:
        rows = np.flatnonzero(flag["label_suspect"])
        suggested[rows] = np.array(cells.class_names)[suspects["suggested_label"].to_numpy()[rows]]
    table = pd.DataFrame(
        {
            "id": cells.ids.astype(object),
            "label": [label_name(cells, row) for row in range(count)],
            "split": "" if cells.split is None else cells.split.astype(object),
            "pixel_hash": hashes,
            "group": copies.group,
            "near_group": near_group,
            **{name: values for issue in ISSUES for name, values in _columns(issue, score, flag)},
            "suggested_label": suggested,
            "advice": np.where(~copies.keep, "drop", np.where(look, "look", "keep")).astype(object),
            "reason": ["; ".join(dict.fromkeys(row)) for row in reasons],
        }
    )
    return pd.concat([table, _unreadable_rows(cells, table)], ignore_index=True) if cells.unreadable else table


def _columns(
    issue: str, score: Mapping[str, NDArray[Any]], flag: Mapping[str, NDArray[Any]]
) -> tuple[tuple[str, NDArray[Any]], tuple[str, NDArray[Any]]]:
    return (f"{issue}_score", score[issue]), (f"is_{issue}", flag[issue])


def _crosses(cells: Cells, row: int, other: int) -> bool:
    return cells.split is not None and cells.split[row] != cells.split[other]


def _unreadable_rows(cells: Cells, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the same columns for the pictures that could not be read; nothing else is known of them."""
    import pandas as pd

    count = len(cells.unreadable)
    groups = int(table["group"].max()) + 1 + np.arange(count) if len(table) else np.arange(count)
    constant = {f"{issue}_score": 1.0 for issue in ISSUES} | {f"is_{issue}": False for issue in ISSUES}
    return pd.DataFrame(
        {
            **{name: [constant.get(name, "")] * count for name in table.columns},
            "id": list(cells.unreadable),
            "pixel_hash": np.zeros(count, np.uint64),
            "group": groups,
            "near_group": groups,
            "unreadable_score": 0.0,
            "is_unreadable": True,
            "advice": "drop",
            "reason": [f"cannot be read: {reason}" for reason in cells.unreadable.values()],
        }
    )


def _told(found: Audit) -> list[Finding]:
    table, cells = found.findings, found.cells
    counts = {issue: int(table[f"is_{issue}"].sum()) for issue in ISSUES}
    junk = table[table["is_not_a_cell"]].groupby("group").size().sort_values(ascending=False)
    pictures = many(len(junk), "picture that stands", "pictures that stand")
    times = " and ".join(f"{size:,}" for size in junk)
    other_label = int(found.leaks["other_label"].sum()) if len(found.leaks) else 0
    exact_leaks = len(found.leaks)
    near_leaks = counts["leak"] - found.leaks["row"].nunique()
    sentences = {
        "not_a_cell": f"{many(counts['not_a_cell'], 'row shows', 'rows show')} {pictures} {times} times under many "
        "labels: no cells, drop them.",
        "exact_copy": _copies_told(table[table["is_exact_copy"].astype(bool)]),
        "near_copy": f"{many(counts['near_copy'], 'row shows', 'rows show')} a cell that another row shows too, "
        f"turned, moved or changed in brightness{_least_alike(found.near)}; a split must keep them on one side.",
        "leak": f"{many(counts['leak'], 'row stands where it', 'rows stand where they')} must not, in another split or "
        f"file: {exact_leaks:,} with the same pixels, {other_label:,} of them under another label, and {near_leaks:,} "
        f"as near {'copy' if near_leaks == 1 else 'copies'}.",
        "label_suspect": f"{many(counts['label_suspect'], 'label is', 'labels are')} more likely wrong than right; "
        f"look.{_weak_judge(found.labels_named)}",
        "outlier": f"{many(counts['outlier'], 'picture is', 'pictures are')} unlike the rest; look.",
    }
    told = [
        Finding(issue, counts[issue], text, True, many(counts[issue], "row"))
        for issue, text in sentences.items()
        if counts[issue]
    ]
    told += [
        Finding(
            "leak",
            len(cells),
            f"every picture of {cells.source} stands on the other side too, in {where}: it is "
            "the same data, so a score on it says nothing new.",
            True,
            "the same data",
        )
        for where, rows in (found.leaks.groupby("where")["row"] if len(found.leaks) else ())
        if rows.nunique() == len(cells)
    ]
    if len(found.shortcuts):
        rows = found.shortcuts[found.shortcuts["is_shortcut"]].to_dict("records")
        told += [Finding("shortcut", row["gain"], row["finding"], True, f"AUC {row['auc']:.2f}") for row in rows]
    return told


def _weak_judge(named: float) -> str:
    """What to add where labels are judged by a judge that errs often, as on few pictures."""
    if not named < GOOD_JUDGE:
        return ""
    return f" The pictures alone tell only {named:.0%} of the labels here, so that many of these may be sound."


def _least_alike(near: pd.DataFrame) -> str:
    return f" (similarity from {near['similarity'].min():.3f} on, 1 being the same)" if len(near) else ""


def _copies_told(copies: pd.DataFrame) -> str:
    """The exact copies in a sentence or two. copies: their rows of the findings, at least one."""
    labels = copies[copies["label"] != ""].groupby("group")["label"].nunique()
    conflicting = copies["group"].isin(labels.index[labels > 1])
    rows, pictures = int(conflicting.sum()), int((labels > 1).sum())
    dropped = int((copies["advice"] == "drop").sum())
    told = f"{len(copies):,} rows are exact copies of another row; drop {dropped:,}."
    if not pictures:
        return told
    return (
        f"{told} Labels conflict: {rows:,} of them show {many(pictures, 'picture')} under different labels, so that "
        f"all {rows:,} go."
    )
