"""What a search may change in a recipe, and the recipe that a point of that space stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from hemascope.recipe import Optimizer, Recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Point = Mapping[str, Any]
"""A value for each name of a `space`."""

USUAL_RATES: Mapping[str, float] = {"adam": 1.0, "adamw": 1.0, "rmsprop": 0.3, "lion": 0.2, "sgd": 20.0}
"""The learning rates that suit the optimisers, relative to Adam's; lion's is that of Chen et al., 2023."""

HEADS: Mapping[str, tuple[int, ...]] = {"linear": (), "256": (256,), "512": (512,), "1024-512": (1024, 512)}


def space(recipe: Recipe) -> dict[str, BaseDistribution]:
    """The ranges that are searched around a recipe, by name.

    The learning rate is a factor on the rate of every stage, which are moved to the usual scale of the optimiser first.
    Each step of augmentation may be left out, and has its magnitude and its probability.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    own_head = "-".join(map(str, recipe.head_widths)) or "linear"
    size = recipe.batch_size
    found: dict[str, BaseDistribution] = {
        "optimizer": CategoricalDistribution(get_args(Optimizer)),
        "learning_rate_factor": FloatDistribution(0.1, 10.0, log=True),
        "weight_decay": FloatDistribution(1e-4, 0.5, log=True),
        "label_smoothing": FloatDistribution(0.0, 0.2),
        "head_dropout": FloatDistribution(0.0, 0.6),
        "head_widths": CategoricalDistribution(tuple(dict.fromkeys((own_head, *HEADS)))),
        "batch_size": CategoricalDistribution(tuple(dict.fromkeys((max(size // 2, 2), size, 2 * size)))),
    }
    for place, step in enumerate(recipe.augmentation):
        found[f"{place}:{step.name}"] = CategoricalDistribution((True, False))
        found[f"{place}:{step.name}:magnitude"] = FloatDistribution(0.0, 1.0)
        found[f"{place}:{step.name}:probability"] = FloatDistribution(0.1, 1.0)
    return found


def point_of(recipe: Recipe) -> dict[str, Any]:
    """The point of its own space that is nearest to a recipe."""
    found: dict[str, Any] = {
        "optimizer": recipe.optimizer,
        "learning_rate_factor": 1.0,
        "weight_decay": min(max(recipe.weight_decay, 1e-4), 0.5),
        "label_smoothing": min(recipe.label_smoothing, 0.2),
        "head_dropout": min(recipe.head_dropout, 0.6),
        "head_widths": "-".join(map(str, recipe.head_widths)) or "linear",
        "batch_size": recipe.batch_size,
    }
    for place, step in enumerate(recipe.augmentation):
        found[f"{place}:{step.name}"] = True
        found[f"{place}:{step.name}:magnitude"] = step.magnitude
        found[f"{place}:{step.name}:probability"] = max(step.probability, 0.1)
    return found


def recipe_at(recipe: Recipe, point: Point) -> Recipe:
    """The recipe with the values of a point in the place of its own, to four digits, as people write them."""
    scale = point["learning_rate_factor"] * USUAL_RATES[point["optimizer"]] / USUAL_RATES[recipe.optimizer]
    stages = [
        stage.model_copy(
            update={
                "learning_rate": _rounded(stage.learning_rate * scale),
                "random_learning_rate": stage.random_learning_rate and _rounded(stage.random_learning_rate * scale),
            }
        )
        for stage in recipe.stages
    ]
    steps = [
        step.model_copy(
            update={
                "magnitude": _rounded(point[f"{place}:{step.name}:magnitude"]),
                "probability": _rounded(point[f"{place}:{step.name}:probability"]),
            }
        )
        for place, step in enumerate(recipe.augmentation)
        if point[f"{place}:{step.name}"]
    ]
    return recipe.model_copy(
        update={
            "optimizer": point["optimizer"],
            "stages": tuple(stages),
            "weight_decay": _rounded(point["weight_decay"]),
            "label_smoothing": _rounded(point["label_smoothing"]),
            "head_dropout": _rounded(point["head_dropout"]),
            "head_widths": HEADS.get(point["head_widths"], recipe.head_widths),
            "batch_size": int(point["batch_size"]),
            "augmentation": tuple(steps),
        }
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
