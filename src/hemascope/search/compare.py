"""Several recipes and seeds on the same rows: which recipe holds best, and by how much seeds differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from hemascope import figures
from hemascope.data import Cells, load
from hemascope.errors import InputError
from hemascope.files import new_folder
from hemascope.pipeline import check_recipes, fit, score_run, training_options
from hemascope.prepare import Prepared, prepare
from hemascope.progress import Say
from hemascope.recipe import Recipe
from hemascope.run import Run, open_run, write_table
from hemascope.runtime import ONE_ANSWER, load_model
from hemascope.search.timing import milliseconds_a_picture

if TYPE_CHECKING:
    import pandas as pd

TIMED_PICTURES = 64


@dataclass(frozen=True)
class _Scored:
    """One run of a comparison, with what was measured of it."""

    recipe: str
    seed: int
    run: Run
    metrics: Mapping[str, Any]

    @property
    def rank(self) -> tuple[float, float]:
        """What is chosen by: the stress score on validation rows, then the balanced accuracy there."""
        validation = self.metrics["validation"]["balanced_accuracy"]
        return self.metrics["stress"]["validation"]["stress_score"], validation


def compare_recipes(
    data: str | Path | Cells,
    recipes: Sequence[Recipe],
    out: str | Path,
    *,
    test: Cells | None = None,
    all_tests: bool = False,
    seeds: Sequence[int] = (0,),
    split_seed: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_minutes: float | None = None,
    resume: bool = False,
    allow_leaks: bool = False,
    stress: bool = False,
    say: Say = print,
    **engine: Any,
) -> pd.DataFrame:
    """Train each recipe with each seed on the same rows; the best on validation is chosen, and it alone is tested.

    A seed decides the first weights, draws and order of a run; all runs share one split, that of split_seed, which is
    the first seed unless it is given. Chosen is the recipe with the best mean stress score on validation, and of its
    runs the best by the same score. Writes a run folder for each recipe and seed, runs.csv with a row for each, and
    leaderboard.csv and leaderboard.png into `out`; with resume, finished runs are taken as they are and an interrupted
    one goes on.

    Returns the leaderboard, a row a recipe: recipe, chosen, weights, seeds, parameters, milliseconds_a_picture (on
    ONNX Runtime, batches of 64), accuracy and stress score on the validation rows with their intervals; and both on
    the test rows, with other corruptions, and the accuracy on `test`, empty for what was not tested. Of several seeds
    these are means, `_low` and `_high` the means of the intervals' ends, `_std` the sample standard deviation over
    seeds, and tested_seed says whose the test columns are where it is one run's. The intervals of two recipes move
    together, as all see the same corruptions: that they overlap does not make recipes equal. all_tests fills the test
    columns for all; they may then no longer be used to choose. allow_leaks and stress are as in `hemascope.train`,
    and so are micro_batch, compiled and tensorboard, which are passed on (`engine`).
    Raises InputError when a seed is named twice.
    """
    _check_seeds(seeds)
    folder = Path(out)
    if not resume:
        new_folder(folder)
    check_recipes(recipes, resume)
    training_options(seeds[0], device, precision, max_minutes, **engine)
    cells = data if isinstance(data, Cells) else load(data)
    division = seeds[0] if split_seed is None else split_seed
    prepared = prepare(cells, seed=division, further=test, allow_leaks=allow_leaks, say=say)
    if len(seeds) > 1:
        say(f"seeds {', '.join(map(str, seeds))} decide weights, draws and order; all see the split of seed {division}")
    found: list[_Scored] = []
    for seed in seeds:
        options = training_options(seed, device, precision, max_minutes, **engine)
        for recipe in recipes:
            title = f"— {recipe.name}{f', seed {seed}' if len(seeds) > 1 else ''}"
            say(f"{title}: {recipe.description}" if recipe.description else title)
            run = open_run(_folder_of(folder, recipe.name, seed, alone=len(seeds) == 1), resume)
            fit(prepared, recipe, run, options, say)
            scored = _score(run, prepared, test, all_tests, stress, say)
            found.append(_Scored(recipe.name, seed, run, scored))
            write_table(folder / "runs.csv", _runs_table(found, found if all_tests else []))
    best = _best(found)
    if not all_tests:
        which = f"{best.recipe}, seed {best.seed}" if len(seeds) > 1 else best.recipe
        say(f"chosen by the stress score on validation rows: {which}; it alone is scored on the test rows")
        tested = _Scored(best.recipe, best.seed, best.run, _score(best.run, prepared, test, True, stress, say))
        found[found.index(best)] = best = tested
    else:
        say("test columns are filled for all recipes: they may no longer be used to choose among them")
    runs = _runs_table(found, found if all_tests else [best])
    write_table(folder / "runs.csv", runs)
    first = {each.recipe: load_model(each.run.folder) for each in reversed(found)}
    pictures = prepared.cells.in_split("validation").images[:TIMED_PICTURES]
    table = _leaderboard(runs, best, milliseconds_a_picture(first, np.asarray(pictures)), all_tests)
    write_table(folder / "leaderboard.csv", table)
    _draw(folder / "leaderboard.png", table)
    return table


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise InputError("no seed is named; name at least one.")
    if twice := [seed for seed in seeds if list(seeds).count(seed) > 1]:
        raise InputError(f"seed {twice[0]} is named more than once; name each seed once.")


def _folder_of(out: Path, recipe: str, seed: int, *, alone: bool) -> Path:
    """Where the run of a seed stands, or will: OUT/RECIPE, or OUT/RECIPE-seed-N where there are several seeds.

    A comparison that is resumed with more seeds, or with fewer, finds its runs under either name.
    """
    plain, numbered = out / recipe, out / f"{recipe}-seed-{seed}"
    for folder in (numbered, plain):
        config = folder / "config.yaml"
        if config.is_file() and yaml.safe_load(config.read_text(encoding="utf-8")).get("seed") == seed:
            return folder
    return plain if alone else numbered


def _score(
    run: Run, prepared: Prepared, further: Cells | None, tested: bool, stress: bool, say: Say
) -> Mapping[str, Any]:
    """The metrics of a run: those in its folder when they are whole and hold what is wanted, else measured now."""
    # The report is written last. What a further file held when it was scored is not known any more: it is done again.
    whole = run.report.is_file() and run.report.stat().st_mtime_ns >= run.metrics.stat().st_mtime_ns
    if whole and not (tested and (further is not None or stress)):
        metrics: dict[str, Any] = json.loads(run.metrics.read_text(encoding="utf-8"))
        if not tested or "test" in metrics:
            say(f"{run.folder}: is scored already")
            return metrics
    return score_run(run, prepared, further=further if tested else None, score_test=tested, stress=stress, say=say)


def _best(found: Sequence[_Scored]) -> _Scored:
    """The best run of the recipe that is best in the mean; of equals the first."""
    of_recipe: dict[str, list[_Scored]] = {}
    for each in found:
        of_recipe.setdefault(each.recipe, []).append(each)
    chosen = max(of_recipe.values(), key=lambda runs: tuple(np.mean([each.rank for each in runs], axis=0)))
    return max(chosen, key=lambda each: each.rank)


def _runs_table(found: Sequence[_Scored], tested: Sequence[_Scored]) -> pd.DataFrame:
    """A row a run; those that are not in `tested` have no test columns, whatever their folders hold from before."""
    import pandas as pd

    rows = []
    for each in found:
        metrics = each.metrics
        parts = {"validation": metrics["validation"], "test": metrics.get("test", {}) if each in tested else {}}
        row: dict[str, Any] = {
            "recipe": each.recipe,
            "seed": each.seed,
            "folder": each.run.folder.name,
            "weights": metrics["weights"],
            "parameters": metrics["parameters"],
        }
        for part, scores in parts.items():
            row |= _with_interval(f"{part}_accuracy", scores, "accuracy")
            row[f"{part}_balanced_accuracy"] = scores.get("balanced_accuracy")
            row |= _with_interval(f"{part}_stress_score", metrics["stress"].get(part, {}) if scores else {})
        for source, scores in metrics["files"].items() if each in tested else ():
            row[f"accuracy on {source}"] = scores["accuracy"]
        rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(column: str, scores: Mapping[str, Any], name: str = "stress_score") -> dict[str, float | None]:
    low, high = scores.get(f"{name}_interval") or (None, None)
    return {column: scores.get(name), f"{column}_low": low, f"{column}_high": high}


def _leaderboard(runs: pd.DataFrame, best: _Scored, milliseconds: Mapping[str, float], all_tests: bool) -> pd.DataFrame:
    """A row a recipe: means over its runs, and how much they differ where there are several."""
    import pandas as pd

    measures = [name for name in runs if str(name).startswith(("validation_", "test_", "accuracy on "))]
    several = bool(runs["recipe"].duplicated().any())
    rows = []
    for recipe in dict.fromkeys(runs["recipe"]):
        own = runs[runs["recipe"] == recipe]
        row: dict[str, Any] = {
            "recipe": recipe,
            "chosen": recipe == best.recipe,
            "weights": own["weights"].iloc[0],
            "seeds": len(own),
            "parameters": int(own["parameters"].iloc[0]),
            "milliseconds_a_picture": milliseconds[recipe],
        }
        if several and not all_tests:
            row["tested_seed"] = best.seed if recipe == best.recipe else None
        for name in measures:
            values = own[name].astype(float)
            row[str(name)] = values.mean()
            if several and not str(name).endswith(("_low", "_high")):
                row[f"{name}_std"] = values.std(ddof=1)
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({"tested_seed": "Int64"}) if "tested_seed" in table else table


def _origin(weights: str) -> str:
    return {"none": "hand-made features", ONE_ANSWER: ONE_ANSWER}.get(weights, f"{weights} weights")


def _draw(path: Path, table: pd.DataFrame) -> None:
    """The leaderboard as a picture: intervals over cells and corruptions for one seed, mean ± std for several."""
    score = "validation_stress_score"
    rows = table.to_dict("records")
    several = [row["seeds"] > 1 for row in rows]
    counts = [f", {row['seeds']} seeds" if many else "" for row, many in zip(rows, several, strict=True)]
    figures.leaderboard(
        path,
        table["recipe"].tolist(),
        table[score].tolist(),
        [
            None if many or np.isnan(row[f"{score}_low"]) else (row[f"{score}_low"], row[f"{score}_high"])
            for row, many in zip(rows, several, strict=True)
        ],
        [f"{_origin(str(row['weights']))}{count}" for row, count in zip(rows, counts, strict=True)],
        "validation stress score",
        table["validation_accuracy"].tolist(),
        [row[f"{score}_std"] if many else None for row, many in zip(rows, several, strict=True)],
    )
