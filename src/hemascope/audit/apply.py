"""Carry out what an audit advises, or what a person decided, into a new file; the input is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.copies import first_of_each, split_ranks
from hemascope.audit.findings import Audit
from hemascope.data import Changes, rewrite
from hemascope.data.classes import class_of
from hemascope.data.rewrite import rewriter
from hemascope.errors import InputError
from hemascope.files import check_writable, replacing
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

DECISIONS = ("keep", "drop", "relabel")
BY_DECISION = "by decision"
"""What stands in place of the advice for a row that goes because a person said so."""


def read_decisions(path: Path) -> pd.DataFrame:
    """Decisions from a CSV: pixel_hash (uint64), decision (one of DECISIONS) and label (for relabel).

    Rows are keyed by the hash of the pixels, so that a decision outlives a new order of the rows. Raises InputError
    naming the first line that is wrong.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError(f"{path}: there is no such decisions file; give a CSV with pixel_hash, decision and label.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{path}: is not a CSV that can be read; give pixel_hash, decision and label.") from error
    if missing := [name for name in ("pixel_hash", "decision") if name not in table]:
        raise InputError(f"{path}: has no column '{missing[0]}'; give pixel_hash, decision and label.")
    labels = table["label"] if "label" in table else pd.Series("", index=table.index)
    for line, (key, decision, label) in enumerate(
        zip(table["pixel_hash"], table["decision"], labels, strict=True), start=2
    ):
        if not key.isdecimal():
            raise InputError(f"{path}: line {line} has the pixel_hash '{key}', expected the number in findings.csv.")
        if decision not in DECISIONS:
            raise InputError(f"{path}: line {line} decides '{decision}', expected {', '.join(DECISIONS)}.")
        if decision == "relabel" and class_of(label) is None:
            raise InputError(f"{path}: line {line} relabels to '{label}', which is none of the classes; correct it.")
    names = [class_of(label) or "" for label in labels]
    return pd.DataFrame(
        {"pixel_hash": table["pixel_hash"].astype(np.uint64), "decision": table["decision"], "label": names}
    )


class Cleaned(NamedTuple):
    """What stays: keep, bool (n,); labels, int64 (n,), those of now; and decided, str (n,), what a person's decision
    did to a row that goes, empty where the advice alone counts."""

    keep: NDArray[np.bool_]
    labels: NDArray[np.int64]
    decided: NDArray[np.object_]


class Written(NamedTuple):
    """What `apply` did: the rows that went (id, label, pixel_hash, advice, reason), where their table stands, and how
    many of them are copies that only a new label made equal."""

    removed: pd.DataFrame
    table: Path
    copies: int


def cleaned(found: Audit, decisions: pd.DataFrame | None = None) -> Cleaned:
    """Which rows of the audited cells stay, and under which labels.

    Without decisions the advised drops go and nothing else. A decision counts for every row with its pixels and stands
    over the advice. New labels touch training rows only, or all where the cells bring no split. Where a new label makes
    rows with the same pixels stay, one of them does, the one that is held out longest.
    """
    cells = found.cells
    table = found.findings.iloc[: len(cells)]
    keep = (table["advice"] != "drop").to_numpy(bool, copy=True)
    labels = cells.labels.copy()
    decided = np.full(len(cells), "", dtype=object)
    if decisions is not None:
        hashes = table["pixel_hash"].to_numpy(np.uint64)
        training = np.ones(len(cells), bool) if cells.split is None else cells.split == "train"
        decision_of = np.full(len(cells), "", dtype=object)
        for key, decision, name in zip(decisions["pixel_hash"], decisions["decision"], decisions["label"], strict=True):
            rows = hashes == np.uint64(key)
            if decision == "relabel":
                labels[rows & training] = cells.class_names.index(name)
            keep[rows] = decision != "drop"
            decision_of[rows] = decision
        decided[decision_of == "drop"] = BY_DECISION
        group = table["group"].to_numpy(np.int64)
        together = keep & (decision_of != "keep") & np.isin(group, group[decision_of == "relabel"])
        stays = first_of_each(group, ~together, -split_ranks(cells), decision_of != "relabel")[group]
        copies = together & (stays != np.arange(len(cells)))
        keep &= ~copies
        decided[copies] = [f"{BY_DECISION}: with its new label a copy of {name}" for name in cells.ids[stays[copies]]]
    return Cleaned(keep, labels, decided)


