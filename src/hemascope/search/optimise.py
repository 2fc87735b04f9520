"""A recipe's fields searched under a time budget: trials on the training rows, chosen by the validation stress score.

The study stands in the out folder as SQLite, and each trial is a run folder of its own, so that a search that was
killed goes on within the epoch where it stopped. What a trial tries depends on the seed and on the trials before it
alone; only how many there are depends on the clock.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hemascope import draws
from hemascope.data import Cells, load
from hemascope.errors import InputError
from hemascope.files import new_folder, write_text
from hemascope.pipeline import check_recipes, fit, training_options
from hemascope.prepare import Prepared, prepare
from hemascope.progress import Say, clock
from hemascope.recipe import Recipe, recipe_from
from hemascope.run import Run, command_line, config_of, write_config, write_table
from hemascope.runtime import load_model
from hemascope.search.space import point_of, recipe_at, space
from hemascope.stress import seed_for, stress_score
from hemascope.wording import install, many

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from hemascope.train import Options

WHOLE_TRIALS = 8
"""So many whole trainings must have room in the time, or the stages are shortened."""
RANDOM_TRIALS = 8
"""So many are drawn at random before the sampler learns from them (TPE: Bergstra et al., 2011)."""
UNPRUNED_TRIALS = 3


class _OutOfTimeError(Exception):
    """The next epoch would end after the time given."""


@dataclass
class _Budget:
    """The time of a search, which is counted over all the calls that it took."""

    seconds: float
    before: float
    start: float

    @property
    def used(self) -> float:
        return self.before + time.monotonic() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.used


@dataclass(frozen=True)
class _Search:
    """What all trials of a search share."""

    folder: Path
    study: optuna.Study
    recipe: Recipe
    prepared: Prepared
    options: Options
    budget: _Budget

    def run_of(self, number: int) -> Run:
        return Run(self.folder / "trials" / f"{number:03d}")


def search_recipe(
    data: str | Path | Cells,
    recipe: Recipe,
    out: str | Path,
    *,
    minutes: float,
    trials: int | None = None,
    seed: int = 0,
    split_seed: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
    allow_leaks: bool = False,
    say: Say = print,
    **engine: Any,
) -> pd.DataFrame:
    """Look for better values of a recipe's fields for some minutes, and leave the recipe that repeats the winner.

    The first trial is the recipe as it stands; `hemascope.search.space` says what the others change. A trial whose
    score on validation (under corruption or clean, as the recipe chooses its epochs) is under the median of those
    before it, at the same epoch, is given up; the stress score on validation decides. Where eight whole trainings have
    no room in the time, all trials have fewer epochs, which is said. trials: at most so many. engine: micro_batch,
    compiled and tensorboard, as in `hemascope.train`. Test rows are never looked at.

    Writes best.yaml, best/ (the winner's run folder, not scored on the test rows), trials.csv and study.db into `out`,
    and keeps nothing else of the losers. With resume, a search goes on where it was stopped; the time that it has used
    counts. Returns the table of trials. Raises InputError when optuna is not installed, when the recipe has nothing to
    search, and when no trial could be finished in the time.
    """
    start = time.monotonic()
    options = training_options(seed, device, precision, None, **engine)
    _require_optuna()
    _check_recipe(recipe)
    check_recipes([recipe], resume)
    folder = Path(out)
    if not resume:
        new_folder(folder)
    cells = data if isinstance(data, Cells) else load(data)
    division = seed if split_seed is None else split_seed
    prepared = prepare(cells, seed=division, allow_leaks=allow_leaks, say=say)
    config = config_of(recipe, prepared.found, prepared.found_hashes, seed, division, command_line())
    write_config(Run(folder), config)
    with _opened_study(folder / "study.db") as study:
        budget = _Budget(60 * minutes, float(study.user_attrs.get("seconds", 0.0)), start)
        fitting = _fitting(study, recipe, prepared, options, budget, say)
        _search(_Search(folder, study, fitting, prepared, options, budget), trials, say)
        table, best = _trials_table(study), _best_trial(study)
    if best is None:
        raise InputError(
            f"{folder}: no trial was finished in {minutes:g} {'minute' if minutes == 1 else 'minutes'}; go on by "
            "--resume with more of them, or begin again with fewer --epochs."
        )
    say(
        f"best of {many(len(table), 'trial')}: {best.number}, validation stress score {best.value:.4f}; repeat it with "
        f"--recipe {folder / 'best.yaml'} --seed {seed}"
    )
    return table


def _require_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise InputError(f"--search needs the package 'optuna', which is not installed; run {install('search')}.")


def _check_recipe(recipe: Recipe) -> None:
    if recipe.backbone == "none" or recipe.classical:
        raise InputError(
            f"recipe '{recipe.name}' trains no network, so there is nothing to search; name one that does."
        )
    if recipe.members != 1:
        raise InputError(
            f"recipe '{recipe.name}' has members; search with 'members: 1', and add them to the best.yaml it finds."
        )


@contextmanager
def _opened_study(path: Path) -> Iterator[optuna.Study]:
    """The study that a file holds, or a new one; the file is let go of at the end."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        yield optuna.create_study(
            storage=storage,
            study_name="search",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=1),
            load_if_exists=True,
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _fitting(
    study: optuna.Study, recipe: Recipe, prepared: Prepared, options: Options, budget: _Budget, say: Say
) -> Recipe:
    """The recipe with no more epochs than leave room for WHOLE_TRIALS trainings; an epoch is timed for it once."""
    epochs: list[int] = study.user_attrs.get("epochs", [])
    if not study.trials:
        seconds = _seconds_of_an_epoch(recipe, prepared, options, study, budget)
        sizes = [recipe.side_in(stage) for stage in recipe.stages]
        costs = [stage.epochs * (size / sizes[0]) ** 2 for stage, size in zip(recipe.stages, sizes, strict=True)]
        share = min(1.0, budget.left / (WHOLE_TRIALS * seconds * max(sum(costs), 1)))
        epochs = [min(stage.epochs, max(int(stage.epochs * share), 1)) for stage in recipe.stages]
        study.set_user_attr("epochs", epochs)
    asked = sum(stage.epochs for stage in recipe.stages)
    if sum(epochs) < asked:
        say(f"a whole training takes too long for the time given: each trial has {sum(epochs)} of {asked} epochs")
    stages = [stage.model_copy(update={"epochs": some}) for stage, some in zip(recipe.stages, epochs, strict=True)]
    return recipe.model_copy(update={"stages": tuple(stages)})


