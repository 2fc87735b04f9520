from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml

from hemascope import checkpoint
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.pipeline import train
from hemascope.recipe import Recipe, load_recipe
from hemascope.search import optimise, search_recipe
from hemascope.synthetic import draw_cells

Tiny = Callable[..., Recipe]
TRIALS = 4


def quiet(sentence: str) -> None:
    pass


@pytest.fixture(scope="module")
def few() -> Cells:
    return draw_cells(120, seed=12, size=32)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, few: Cells, tiny: Tiny) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("searched") / "search"
    return out, search_recipe(few, tiny(), out, minutes=60, trials=TRIALS, seed=2, say=quiet)


def timeless(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="seconds")


def test_the_first_trial_is_the_recipe_itself_and_the_best_is_kept(
    searched: tuple[Path, pd.DataFrame], tiny: Tiny
) -> None:
    out, table = searched
    assert len(table) == TRIALS
    assert table["optimizer"].iloc[0] == tiny().optimizer
    assert table["epochs"].iloc[0] == 2
    plain = ["trial", "state", "epochs", "optimizer", "batch_size"]
    pd.testing.assert_frame_equal(pd.read_csv(out / "trials.csv")[plain], table[plain], check_dtype=False)
    assert {path.name for path in out.iterdir()} == {
        "config.yaml", "study.db", "trials.csv", "trials", "best", "best.yaml",
    }  # fmt: skip
    assert not list((out / "trials").iterdir())
    kept = Recipe.model_validate(yaml.safe_load((out / "best" / "config.yaml").read_text())["recipe"])
    names = {"name", "description"}
    assert kept.model_dump(exclude=names) == load_recipe(out / "best.yaml").model_dump(exclude=names)


def test_the_recipe_that_is_left_repeats_the_winner_bit_for_bit(
    searched: tuple[Path, pd.DataFrame], few: Cells, tmp_path: Path
) -> None:
    out, table = searched
    run = train(few, out / "best.yaml", tmp_path / "run", seed=2, score_test=False, say=quiet)
    metrics = json.loads(run.metrics.read_text())
    assert metrics["stress"]["validation"]["stress_score"] == table["validation_stress_score"].max()
    weights = [(folder / "model" / "weights.safetensors").read_bytes() for folder in (run.folder, out / "best")]
    assert weights[0] == weights[1]


def test_a_search_killed_in_the_middle_of_a_trial_tries_the_same_as_one_that_was_not(
    searched: tuple[Path, pd.DataFrame], few: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint.save
    dying = True

    def save_and_die(folder: Path, *args: Any) -> None:
        save(folder, *args)
        if dying and folder.parent.name == "001":
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        search_recipe(few, tiny(), tmp_path / "search", minutes=60, trials=TRIALS, seed=2, say=quiet)
    dying = False
    table = search_recipe(few, tiny(), tmp_path / "search", minutes=60, trials=TRIALS, seed=2, resume=True, say=quiet)
    pd.testing.assert_frame_equal(timeless(table), timeless(searched[1]))
    best = [(out / "best.yaml").read_bytes() for out in (tmp_path / "search", searched[0])]
    assert best[0] == best[1]
    with pytest.raises(InputError, match="was begun with another recipe"):
        search_recipe(few, tiny(batch_size=8), tmp_path / "search", minutes=60, seed=2, resume=True, say=quiet)


@pytest.fixture
def epochs_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the clock of a search each epoch takes a second, and nothing else takes time."""
    now = 0.0
    save = checkpoint.save

    def save_a_second_later(*args: Any) -> None:
        nonlocal now
        now += 1.0
        save(*args)

    monkeypatch.setattr(checkpoint, "save", save_a_second_later)
    monkeypatch.setattr(optimise, "time", SimpleNamespace(monotonic=lambda: now))


@pytest.mark.usefixtures("epochs_of_a_second")
def test_a_search_ends_within_its_time_and_shortens_what_does_not_fit(
    few: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 s: one goes into timing an epoch, two trials of five fit into the other eleven, and no third one."""
    monkeypatch.setattr(optimise, "WHOLE_TRIALS", 2)
    said: list[str] = []
    recipe = tiny(stages=[{"name": "whole", "epochs": 5000, "learning_rate": 0.003}], early_stopping=5000)
    table = search_recipe(few, recipe, tmp_path / "search", minutes=0.2, say=said.append)
    assert table["epochs"].tolist() == [5, 5]
    assert table["seconds"].sum() + 1 <= 12
    assert any("each trial has 5 of 5000 epochs" in sentence for sentence in said)
    assert load_recipe(tmp_path / "search" / "best.yaml").stages[0].epochs == 5


@pytest.mark.usefixtures("epochs_of_a_second")
def test_a_trial_that_the_time_cut_short_goes_on_when_there_is_more(
    few: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a training has room: the trial stays as it is, and with more time it ends after the same four epochs."""
    monkeypatch.setattr(optimise, "WHOLE_TRIALS", 0.5)
    recipe, out = tiny(stages=[{"name": "whole", "epochs": 4, "learning_rate": 0.003}]), tmp_path / "search"
    with pytest.raises(InputError, match="no trial was finished"):
        search_recipe(few, recipe, out, minutes=3 / 60, say=quiet)
    assert pd.read_csv(out / "trials.csv")[["state", "epochs"]].values.tolist() == [["interrupted", 2]]
    table = search_recipe(few, recipe, out, minutes=1, trials=1, resume=True, say=quiet)
    assert table[["state", "epochs"]].values.tolist() == [["finished", 4]]


def test_without_time_for_one_trial_it_is_said(few: Cells, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no trial was finished in 0\.0001 minutes; go on by --resume"):
        search_recipe(few, tiny(), tmp_path / "search", minutes=0.0001, say=quiet)


def test_what_cannot_be_searched_is_refused_in_a_sentence(
    few: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="trains no network, so there is nothing to search"):
        search_recipe(few, tiny(backbone="none", stages=[]), tmp_path / "a", minutes=1, say=quiet)
    with pytest.raises(InputError, match="search with 'members: 1'"):
        search_recipe(few, tiny(members=3), tmp_path / "a", minutes=1, say=quiet)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else found(name))
    with pytest.raises(InputError, match=r"'optuna', which is not installed; run pip install '.\[search\]'"):
        search_recipe(few, tiny(), tmp_path / "a", minutes=1, say=quiet)
    assert not (tmp_path / "a").exists()