def without_effect(found: Audit, decisions: pd.DataFrame) -> list[str]:
    """What of some decisions cannot be carried out, in sentences. Raises InputError when no decision meets a row."""
    cells = found.cells
    hashes = found.findings["pixel_hash"].iloc[: len(cells)].to_numpy(np.uint64)
    told = []
    unknown = int((~np.isin(decisions["pixel_hash"].to_numpy(np.uint64), hashes)).sum())
    if len(decisions) and unknown == len(decisions):
        raise InputError(
            f"{'the one decision names no' if unknown == 1 else f'none of the {unknown:,} decisions names'} pixels of "
            f"{cells.source}, so nothing was applied; take the "
            "pixel_hash from the findings.csv of this set, read at this size."
        )
    if unknown:
        told.append(
            f"{unknown:,} of {len(decisions):,} decisions {'names' if unknown == 1 else 'name'} pixels that no row of "
            f"{cells.source} has."
        )
    relabelled = decisions.loc[decisions["decision"] == "relabel", "pixel_hash"].to_numpy(np.uint64)
    held_out = np.zeros(len(cells), bool) if cells.split is None else cells.split != "train"
    if held := int((np.isin(hashes, relabelled) & held_out).sum()):
        told.append(
            f"{many(held, 'row')} with a new label {'stands' if held == 1 else 'stand'} in validation or test rows, "
            "where labels are left as they are."
        )
    return told


def apply(found: Audit, source: Path, out: Path, decisions: pd.DataFrame | None = None) -> Written:
    """Write the cleaned set, and a table of the rows that went beside it.

    source: what the audited cells were loaded from. out: a new place of the same kind, or an npz; `rewrite` says what
    each keeps. The table is removed.csv or, where one stands there already, named after `out`: clean.removed.csv.
    Raises InputError when something stands there already, when `out` is of another kind, or when nothing would be left.
    """
    table_path = check_places(source, out)
    keep, labels, decided = cleaned(found, decisions)
    if not keep.any():
        raise InputError(f"{out}: no row of {source.name} would be left, so nothing was written; decide which stay.")
    rewrite(source, out, Changes(found.cells, keep, labels))
    unread = len(found.findings) - len(keep)
    gone = np.append(~keep, np.ones(unread, bool))
    removed = found.findings.loc[gone, ["id", "label", "pixel_hash", "advice", "reason"]].reset_index(drop=True)
    words = np.append(decided, np.full(unread, "", dtype=object))[gone]
    removed.loc[words != "", "advice"] = BY_DECISION
    removed["reason"] = [
        "; ".join(filter(None, (own, reason))) for own, reason in zip(words, removed["reason"], strict=True)
    ]
    with replacing(table_path) as temporary:
        removed.to_csv(temporary, index=False)
    return Written(removed, table_path, int((~np.isin(words, ["", BY_DECISION])).sum()))


def check_places(source: Path, out: Path, others: Sequence[Path] = ()) -> Path:
    """Where the table of removed rows goes. Raises InputError when a set may not be written to `out`, before anything
    is done. others: further places that are only read."""
    if out.exists():
        raise InputError(f"{out}: exists already; name another place with --apply, or remove it first.")
    check_writable(out, [source, *others])
    rewriter(source, out)
    own = out.with_name(f"{out.stem}.removed.csv")
    table_path = own if out.with_name("removed.csv").exists() else out.with_name("removed.csv")
    if table_path.exists():
        raise InputError(f"{table_path}: exists already; name another place with --apply, or remove it first.")
    return table_path
