"""The command `train`, with all that it may be asked to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hemascope.cli.options import (
    ClassMap,
    Crop,
    Data,
    GroupBy,
    complete_models,
    complete_recipes,
    load_cells,
)
from hemascope.cli.tables import print_table
from hemascope.errors import InputError
from hemascope.field import FieldOfView
from hemascope.processes import leads, processes

if TYPE_CHECKING:
    from hemascope.data import Cells
    from hemascope.recipe import Recipe


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run folder to write; it must not exist or be empty.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe's name or YAML file; several, with commas, are compared.", autocompletion=complete_recipes
        ),
    ] = None,
    refit: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="In place of a recipe: fit this model again to some 10 to 100 pictures.",
            autocompletion=complete_models,
        ),
    ] = None,
    new_class: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --refit: a class that the model is to learn, too; may be repeated."),
    ] = None,
    test: Annotated[Path | None, typer.Option(help="A further labelled file, scored with the chosen model.")] = None,
    all_tests: Annotated[bool, typer.Option(help="Score every recipe on test rows, not the chosen alone.")] = False,
    pretrained: Annotated[
        str | None, typer.Option(help="In place of the recipe's: auto, required, none or a safetensors file.")
    ] = None,
    seed: Annotated[
        str, typer.Option(help="Decides split, draws and order; several, with commas, are compared on one split.")
    ] = "0",
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds, counted from --seed on.")] = None,
    split_seed: Annotated[
        int | None, typer.Option(min=0, help="Decides the split in place of the first --seed.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop training when so much time is used.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many epochs in each stage.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Go on without the pictures that stand on two sides.")
    ] = False,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on 12, 25, 50, 100% of rows.")
    ] = False,
    search: Annotated[
        float | None, typer.Option("--search", metavar="MINUTES", help="Search the recipe's fields for so long.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only draw what augmentation does.")] = False,
    stress: Annotated[bool, typer.Option("--stress", help="The whole stress test on the test rows, too.")] = False,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures at a time through the network; the batch stays.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network, with CUDA graphs on a GPU.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write scalars to OUT/tensorboard, too.")] = False,
    class_map: ClassMap = None,
    group_by: GroupBy = None,
    crop: Crop = None,
    micrometres: Annotated[
        float | None,
        typer.Option(min=0.1, help="How wide a picture is on the slide, after --crop; the model states it."),
    ] = None,
) -> None:
    """Clean, split, train, score and report: the main job, from labelled pictures to RUN/report.html."""
    if refit is not None:
        if recipe is not None:
            raise InputError("--refit takes a model's network as it is, and --recipe trains one; give one of them.")
        known = _known_after(refit, new_class or [])
        _refit(refit, load_cells(data, class_map, group_by, crop, known), out, seed, new_class or [])
        return
    if new_class:
        raise InputError(f"--new-class {new_class[0]}: goes with --refit MODEL; name the model that is to learn it.")
    if recipe is None:
        raise InputError("--recipe is missing: name one, such as small, or a model to fit again with --refit.")
    from hemascope import pipeline

    recipes = [_recipe(name.strip(), pretrained, epochs) for name in recipe.split(",") if name.strip()]
    if not recipes:
        raise InputError(
            f"--recipe is '{recipe}', expected the name of a recipe or a YAML file, or several with commas."
        )
    if repeated := [one.name for one in recipes if sum(one.name == other.name for other in recipes) > 1]:
        raise InputError(f"--recipe names '{repeated[0]}' more than once; name each recipe once.")
    if (learning_curve or preview) and len(recipes) != 1:
        raise InputError(f"--recipe names {len(recipes)} recipes; --learning-curve and --preview take one.")
    if processes().total > 1 and (len(recipes) != 1 or learning_curve or preview):
        raise InputError(
            "several processes train one recipe together; name one, without --learning-curve or --preview."
        )
    if stress and (learning_curve or preview):
        raise InputError("--stress needs a score on the test rows, which --learning-curve and --preview do not give.")
    numbers = _seeds(seed, seeds)
    if len(numbers) > 1 and (learning_curve or preview):
        raise InputError(f"--seed names {len(numbers)} seeds; --learning-curve and --preview take one.")
    if search is not None:
        alone = {
            "--test": test, "--all-tests": all_tests, "--stress": stress, "--learning-curve": learning_curve,
            "--preview": preview, "--max-minutes": max_minutes,
        }  # fmt: skip
        _check_search(search, recipes, numbers, [name for name, given in alone.items() if given])
    first = numbers[0] if split_seed is None else split_seed
    options: dict[str, Any] = {
        "split_seed": first, "device": device, "precision": precision, "max_minutes": max_minutes, "resume": resume,
        "allow_leaks": allow_leaks, "micro_batch": micro_batch, "compiled": compiled, "tensorboard": tensorboard,
    }  # fmt: skip
    if leads():
        from hemascope.files import check_writable, new_folder

        if resume or preview:
            check_writable(out)
        else:
            new_folder(out, inputs=[data])
        if resume and not out.exists():
            print(f"{out}: holds no run to go on with; a new one begins.")
    # A look at augmentation needs neither weights nor other runs.
    pipeline.check_recipes([] if preview else recipes, resume)
    pipeline.training_options(
        numbers[0], device, precision, None, micro_batch=micro_batch, compiled=compiled, tensorboard=tensorboard
    )
    cells = load_cells(data, class_map, group_by, crop)
    if micrometres is not None:
        cells = replace(cells, field=FieldOfView(micrometres))
    further = None if test is None else load_cells(test, class_map, None, crop)
    if preview:
        from hemascope.drawing import preview as draw_preview
        from hemascope.prepare import prepare

        prepared = prepare(cells, seed=first, allow_leaks=True)
        path = draw_preview(prepared, recipes[0], out / "preview.png", seed=numbers[0])
        print(f"preview: {path}")
    elif search is not None:
        from hemascope.search import search_recipe

        del options["max_minutes"]
        search_recipe(cells, recipes[0], out, minutes=search, seed=numbers[0], **options)
    elif learning_curve:
        from hemascope.search import learning_curve as grow

        print_table(grow(cells, recipes[0], out, seed=numbers[0], **options), out / "learning_curve.csv")
    elif len(recipes) > 1 or len(numbers) > 1:
        from hemascope.search import compare_recipes

        options |= {"test": further, "all_tests": all_tests, "stress": stress}
        print_table(compare_recipes(cells, recipes, out, seeds=numbers, **options), out / "leaderboard.csv")
    else:
        from hemascope.cli.tables import summary

        run = pipeline.train(cells, recipes[0], out, test=further, stress=stress, seed=numbers[0], **options)
        if not leads():
            return
        import json

        print(summary(json.loads(run.metrics.read_text(encoding="utf-8"))["test"]))


def _known_after(model: Path, new: list[str]) -> tuple[str, ...]:
    """The classes of a model, and after them those that it is to learn."""
    from hemascope.data.classes import new_classes
    from hemascope.runtime import load_model

    known = load_model(model).class_names
    return (*known, *new_classes(new, known))


def _refit(model: Path, cells: Cells, out: Path, seed: str, new: list[str]) -> None:
    from hemascope.refit import refit

    numbers, counts = _seeds(seed, None), cells.class_counts()
    if unseen := [name for name in new if not counts[name.strip()]]:
        shown = ", ".join(name for name, count in counts.items() if count)
        raise InputError(f"--new-class {unseen[0]}: {cells.source} has no picture of it, only of {shown}.")
    if len(numbers) > 1:
        raise InputError(f"--seed names {len(numbers)} seeds; --refit takes one.")
    refit(model, cells, out, seed=numbers[0])


def _recipe(name: str, pretrained: str | None, epochs: int | None) -> Recipe:
    from hemascope.recipe import load_recipe

    recipe = load_recipe(name)
    if pretrained is not None:
        recipe = recipe.model_copy(update={"pretrained": pretrained})
    if epochs is not None:
        stages = tuple(stage.model_copy(update={"epochs": min(stage.epochs, epochs)}) for stage in recipe.stages)
        recipe = recipe.model_copy(update={"stages": stages})
    return recipe


def _seeds(named: str, count: int | None) -> list[int]:
    """The seeds that --seed and --seeds name."""
    words = [word.strip() for word in named.split(",") if word.strip()]
    if wrong := [word for word in words if not (word.isascii() and word.isdigit() and len(word) < 10)]:
        raise InputError(f"--seed is '{wrong[0]}', expected a whole number from 0 on, or several with commas.")
    seeds = [int(word) for word in words]
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"--seed is '{named}', expected at least one seed, and each once.")
    if count is None:
        return seeds
    if len(seeds) > 1:
        raise InputError("--seed names several seeds already; leave --seeds out, or name the first one alone.")
    return list(range(seeds[0], seeds[0] + count))


def _check_search(minutes: float, recipes: list[Recipe], seeds: list[int], others: list[str]) -> None:
    if minutes <= 0:
        raise InputError(f"--search is {minutes:g}, expected the minutes that it may take.")
    if len(recipes) != 1 or len(seeds) != 1:
        raise InputError(f"--search takes one recipe and one seed; found {len(recipes)} and {len(seeds)}.")
    if others:
        raise InputError(
            f"--search and {others[0]} exclude each other; train the best.yaml that it finds with the latter."
        )
