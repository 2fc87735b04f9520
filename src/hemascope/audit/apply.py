"""Carry out what an audit advises, or what a person decided, into a new file; the input is never changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.findings import Audit
from hemascope.data import Changes, rewrite
from hemascope.data.classes import class_of
from hemascope.data.rewrite import rewriter
from hemascope.errors import InputError
from hemascope.files import replacing

if TYPE_CHECKING:
    import pandas as pd

DECISIONS = ("keep", "drop", "relabel")


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


def cleaned(found: Audit, decisions: pd.DataFrame | None = None) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which rows of the audited cells stay, bool (n,), and their labels, int64 (n,).

    Without decisions the advised drops go and nothing else. A decision counts for every row with its pixels and stands
    over the advice. New labels touch training rows only, or all where the cells bring no split.
    """
    cells = found.cells
    table = found.findings.iloc[: len(cells)]
    keep = (table["advice"] != "drop").to_numpy(bool, copy=True)
    labels = cells.labels.copy()
    if decisions is not None:
        hashes = table["pixel_hash"].to_numpy(np.uint64)
        training = np.ones(len(cells), bool) if cells.split is None else cells.split == "train"
        for key, decision, name in zip(decisions["pixel_hash"], decisions["decision"], decisions["label"], strict=True):
            rows = hashes == np.uint64(key)
            if decision == "relabel":
                labels[rows & training] = cells.class_names.index(name)
            keep[rows] = decision != "drop"
    return keep, labels


def without_effect(found: Audit, decisions: pd.DataFrame) -> list[str]:
    """What of some decisions cannot be carried out, in sentences."""
    cells = found.cells
    hashes = found.findings["pixel_hash"].iloc[: len(cells)].to_numpy(np.uint64)
    told = []
    if unknown := int((~np.isin(decisions["pixel_hash"].to_numpy(np.uint64), hashes)).sum()):
        told.append(f"{unknown:,} of {len(decisions):,} decisions name pixels that no row of {cells.source} has.")
    relabelled = decisions.loc[decisions["decision"] == "relabel", "pixel_hash"].to_numpy(np.uint64)
    held_out = np.zeros(len(cells), bool) if cells.split is None else cells.split != "train"
    if held := int((np.isin(hashes, relabelled) & held_out).sum()):
        told.append(
            f"{held:,} rows with a new label stand in validation or test rows, where labels are left as they are."
        )
    return told


def apply(found: Audit, source: Path, out: Path, decisions: pd.DataFrame | None = None) -> int:
    """Write the cleaned set, and beside it removed.csv (id, label, pixel_hash, advice, reason).

    source: what the audited cells were loaded from. out: a new place of the same kind, or an npz; `rewrite` says what
    each keeps. Returns how many rows went. Raises InputError when something stands there already, when `out` is of
    another kind, or when nothing would be left.
    """
    table_path = check_places(source, out)
    keep, labels = cleaned(found, decisions)
    if not keep.any():
        raise InputError(f"{out}: no row of {source.name} would be left, so nothing was written; decide which stay.")
    rewrite(source, out, Changes(found.cells, keep, labels))
    gone = np.append(~keep, np.ones(len(found.findings) - len(keep), bool))
    with replacing(table_path) as temporary:
        found.findings.loc[gone, ["id", "label", "pixel_hash", "advice", "reason"]].to_csv(temporary, index=False)
    return int(gone.sum())


def check_places(source: Path, out: Path) -> Path:
    """Where removed.csv goes. Raises InputError when a set may not be written to `out`, before anything is done."""
    table_path = out.with_name("removed.csv")
    for path in (out, table_path):
        if path.exists():
            raise InputError(f"{path}: exists already; name another place with --apply, or remove it first.")
    rewriter(source, out)
    return table_path