def _seconds_of_an_epoch(
    recipe: Recipe, prepared: Prepared, options: Options, study: optuna.Study, budget: _Budget
) -> float:
    import tempfile

    from hemascope.train import train_network

    def stop(row: Mapping[str, Any]) -> None:
        raise _OutOfTimeError

    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, suppress(_OutOfTimeError):
        train_network(prepared.cells, recipe, Path(folder), options, lambda sentence: None, on_epoch=stop)
    study.set_user_attr("seconds", budget.used)
    return time.monotonic() - start


def _search(searching: _Search, most: int | None, say: Say) -> None:
    """Trials one after the other, until the time or their number is used up."""
    study, budget = searching.study, searching.budget
    finished = _tidy(searching)
    while most is None or finished < most:
        quickest = min((seconds for seconds in _durations(study) if seconds), default=0.0)
        if budget.left <= quickest:
            break
        trial = _next_trial(searching, finished)
        try:
            told = _try(searching, trial, first=finished == 0)
        except _OutOfTimeError:
            break
        finally:
            study.set_user_attr("seconds", budget.used)
        finished = _tidy(searching)
        best = _best_trial(study)
        so_far = "" if best is None or best.value is None else f" (best {best.value:.4f}, trial {best.number})"
        say(f"trial {trial.number}: {told}{so_far}, {clock(max(budget.left, 0))} left")
    _tidy(searching)


def _next_trial(searching: _Search, finished: int) -> optuna.Trial:
    """The trial that was interrupted, or a new one."""
    import optuna

    study, ranges = searching.study, space(searching.recipe)
    for running in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        if set(running.params) == set(ranges):
            return optuna.Trial(study, running._trial_id)
        # Killed while its values were drawn: a failed trial teaches the sampler nothing, so they are drawn again.
        study.tell(running.number, state=optuna.trial.TrialState.FAIL)
    seed = draws.word(searching.options.seed, 0, finished, "search") % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    if finished == 0:
        study.enqueue_trial(point_of(searching.recipe), skip_if_exists=True)
    return study.ask(ranges)


