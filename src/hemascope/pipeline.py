"""The main job: from labelled pictures to a cleaned, split, trained, exported, scored and reported model."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemascope.card import write_model_card
from hemascope.data import NO_GROUPS_NOTE, Cells, load
from hemascope.drawing import draw_run
from hemascope.errors import InputError
from hemascope.evaluate import evaluate
from hemascope.explain.neighbours import FILE, training_cells
from hemascope.files import replacing, write_json
from hemascope.prepare import Prepared, prepare
from hemascope.processes import leads
from hemascope.progress import Say
from hemascope.recipe import Recipe, load_recipe
from hemascope.report import doubts, write_report
from hemascope.run import (
    Run,
    command_line,
    config_of,
    open_run,
    recipe_of,
    write_config,
    write_environment,
    write_split,
    write_table,
)
from hemascope.runtime import load_model
from hemascope.stress import seed_for, stress_score
from hemascope.stress import stress as stress_test
from hemascope.stress_report import draw_stress
from hemascope.trust.fitted import UNDISTORTED, Distortion, balanced_weights
from hemascope.wording import install, many

if TYPE_CHECKING:
    from hemascope.train import Options


def train(
    data: str | Path | Cells,
    recipe: str | Path | Recipe = "small",
    out: str | Path = "run",
    *,
    test: str | Path | Cells | None = None,
    seed: int = 0,
    split_seed: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_minutes: float | None = None,
    micro_batch: int | None = None,
    compiled: bool = False,
    tensorboard: bool = False,
    resume: bool = False,
    score_test: bool = True,
    allow_leaks: bool = False,
    stress: bool = False,
    say: Say = print,
) -> Run:
    """The main job in one call: clean, split, train, export, score, report. Returns the run folder.

    data: a path for `hemascope.load`, or Cells. recipe: the name of one that comes with the package, a YAML file, or
    a Recipe. test: a further labelled file to score. seed: decides split, draws and order; split_seed: decides the
    split alone, so that runs of several seeds see the same rows. score_test: False leaves the test rows unscored, for
    a choice between models that is still to be made. allow_leaks: go on when pictures stand in two splits of the data,
    or in `test` too; they are then left out of training or of the score. stress: let the test rows go through the
    whole stress test, where otherwise its score alone is computed. Raises InputError before anything is written when
    the input is bad. micro_batch, compiled, tensorboard: see `hemascope.train.Options`.
    """
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    options = training_options(
        seed, device, precision, max_minutes, micro_batch=micro_batch, compiled=compiled, tensorboard=tensorboard
    )
    check_recipes([chosen], resume)
    # Of several processes the first one makes the folder, in which the others may then find something.
    run = open_run(out, resume) if leads() else Run(Path(out))
    further = None if test is None else test if isinstance(test, Cells) else load(test)
    cells = data if isinstance(data, Cells) else load(data)
    say = say if leads() else lambda sentence: None
    division = seed if split_seed is None else split_seed
    prepared = prepare(cells, seed=division, further=further, allow_leaks=allow_leaks, say=say)
    if not leads():
        follow(prepared, chosen, run, options)
        return run
    fit(prepared, chosen, run, options, say)
    score_run(run, prepared, further=further, score_test=score_test, stress=stress, say=say)
    return run


def require_training() -> None:
    """Raise InputError when what training needs is not installed; a quick look, as torch takes seconds to import."""
    for name in ("torch", "torchvision", "timm", "lightning_fabric", "safetensors", "onnx", "onnxscript", "skl2onnx"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"training needs the package '{name}', which is not installed; run {install('train')}.")


def check_recipes(recipes: Sequence[Recipe], resume: bool) -> None:
    """Raise InputError for what recipes ask for and is not there, before any data are read.

    A run that is resumed may be past the need for it.
    """
    require_training()
    from hemascope.ensemble import check_recipe

    for recipe in () if resume else recipes:
        check_recipe(recipe)


def training_options(seed: int, device: str, precision: str, max_minutes: float | None, **further: Any) -> Options:
    """The options of a training, `further` being those of `hemascope.train.Options` that most runs leave alone.

    Raises InputError when training is not installed, or a device cannot be had.
    """
    require_training()
    if further.get("tensorboard") and importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            f"--tensorboard needs the package 'tensorboard', which is not installed; run {install('tensorboard')}."
        )
    from hemascope.devices import describe_device
    from hemascope.train import Options

    options = Options(seed=seed, device=device, precision=precision, max_minutes=max_minutes, **further)
    describe_device(options.device, options.precision)
    return options


def fit(
    prepared: Prepared,
    recipe: Recipe,
    run: Run,
    options: Options,
    say: Say = print,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Train a recipe on prepared data into a run folder, up to the exported model; goes on where a run stopped.

    on_epoch: as in `train_network`; a recipe with members has none.
    """
    from hemascope.course import write_history
    from hemascope.devices import describe_device, enough_memory
    from hemascope.ensemble import classifiers, with_views
    from hemascope.export import export_onnx
    from hemascope.members import train_members
    from hemascope.pretrained import check_backbone
    from hemascope.teacher import check_teacher
    from hemascope.train import train_network

    if not recipe.classical:
        check_backbone(recipe)
    config = config_of(recipe, prepared.found, prepared.found_hashes, options.seed, prepared.split_seed, command_line())
    write_config(run, config)
    if run.trained:
        say(f"{run.folder}: the training is finished already")
        return
    write_environment(run, "cpu" if recipe.classical else describe_device(options.device, options.precision))
    write_table(run.removed, prepared.removed)
    write_split(run, prepared.cells, prepared.hashes)
    if recipe.classical:
        from hemascope.classical_export import train_classical

        train_classical(prepared.cells, recipe, run, options.seed, options.max_minutes, say)
        return
    check_teacher(recipe, prepared.cells.class_names, run)
    smaller = "use a smaller 'image_size' or 'backbone', or another --device."
    with enough_memory(f"to train this network here, even in parts; {smaller}"):
        if recipe.members == 1:
            trained = train_network(prepared.cells, recipe, run.folder, options, say, on_epoch)
        else:
            trained = train_members(prepared.cells, recipe, run, options, say)
    write_history(run.history, trained.history)
    say("exporting the network, and fitting what its answers are worth")
    with enough_memory("to export the network; the training is kept: free some and go on by --resume."):
        difference, trust = export_onnx(
            with_views(trained.network, recipe.views),
            run.model / "model.onnx",
            prepared.cells,
            {"recipe": recipe.name, "weights": trained.weights.origin, "version": str(config["version"])},
            distortion_of(recipe, prepared.cells),
            options.seed,
        )
    parameters = sum(parameter.numel() for parameter in trained.network.parameters())
    from hemascope.checkpoint import save_tensors

    save_tensors(run.model / "weights.safetensors", trained.network.state_dict())
    write_json(
        run.model / "model.json",
        {
            "recipe": recipe.name,
            "class_names": list(prepared.cells.class_names),
            "weights": trained.weights.origin,
            "parameters": parameters,
            "trained_in": trained.precision,
            "image_sizes": [one.image_size for one in classifiers(trained.network)],
            "stages": trained.stages,
            "notes": [*trained.notes, *trust.notes],
            "largest_difference_of_export": difference,
            "purpose": "Research only, not a medical device.",
        },
    )
    for checkpoint in (run.checkpoint, *run.folder.glob("members/*/checkpoint")):
        shutil.rmtree(checkpoint, ignore_errors=True)


