"""Several recipes on the same split, and one recipe on growing shares of the rows: tables that help to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemascope import figures
from hemascope.data import Cells, load
from hemascope.draws import permutation
from hemascope.files import new_folder
from hemascope.pipeline import Prepared, Say, fit, prepare, require_training, score_run, training_options
from hemascope.recipe import Recipe
from hemascope.run import open_run, write_table

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.12, 0.25, 0.50, 1.00)
ENOUGH = 0.005
"""A gain in validation accuracy from the last doubling of the rows below which the data are said to suffice."""


def compare_recipes(
    data: str | Path | Cells,
    recipes: Sequence[Recipe],
    out: str | Path,
    *,
    test: Cells | None = None,
    all_tests: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    max_minutes: float | None = None,
    resume: bool = False,
    allow_leaks: bool = False,
    stress: bool = False,
    say: Say = print,
    **engine: Any,
) -> pd.DataFrame:
    """Train each recipe on the same rows; the best stress score on validation is chosen, and it alone is tested.

    Writes a run folder for each recipe, leaderboard.csv and leaderboard.png into `out`. Returns the table: recipe,
    chosen, weights, parameters, accuracy and stress score on the validation rows with their intervals; and both on the
    test rows, with other corruptions, and the accuracy on `test`, empty for those not chosen. The intervals of two
    recipes move together, as all see the same corruptions: that they overlap does not make recipes equal. all_tests
    fills the test columns for all; they may then no longer be used to choose. allow_leaks and stress are as in
    `hemascope.train`, and so are micro_batch, compiled and tensorboard, which are passed on (`engine`).
    """
    import pandas as pd

    folder = Path(out)
    if not resume:
        new_folder(folder)
    require_training()
    cells = data if isinstance(data, Cells) else load(data)
    prepared = prepare(cells, seed=seed, further=test, allow_leaks=allow_leaks, say=say)
    options = training_options(seed, device, precision, max_minutes, **engine)
    found: dict[str, dict[str, Any]] = {}
    for recipe in recipes:
        say(f"— {recipe.name}: {recipe.description}")
        run = open_run(folder / recipe.name, resume)
        fit(prepared, recipe, run, options, say)
        found[recipe.name] = score_run(run, prepared, further=test, score_test=all_tests, stress=stress, say=say)
    chosen = max(found, key=lambda name: _rank(found[name]))
    if not all_tests:
        say(f"chosen by the stress score on validation rows: {chosen}; it alone is scored on the test rows")
        found[chosen] = score_run(open_run(folder / chosen, True), prepared, further=test, stress=stress, say=say)
    else:
        say("test columns are filled for all recipes: they may no longer be used to choose among them")
    table = pd.DataFrame([_row(name, found[name], name == chosen) for name in found])
    write_table(folder / "leaderboard.csv", table)
    figures.leaderboard(
        folder / "leaderboard.png",
        list(found),
        [metrics["stress"]["validation"]["stress_score"] for metrics in found.values()],
        [metrics["stress"]["validation"]["stress_score_interval"] for metrics in found.values()],
        [f"{metrics['weights']} weights" for metrics in found.values()],
        "validation stress score",
        [metrics["validation"]["accuracy"] for metrics in found.values()],
    )
    return table


def learning_curve(
    data: str | Path | Cells,
    recipe: Recipe,
    out: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    max_minutes: float | None = None,
    resume: bool = False,
    allow_leaks: bool = False,
    say: Say = print,
    **engine: Any,
) -> pd.DataFrame:
    """Train on 12, 25, 50 and 100 % of the training rows, and say whether more rows would help.

    The smaller shares are parts of the larger ones, stratified by class; validation rows stay the same. Writes a run
    folder for each share, learning_curve.csv and learning_curve.png. Returns the table: share, rows, validation
    accuracy with its interval.
    """
    import pandas as pd

    folder = Path(out)
    if not resume:
        new_folder(folder)
    require_training()
    cells = data if isinstance(data, Cells) else load(data)
    prepared = prepare(cells, seed=seed, allow_leaks=allow_leaks, say=say)
    options = training_options(seed, device, precision, max_minutes, **engine)
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


def _rank(metrics: Mapping[str, Any]) -> tuple[float, float]:
    return metrics["stress"]["validation"]["stress_score"], metrics["validation"]["balanced_accuracy"]


def _row(name: str, metrics: Mapping[str, Any], chosen: bool) -> dict[str, Any]:
    validation, test = metrics["validation"], metrics.get("test", {})
    low, high = validation["accuracy_interval"]
    row: dict[str, Any] = {
        "recipe": name,
        "chosen": chosen,
        "weights": metrics["weights"],
        "parameters": metrics["parameters"],
        "validation_accuracy": validation["accuracy"],
        "validation_accuracy_low": low,
        "validation_accuracy_high": high,
        "validation_balanced_accuracy": validation["balanced_accuracy"],
        **_stress_columns("validation", metrics["stress"]),
        "test_accuracy": test.get("accuracy"),
        **_stress_columns("test", metrics["stress"]),
    }
    for source, scores in metrics["files"].items():
        row[f"accuracy on {source}"] = scores["accuracy"]
    return row


def _stress_columns(part: str, stress: Mapping[str, Any]) -> dict[str, float | None]:
    scores = stress.get(part, {})
    low, high = scores.get("stress_score_interval") or (None, None)
    return {
        f"{part}_stress_score": scores.get("stress_score"),
        f"{part}_stress_score_low": low,
        f"{part}_stress_score_high": high,
    }
