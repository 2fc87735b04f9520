from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hemascope.augment import FAMILIES
from hemascope.errors import InputError
from hemascope.optimization import OPTIMIZERS, SCHEDULES
from hemascope.recipe import Recipe, field_help, load_recipe, parse_recipe, recipe_names, recipe_text

MINIMAL = "name: mine\nbackbone: regnetx_002\nstages: [{name: whole, epochs: 1, learning_rate: 0.001}]\n"


def test_the_rows_of_the_report_and_the_small_one_come_with_the_package() -> None:
    names = {"baseline", "mobilenetv2", "mobilenetv2-augmented", "densenet121", "densenet121-augmented", "small"}
    names |= {"classical", "classical-random-forest", "classical-gradient-boosting", "classical-k-nn"}
    assert names <= set(recipe_names())


def test_each_field_has_one_sentence_and_says_what_it_is_without_one() -> None:
    told = dict(field_help())
    assert set(Recipe.model_fields) <= set(told)
    assert all(sentence.endswith(".") and len(sentence) > 12 for sentence in told.values())
    assert told["stages.epochs"].endswith("Required.")
    assert "One of lion, adam" in told["optimizer"]
    assert told["ema_decay"].endswith("Default: 0.0.")


def test_the_text_of_a_recipe_is_that_recipe() -> None:
    assert parse_recipe(recipe_text("small")) == load_recipe("small")
    with pytest.raises(InputError, match="did you mean 'small'"):
        recipe_text("smal")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_is_valid_and_described(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    assert recipe.optimizer in OPTIMIZERS
    assert recipe.schedule in SCHEDULES
    assert all(step.name in FAMILIES for step in recipe.augmentation)


def test_the_method_of_the_report_is_the_default() -> None:
    recipe = load_recipe("densenet121-augmented")
    assert recipe.head_widths == (1024, 512)
    assert (recipe.head_dropout, recipe.head_l2, recipe.batch_size) == (0.5, 0.001, 35)
    assert (recipe.optimizer, recipe.class_weights, recipe.schedule) == ("lion", "balanced", "plateau")
    assert [step.name for step in recipe.augmentation] == ["randaugment", "augmix"]
    frozen, tuned = recipe.stages
    assert frozen.freeze_backbone
    assert not tuned.freeze_backbone
    assert tuned.learning_rate == pytest.approx(frozen.learning_rate / 10)


def test_a_stage_may_augment_less() -> None:
    recipe = load_recipe("small")
    first, last = recipe.stages[0], recipe.stages[-1]
    assert recipe.in_stage(first) == recipe
    for step, less in zip(recipe.augmentation, recipe.in_stage(last).augmentation, strict=True):
        assert less == step.model_copy(update={"probability": pytest.approx(step.probability * last.augmented)})
    assert recipe.in_stage(last.model_copy(update={"augmented": 0.0})).augmentation == ()


def test_a_recipe_survives_the_run_folder() -> None:
    recipe = load_recipe("small")
    assert parse_recipe(yaml.safe_dump(recipe.model_dump(mode="json"))) == recipe


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MINIMAL + "optimiser: adam\n", "unknown key 'optimiser' (did you mean 'optimizer'?)."),
        (MINIMAL.replace("epochs", "epoch"), "unknown key 'stages.0.epoch' (did you mean 'epochs'?)"),
        (MINIMAL.replace(" epochs: 1,", ""), "'stages.0.epochs' is missing"),
        (MINIMAL.replace("epochs: 1", "epochs: 0"), "'stages.0.epochs' is 0"),
        (MINIMAL + "optimizer: adamm\n", "did you mean 'adam'?"),
        (MINIMAL + "augmentation: [{name: randaugmnt}]\n", "did you mean 'randaugment'?"),
        (MINIMAL + "augmentation: [{name: jitter, magnitud: 1}]\n", "did you mean 'magnitude'?"),
        (MINIMAL + "head_dropout: 2\n", "'head_dropout' is 2"),
        (MINIMAL + "views: 3\n", "'views' is 3: expected 1, 2, 4 or 8."),
        (MINIMAL + "head_widths: 5\n", "'head_widths' is 5: expected a list."),
        (MINIMAL + "head_widths: [0]\n", "'head_widths.0' is 0: expected 1 or more."),
        (MINIMAL + "batch_size: many\n", "'batch_size' is 'many': expected a whole number."),
        (MINIMAL + "batch_size: 2.5\n", "'batch_size' is 2.5: expected a whole number."),
        (MINIMAL + "head_dropout: much\n", "'head_dropout' is 'much': expected a number."),
        (MINIMAL + "head_dropout: 1\n", "'head_dropout' is 1: expected less than 1."),
        (MINIMAL + "channels_last: 7\n", "'channels_last' is 7: expected true or false."),
        (MINIMAL + "description: 3\n", "'description' is 3: expected a text."),
        (MINIMAL + "augmentation: [jitter]\n", "'augmentation.0' is 'jitter': expected keys with their values."),
        (MINIMAL + "augmentation: [{name: xyz}]\n", f"expected one of {len(FAMILIES)} names, which `hemascope recipes"),
        (MINIMAL + "head: knn\n", "'stages' train a network, and under 'head: knn' nothing is trained; leave them out"),
        (MINIMAL + "head_widths: [1,\nhead_dropout: 0.1\n", "is not valid YAML, in what begins in line "),
        (
            MINIMAL + "members: 0\n",
            "'members' is 0: expected a whole number from 1 to 32, or a list of two run folders",
        ),
        (MINIMAL + "members: [one]\n", "'members' is ['one']: expected a whole number"),
        ("name: [", "not valid YAML"),
        ("just words", "holds a single value"),
        ("- a list", "holds a list"),
        ("", "is empty"),
        ("backbone: regnetx_002\nstages: []\n", "the key 'name' is missing"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_with_what_is_right(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=r"^mine\.yaml: ") as error:
        parse_recipe(text, "mine.yaml")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


CLASSICAL = "name: mine\nbackbone: classical/svm\n"


def test_classical_models_need_no_stages_and_survive_the_run_folder() -> None:
    recipe = parse_recipe(CLASSICAL + "augmentation: [{name: jitter}]\ncopies: 2\n")
    assert recipe.classical
    assert recipe.stages == ()
    assert parse_recipe(yaml.safe_dump(recipe.model_dump(mode="json"))) == recipe
    assert not parse_recipe(MINIMAL).classical
    assert parse_recipe("name: nothing\nbackbone: none\n").stages == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (CLASSICAL.replace("svm", "swm"), "'backbone' is 'classical/swm' (did you mean 'classical/svm'?); there are"),
        (CLASSICAL.replace("svm", "forest"), "did you mean 'classical/random-forest'?"),
        (CLASSICAL.replace("/svm", ""), "there are classical/svm, classical/random-forest"),
        (CLASSICAL + "optimizer: adam\n", "'optimizer' is about networks, and classical/svm is none; leave it out"),
        (CLASSICAL + "stages: [{name: a, epochs: 1, learning_rate: 0.1}]\n", "'stages' is about networks"),
        (CLASSICAL + "copies: 0\n", "'copies' is 0"),
        (
            CLASSICAL + "augmentation: [{name: mixup}]\n",
            "'mixup' mixes labels, and classical models learn from one each",
        ),
        (MINIMAL + "copies: 3\n", "'copies' is about classical models"),
        ("name: mine\nbackbone: regnetx_002\n", "the key 'stages' is missing; add it"),
    ],
)
def test_a_key_of_another_kind_of_model_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=r"^mine\.yaml: ") as error:
        parse_recipe(text, "mine.yaml")
    assert sentence in str(error.value)


def test_finished_runs_need_no_stages() -> None:
    assert parse_recipe("name: both\nbackbone: regnetx_002\nmembers: [one, other]\n").stages == ()


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'densenet121'"):
        load_recipe("densnet121")
    with pytest.raises(InputError, match="no such recipe file"):
        load_recipe(tmp_path / "mine.yaml")