def _try(searching: _Search, trial: optuna.Trial, *, first: bool) -> str:
    """Train and score a trial, or give it up; tell the study, and say how it went."""
    import optuna

    study, budget, base = searching.study, searching.budget, searching.recipe
    # The space may not hold the recipe itself, such as one without weight decay; the first trial is it all the same.
    recipe = base if first else recipe_at(base, trial.params)
    trial.set_user_attr("recipe", recipe.model_dump(mode="json"))
    run = searching.run_of(trial.number)
    known = set(study.trials[trial.number].intermediate_values)
    closing = max((t.user_attrs.get("closing", 0.0) for t in study.get_trials(deepcopy=False)), default=0.0)
    start = time.monotonic()
    last = start

    def on_epoch(row: Mapping[str, Any]) -> None:
        nonlocal last
        epoch, seconds = int(row["epoch"]), time.monotonic() - last
        last = time.monotonic()
        if epoch not in known:
            trial.report(_told(row), epoch)
        trial.set_user_attr("seconds", before + last - start)
        study.set_user_attr("seconds", budget.used)
        if trial.should_prune():
            raise optuna.TrialPruned
        following = seconds if epoch < sum(stage.epochs for stage in recipe.stages) else 0.0
        if budget.left < following + closing:
            raise _OutOfTimeError

    before = float(trial.user_attrs.get("seconds", 0.0))
    try:
        _replay(run, known, trial)
        fit(searching.prepared, recipe, run, searching.options, lambda sentence: None, on_epoch=on_epoch)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return "given up, under the median of the others"
    except InputError as error:
        if first:
            raise
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return f"given up: {error}"
    held = searching.prepared.cells.in_split("validation")
    score = float(stress_score(load_model(run.folder), held, seed_for("validation"))["stress_score"])
    trial.set_user_attr("closing", time.monotonic() - last)
    trial.set_user_attr("seconds", before + time.monotonic() - start)
    study.tell(trial, score)
    return f"validation stress score {score:.4f}"


def _told(row: Mapping[str, Any]) -> float:
    """What an epoch is pruned by: the score on validation rows by which its recipe chooses epochs."""
    return float(row.get("validation_stress", row["validation_balanced_accuracy"]))


def _replay(run: Run, known: set[int], trial: optuna.Trial) -> None:
    """Report the epochs that were saved just before a kill, and not yet told to the study."""
    import optuna

    from hemascope import checkpoint

    saved = checkpoint.load(run.checkpoint)
    for row in saved[1]["history"] if saved is not None else ():
        if row["epoch"] not in known:
            trial.report(_told(row), row["epoch"])
            known.add(row["epoch"])
    if known and trial.should_prune():
        raise optuna.TrialPruned


def _tidy(searching: _Search) -> int:
    """Keep the winner so far as best/ and best.yaml and write trials.csv; returns how many trials have ended."""
    study, folder = searching.study, searching.folder
    best = _best_trial(study)
    if best is not None:
        winner = recipe_from(best.user_attrs["recipe"])
        _write_best(folder / "best.yaml", winner, best, searching)
        if searching.run_of(best.number).folder.is_dir():
            shutil.rmtree(folder / "best", ignore_errors=True)
            searching.run_of(best.number).folder.rename(folder / "best")
    ended = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    for trial in ended:
        shutil.rmtree(searching.run_of(trial.number).folder, ignore_errors=True)
    write_table(folder / "trials.csv", _trials_table(study))
    return len(ended)


def _write_best(path: Path, winner: Recipe, best: optuna.trial.FrozenTrial, searching: _Search) -> None:
    seed, division = searching.options.seed, searching.prepared.split_seed
    flags = f"--seed {seed}" + (f" --split-seed {division}" if division != seed else "")
    score = f"validation stress score {best.value:.4f}"
    described = f"{winner.name} with the fields that a search found best: {score} with {flags}."
    named = winner.model_copy(update={"name": f"{winner.name}-best", "description": described})
    write_text(path, yaml.safe_dump(named.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The finished trial with the highest score, of equals the first."""
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE" and trial.value is not None]
    return max(finished, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def _durations(study: optuna.Study) -> list[float]:
    return [float(t.user_attrs.get("seconds", 0.0)) for t in study.trials if t.state.name == "COMPLETE"]


def _trials_table(study: optuna.Study) -> pd.DataFrame:
    """A row a trial: trial, state, scores, epochs, seconds, the error if any, and the values it tried.

    best_epoch_score is by what the recipe chooses its epochs; learning_rate_factor multiplies the recipe's rates.
    """
    import pandas as pd

    rows = []
    for trial in study.trials:
        if trial.state.name in ("WAITING", "FAIL"):
            continue
        states = {"COMPLETE": "finished", "PRUNED": "given up", "RUNNING": "interrupted"}
        row = {
            "trial": trial.number,
            "state": states[trial.state.name],
            "validation_stress_score": trial.value if trial.state.name == "COMPLETE" else None,
            "best_epoch_score": max(trial.intermediate_values.values(), default=None),
            "epochs": len(trial.intermediate_values),
            "seconds": round(float(trial.user_attrs.get("seconds", 0.0)), 1),
            "error": trial.user_attrs.get("error", ""),
        }
        rows.append(row | trial.params)
    return pd.DataFrame(rows)
