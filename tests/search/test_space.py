from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
import yaml

from hemascope.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from hemascope.search.space import point_of, recipe_at, space

Tiny = Callable[..., Recipe]
NETWORKS = [name for name in recipe_names() if load_recipe(name).stages]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_recipe_lies_in_its_own_space(name: str) -> None:
    recipe = load_recipe(name)
    ranges, point = space(recipe), point_of(recipe)
    assert list(ranges) == list(point)
    assert all(ranges[key]._contains(ranges[key].to_internal_repr(value)) for key, value in point.items())


def test_the_point_of_a_recipe_gives_that_recipe(tiny: Tiny) -> None:
    recipe = tiny(weight_decay=0.05)
    assert recipe_at(recipe, point_of(recipe)) == recipe


def test_a_point_moves_what_it_names_and_nothing_else(tiny: Tiny) -> None:
    recipe = tiny(weight_decay=0.05)
    moved = {"optimizer": "lion", "learning_rate_factor": 2.0, "head_widths": "linear", "batch_size": 32}
    moved |= {"0:dihedral": False, "1:jitter:magnitude": 0.123456, "1:jitter:probability": 0.7}
    found = recipe_at(recipe, point_of(recipe) | moved)
    assert found.stages[0].learning_rate == pytest.approx(0.003 * 2 * 0.2)
    assert (found.optimizer, found.head_widths, found.batch_size) == ("lion", (), 32)
    assert [(step.name, step.magnitude, step.probability) for step in found.augmentation] == [("jitter", 0.1235, 0.7)]
    untouched = ("name", "backbone", "image_size", "schedule", "ema_decay", "views", "early_stopping")
    assert all(getattr(found, name) == getattr(recipe, name) for name in untouched)


def test_any_point_is_a_recipe_that_survives_its_file() -> None:
    recipe = load_recipe("small")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        found = recipe_at(recipe, study.ask(space(recipe)).params)
        assert parse_recipe(yaml.safe_dump(found.model_dump(mode="json"))) == found