def distortion_of(recipe: Recipe, cells: Cells) -> Distortion:
    """What training by a recipe did to probabilities, as far as it is known.

    Finished runs that are averaged have one where all were trained alike. Of a vote of neighbours and of a teacher's
    answers it is not known, and then the temperature alone has to make up for it.
    """
    if not isinstance(recipe.members, int):
        found = [distortion_of(recipe_of(Run(Path(folder))), cells) for folder in recipe.members]
        alike = {(one.smoothing, one.class_weights is None) for one in found}
        return found[0] if len(alike) == 1 else UNDISTORTED
    if recipe.head == "knn" or recipe.teacher:
        return UNDISTORTED
    counts = np.bincount(cells.in_split("train").labels, minlength=len(cells.class_names))
    weighted = "balanced" in (recipe.class_weights, recipe.sampling)
    return Distortion(recipe.label_smoothing, balanced_weights(counts) if weighted else None)


def follow(prepared: Prepared, recipe: Recipe, run: Run, options: Options) -> None:
    """Take part in the training of a process that leads (`fit`), which alone writes files and speaks."""
    from hemascope.train import train_network

    if not (run.trained or recipe.classical):
        train_network(prepared.cells, recipe, run.folder, options, lambda sentence: None)


def score_run(
    run: Run,
    prepared: Prepared,
    *,
    further: Cells | None = None,
    score_test: bool = True,
    stress: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Score a trained run on its validation rows, its test rows and a further file; write what the run folder tells.

    That is metrics, figures, report and the model's card. The stress score is computed on both parts, with other
    corruptions on each; `stress` adds the whole stress test on the test rows.
    """
    model = load_model(run.folder)
    cells = prepared.cells
    described = json.loads((run.model / "model.json").read_text(encoding="utf-8"))
    metrics: dict[str, Any] = {
        "recipe": described["recipe"],
        "weights": described["weights"],
        "parameters": described["parameters"],
        "image_sizes": described.get("image_sizes", []),
        "stages": described["stages"],
        "notes": [*described["notes"], *(note for note in prepared.found.notes if note != NO_GROUPS_NOTE)],
        "grouped": cells.groups is not None,
        "files": {},
        "stress": {},
    }
    warnings: list[str] = []
    shown_cells = cells.in_split("validation")
    validation = shown = evaluate(model, shown_cells)
    metrics["validation"] = validation.scores
    metrics["stress"]["validation"] = stress_score(model, shown_cells, seed_for("validation"))
    if score_test:
        shown_cells = cells.in_split("test")
        shown = evaluate(model, shown_cells)
        metrics["test"] = shown.scores
        say(f"test accuracy {_figure(shown.scores)}")
        if stress:
            tested = stress_test(model, shown_cells, seed=seed_for("test"), augmentation=recipe_of(run).augmentation)
            tested.write(run.folder)
            draw_stress(tested, run.figures)
            metrics["stress"]["test"] = {name: tested.scores[name] for name in metrics["stress"]["validation"]}
        else:
            metrics["stress"]["test"] = stress_score(model, shown_cells, seed_for("test"))
        if further is not None:
            extra = evaluate(run.folder, further)
            metrics["files"][further.source] = extra.scores
            with replacing(run.folder / "predictions-further.parquet") as temporary:
                extra.predictions.to_parquet(temporary, index=False)
            warnings += extra.warnings
            say(f"{further.source}: accuracy {_figure(extra.scores)}")
    else:
        say(f"validation accuracy {_figure(validation.scores)}")
    part = "test" if score_test else "validation"
    say(f"{part} stress score {_stress_figure(metrics['stress'][part])}")
    metrics["warnings"] = [*shown.warnings, *warnings]
    for warning in metrics["warnings"]:
        say(warning)
    with replacing(run.predictions) as temporary:
        shown.predictions.to_parquet(temporary, index=False)
    write_json(run.metrics, metrics)
    if score_test and not (run.model / FILE).is_file():
        # The run is one to use.
        training_cells(model, cells).save(run.model / FILE)
    draw_run(run, prepared, shown.scores, shown.predictions, shown_cells, model)
    write_report(run.folder)
    write_model_card(run)
    if care := doubts(run.folder):
        say(f"take care: {'; '.join(title[0].lower() + title[1:] for title in care)} (the report says why)")
    say(f"report: {run.report}")
    return metrics


def _figure(scores: Mapping[str, Any]) -> str:
    low, high = scores["accuracy_interval"]
    return f"{scores['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}, {many(scores['n'], 'picture')})"


def _stress_figure(scores: Mapping[str, Any]) -> str:
    interval = scores["stress_score_interval"]
    between = f" (95% interval over cells and corruptions {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    return f"{scores['stress_score']:.4f}{between}"
