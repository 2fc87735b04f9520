"""One recipe on growing shares of the rows: whether more pictures would help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemascope import figures
from hemascope.data import Cells, load
from hemascope.draws import permutation
from hemascope.files import new_folder
from hemascope.pipeline import check_recipes, fit, score_run, training_options
from hemascope.prepare import Prepared, prepare
from hemascope.progress import Say
from hemascope.recipe import Recipe
from hemascope.run import open_run, write_table

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.12, 0.25, 0.50, 1.00)
ENOUGH = 0.005
"""A gain in validation accuracy from the last doubling of the rows below which the data are said to suffice."""


def learning_curve(
    data: str | Path | Cells,
    recipe: Recipe,
    out: str | Path,
    *,
    seed: int = 0,
    split_seed: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_minutes: float | None = None,
    resume: bool = False,
    allow_leaks: bool = False,
    say: Say = print,
    **engine: Any,
) -> pd.DataFrame:
    """Train on 12, 25, 50 and 100% of the training rows, and say whether more rows would help.

    The smaller shares are parts of the larger ones, stratified by class; validation rows stay the same. Writes a run
    folder for each share, learning_curve.csv and learning_curve.png. Returns the table: share, rows, validation
    accuracy with its interval.
    """
    import pandas as pd

    folder = Path(out)
    if not resume:
        new_folder(folder)
    options = training_options(seed, device, precision, max_minutes, **engine)
    check_recipes([recipe], resume)
    cells = data if isinstance(data, Cells) else load(data)
    division = seed if split_seed is None else split_seed
    prepared = prepare(cells, seed=division, allow_leaks=allow_leaks, say=say)
    rows = []
    for share in SHARES:
        part = _share(prepared, share, seed)
        count = len(part.cells.in_split("train"))
        say(f"— {share:.0%} of the training rows: {count:,}")
        run = open_run(folder / f"share-{round(share * 100):03d}", resume)
        fit(part, recipe, run, options, say)
        scores = score_run(run, part, score_test=False, say=say)["validation"]
        low, high = scores["accuracy_interval"]
        rows.append(
            {
                "share": share,
                "rows": count,
                "validation_accuracy": scores["accuracy"],
                "validation_accuracy_low": low,
                "validation_accuracy_high": high,
            }
        )
    table = pd.DataFrame(rows)
    write_table(folder / "learning_curve.csv", table)
    figures.data_learning_curve(
        folder / "learning_curve.png",
        table["rows"].tolist(),
        table["validation_accuracy"].tolist(),
        list(zip(table["validation_accuracy_low"], table["validation_accuracy_high"], strict=True)),
    )
    say(suffices(table))
    return table


def suffices(table: pd.DataFrame) -> str:
    """Whether the data suffice, in a sentence, from the table that `learning_curve` gives."""
    half, whole = table["validation_accuracy"].iloc[-2:]
    low, high = table[["validation_accuracy_low", "validation_accuracy_high"]].iloc[-1]
    gain = whole - half
    told = f"twice the rows brought {100 * gain:+.1f} points of validation accuracy ({half:.4f} to {whole:.4f})"
    if gain < ENOUGH:
        return f"{told}: more pictures of this kind would bring little."
    if half >= low:
        return f"{told}, within what chance explains ({low:.4f} to {high:.4f}): more pictures may help a little."
    return f"{told}: the data do not suffice yet, more pictures would help."


def _share(prepared: Prepared, share: float, seed: int) -> Prepared:
    """The same cells with only a share of each class's training rows left in the training split."""
    cells = prepared.cells
    assert cells.split is not None
    division = cells.split.astype("<U11")
    for label in np.unique(cells.labels):
        rows = np.flatnonzero((division == "train") & (cells.labels == label))
        order = rows[permutation(seed, int(label), len(rows))]
        division[order[max(round(share * len(rows)), 1) :]] = "unused"
    return replace(prepared, cells=replace(cells, split=division))
