"""Carry out what an audit advises, or what a person decided, into a new file; the input is never changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.findings import Audit
from hemascope.data import Cells, save_npz
from hemascope.data.classes import class_of
from hemascope.errors import InputError
from hemascope.files import replacing

if TYPE_CHECKING:
    import pandas as pd

DECISIONS = ("keep", "drop", "relabel")
MEDMNIST = ("train", "val", "test")


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


def apply(found: Audit, source: Path, out: Path, decisions: pd.DataFrame | None = None) -> int:
    """Write the cleaned set, and beside it removed.csv (id, label, advice, reason). Returns how many rows went.

    An npz comes out with the same arrays as it came in (names, types and shapes), less the rows; anything else as an
    npz of images, labels and names. Raises InputError when `out` exists.
    """
    table_path = out.with_name("removed.csv")
    for path in (out, table_path):
        if path.exists():
            raise InputError(f"{path}: exists already; name another file with --apply, or remove it first.")
    keep, labels = cleaned(found, decisions)
    if source.suffix.lower() == ".npz":
        _write_npz(source, out, found.cells, keep, labels)
    else:
        save_npz(replace(found.cells, labels=labels).take(keep), out)
    gone = np.append(~keep, np.ones(len(found.findings) - len(keep), bool))
    with replacing(table_path) as temporary:
        found.findings.loc[gone, ["id", "label", "pixel_hash", "advice", "reason"]].to_csv(temporary, index=False)
    return int(gone.sum())


def _write_npz(source: Path, out: Path, cells: Cells, keep: NDArray[np.bool_], labels: NDArray[np.int64]) -> None:
    with np.load(source, allow_pickle=False) as arrays, replacing(out) as temporary:
        names = list(arrays.files)
        if "images" in names:
            parts = {"": slice(0, len(cells))}
        else:
            sizes = [len(arrays[f"{part}_labels"]) if f"{part}_images" in names else 0 for part in MEDMNIST]
            ends = np.cumsum([0, *sizes])
            parts = {f"{part}_": slice(ends[at], ends[at + 1]) for at, part in enumerate(MEDMNIST)}
        written: dict[str, NDArray[Any]] = {}
        for name in names:
            part = next(rows for prefix, rows in parts.items() if name.startswith(prefix))
            rows, values = keep[part], arrays[name]
            if values.shape[:1] != rows.shape or name == "class_names":
                written[name] = values
                continue
            if name.endswith("labels"):
                changed = np.flatnonzero(labels[part] != cells.labels[part])
                values = _relabelled(values, changed, labels[part][changed], cells, arrays)
            written[name] = values[rows]
        np.savez(temporary, **written)  # type: ignore[arg-type]


def _relabelled(
    values: NDArray[Any], rows: NDArray[np.int64], labels: NDArray[np.int64], cells: Cells, arrays: Any
) -> NDArray[Any]:
    """The label array with some rows changed, in the form that it has: numbers, one-hot, or names."""
    values = values.copy()
    names = [cells.class_names[label] for label in labels]
    if values.dtype.kind == "U":
        values.reshape(-1)[rows] = names
        return values
    order = [class_of(str(name)) for name in arrays["class_names"]] if "class_names" in arrays else cells.class_names
    places = np.array([list(order).index(name) for name in names], np.int64)
    if values.ndim == 2 and values.shape[1] > 1:
        values[rows] = 0
        values[rows, places] = 1
    else:
        values.reshape(-1)[rows] = places
    return values
