"""The figures of a run: its data, its augmentation, its training, its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemascope import figures
from hemascope.clean import mean_pixels
from hemascope.data import Cells
from hemascope.recipe import Recipe
from hemascope.run import Run, recipe_of
from hemascope.runtime import Model

if TYPE_CHECKING:
    import pandas as pd

    from hemascope.prepare import Prepared

PREVIEW_ROWS, PREVIEW_VARIANTS = 8, 6
MOST_EXPLAINED = 8
"""So many mistakes are shown with their heat maps."""


def preview(prepared: Prepared, recipe: Recipe, path: Path, *, seed: int = 0) -> Path:
    """Draw what a recipe's augmentation does to a training picture of each class: each family by itself, then all."""
    from hemascope.augment import augment

    training = prepared.cells.in_split("train")
    rows = np.array(
        [np.flatnonzero(training.labels == label)[0] for label in np.unique(training.labels)][:PREVIEW_ROWS], np.int64
    )
    originals = np.asarray(training.images[rows])
    families = recipe.augmentation
    shown = [(str(step.name), [step.model_copy(update={"probability": 1.0})]) for step in families if len(families) > 1]
    repeats = 2 if len(shown) <= 3 else 1
    columns = [column for column in shown for _ in range(repeats)]
    together = " and ".join(step.name for step in families) if len(families) < 2 else "together"
    columns += [(together or "nothing", list(families))] * (PREVIEW_VARIANTS if not shown else 3)
    variants = [augment(originals, rows, steps, seed=seed, epoch=epoch) for epoch, (_, steps) in enumerate(columns)]
    names = [training.class_names[label] for label in training.labels[rows]]
    titles = [title for title, _ in columns]
    return figures.augmentation_grid(path, originals, np.stack(variants, axis=1), names, titles)


def draw_run(
    run: Run,
    prepared: Prepared,
    scores: Mapping[str, Any],
    predictions: pd.DataFrame,
    shown_cells: Cells,
    model: Model,
) -> None:
    """Draw the figures of a run's report into its folder.

    scores, predictions: of the part that was scored last, as `evaluate` gives them; shown_cells: its cells, in order.
    model: that of the run; there are heat maps where it gives them.
    """
    import pandas as pd

    cells = prepared.cells
    before = prepared.found.class_counts()
    figures.class_distribution(
        run.figures / "class_distribution.png",
        {name: before[name] for name in before if before[name]},
        cells.class_counts(),
    )
    means = mean_pixels(prepared.found)
    kept = np.isin(prepared.found.ids, cells.ids)
    figures.mean_pixel_histogram(run.figures / "mean_pixel_histogram.png", means, means[kept])
    training = cells.in_split("train")
    figures.cell_grid(run.figures / "cells.png", training.images, training.labels, cells.class_names)
    recipe = recipe_of(run)
    if recipe.augmentation:
        preview(prepared, recipe, run.figures / "augmentation.png")
    if run.history.is_file() and run.history.stat().st_size > 1:
        history = pd.read_csv(run.history)
        best = {stage["name"]: stage["best_epoch"] for stage in json.loads(run.metrics.read_text())["stages"]}
        figures.training_curves(run.figures / "training_curves.png", history, best)
    under = json.loads(run.metrics.read_text())["stress"]
    part = under.get("test") or under.get("validation") or {}
    curves = {"clean": (scores.get("trust") or {}).get("reliability") or []}
    curves |= {name: mix["reliability"] for name, mix in part.get("mixes", {}).items() if "reliability" in mix}
    if len(curves) > 1 and curves["clean"]:
        figures.reliability_by_corruption(run.figures / "reliability_by_corruption.png", curves)
    draw_answers(run.figures, scores, predictions, shown_cells, model)


def draw_answers(
    folder: Path, scores: Mapping[str, Any], predictions: pd.DataFrame, cells: Cells, model: Model
) -> None:
    """Draw what a model answered into a folder: confusion, reliability, mistakes, and where it looked.

    scores, predictions: as `evaluate` gives them for the cells, in order. Heat maps are those that the model gives.
    """
    figures.confusion_matrix(
        folder / "confusion_matrix.png", np.array(scores["confusion_matrix"]), list(scores["class_names"])
    )
    scored = predictions[~predictions["left_out"]]
    figures.reliability_diagram(
        folder / "reliability.png", scored["confidence"].to_numpy(), scored["correct"].to_numpy()
    )
    mistakes: Sequence[Mapping[str, Any]] = scores["confident_mistakes"]
    rows = np.array([mistake["row"] for mistake in mistakes], np.int64)
    figures.mistakes(folder / "mistakes.png", cells.take(rows).images, mistakes)
    if not model.explains:
        return
    for name, shown in (("wrong", mistakes[:MOST_EXPLAINED]), ("right", typical_answers(predictions))):
        if shown:
            images = np.asarray(cells.images[np.array([one["row"] for one in shown], np.int64)])
            maps = model.answers(images, heatmap=True).heatmap
            assert maps is not None
            figures.heat_maps(folder / f"heat_maps_{name}.png", images, maps, shown)


def typical_answers(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """A right answer of each class, that of middling confidence, in the order of the classes' columns.

    predictions: as `evaluate` gives them. Each is a dict of row, id, label, predicted and confidence; a class without
    a right answer has none.
    """
    found = []
    for name in [str(column)[2:] for column in predictions if str(column).startswith("p_")]:
        right = predictions[predictions["correct"] & ~predictions["left_out"] & (predictions["label"] == name)]
        if len(right):
            row = right["confidence"].sort_values(kind="stable").index[len(right) // 2]
            line = predictions.loc[row, ["id", "label", "predicted", "confidence"]].to_dict()
            found.append({"row": predictions.index.get_loc(row), **{str(key): value for key, value in line.items()}})
    return found
