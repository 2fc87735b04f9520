from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from hemascope import checkpoint
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.pipeline import train
from hemascope.recipe import Recipe
from hemascope.run import Run
from hemascope.runtime import load_model
from hemascope.search import compare, compare_recipes
from hemascope.stress import seed_for
from hemascope.synthetic import draw_cells

Tiny = Callable[..., Recipe]


def quiet(sentence: str) -> None:
    pass


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, dirty: Cells, tiny: Tiny) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("compared") / "all"
    recipes = [tiny(name="nothing", backbone="none", stages=[]), tiny()]
    further = draw_cells(40, seed=11, size=32)
    return out, compare_recipes(dirty, recipes, out, test=further, say=quiet)


def test_only_the_recipe_with_the_best_stress_score_on_validation_is_scored_on_test(
    compared: tuple[Path, pd.DataFrame],
) -> None:
    out, table = compared
    chosen = table[table["chosen"]]
    assert len(chosen) == 1
    assert chosen["validation_stress_score"].item() == table["validation_stress_score"].max()
    others = table[~table["chosen"]]
    scored = [column for column in map(str, table) if column.startswith(("test_", "accuracy on"))]
    assert len(scored) == 8
    assert chosen[scored].notna().all(axis=None)
    assert others[scored].isna().all(axis=None)
    unscored = json.loads((out / others["recipe"].item() / "metrics.json").read_text())
    assert "test" not in unscored
    assert list(unscored["stress"]) == ["validation"]


def test_validation_and_test_meet_other_corruptions(compared: tuple[Path, pd.DataFrame]) -> None:
    out, table = compared
    stress = json.loads((out / table.loc[table["chosen"], "recipe"].item() / "metrics.json").read_text())["stress"]
    assert stress["validation"]["seed"] == seed_for("validation")
    assert stress["test"]["seed"] == seed_for("test") != stress["validation"]["seed"]
    low, high = stress["test"]["stress_score_interval"]
    assert table["test_stress_score_low"].max() == pytest.approx(low)
    assert table["test_stress_score_high"].max() == pytest.approx(high)


def test_the_choice_is_by_the_stress_score_and_not_by_accuracy(
    compared: tuple[Path, pd.DataFrame], dirty: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = json.loads((compared[0] / "tiny" / "metrics.json").read_text())
    scores = {"accurate": (0.9, 0.3), "robust": (0.5, 0.4)}

    def scored(run: Run, *args: Any, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = copy.deepcopy(kept)
        accuracy, under = scores[run.folder.name]
        found["validation"]["accuracy"] = found["validation"]["balanced_accuracy"] = accuracy
        found["stress"]["validation"]["stress_score"] = under
        found["stress"]["validation"]["stress_score_interval"] = None
        return found

    model = load_model(compared[0] / "tiny")
    monkeypatch.setattr(compare, "fit", lambda *args: None)
    monkeypatch.setattr(compare, "score_run", scored)
    monkeypatch.setattr(compare, "load_model", lambda folder: model)
    said: list[str] = []
    table = compare_recipes(dirty, [tiny(name=name) for name in scores], tmp_path / "all", say=said.append)
    assert table.loc[table["chosen"], "recipe"].item() == "robust"
    assert any("chosen by the stress score on validation rows: robust" in sentence for sentence in said)
    with Image.open(tmp_path / "all" / "leaderboard.png") as image:
        assert image.info["Description"].startswith("Validation stress score of 2 models, best first: robust 0.4000")


def test_the_table_and_its_picture_are_written(compared: tuple[Path, pd.DataFrame]) -> None:
    out, table = compared
    written = pd.read_csv(out / "leaderboard.csv")
    assert written["recipe"].tolist() == table["recipe"].tolist() == ["nothing", "tiny"]
    assert written["weights"].tolist() == ["one answer for all", "random"]
    assert (out / "leaderboard.png").is_file()
    assert (out / "tiny" / "report.html").is_file()


def test_all_tests_are_filled_only_on_demand_and_said(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    said: list[str] = []
    recipes = [tiny(name="one", backbone="none", stages=[]), tiny(name="two", backbone="none", stages=[])]
    table = compare_recipes(dirty, recipes, tmp_path / "all", all_tests=True, say=said.append)
    assert table["test_accuracy"].notna().all()
    assert any("may no longer be used to choose" in sentence for sentence in said)


def test_a_comparison_goes_on_where_it_stopped(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    recipes = [tiny(name="one", backbone="none", stages=[])]
    compare_recipes(dirty, recipes, tmp_path / "all", say=quiet)
    said: list[str] = []
    more = [*recipes, tiny(name="two", backbone="none", stages=[])]
    table = compare_recipes(dirty, more, tmp_path / "all", resume=True, say=said.append)
    assert table["recipe"].tolist() == ["one", "two"]
    assert sum("finished already" in sentence for sentence in said) == 1


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, dirty: Cells, tiny: Tiny) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("seeded") / "all"
    recipes = [tiny(name="nothing", backbone="none", stages=[]), tiny()]
    return out, compare_recipes(dirty, recipes, out, seeds=(3, 4), say=quiet)


def test_seeds_see_the_same_rows_and_start_from_other_weights(seeded: tuple[Path, pd.DataFrame]) -> None:
    out, _ = seeded
    runs = [Run(out / f"tiny-seed-{seed}") for seed in (3, 4)]
    splits = [pd.read_csv(run.split) for run in runs]
    pd.testing.assert_frame_equal(splits[0], splits[1])
    configs = [yaml.safe_load(run.config.read_text()) for run in runs]
    assert [(config["seed"], config["split_seed"]) for config in configs] == [(3, 3), (4, 3)]
    losses = [pd.read_csv(run.history)["train_loss"].iloc[0] for run in runs]
    assert losses[0] != losses[1]


def test_the_leaderboard_has_mean_and_deviation_over_seeds(seeded: tuple[Path, pd.DataFrame]) -> None:
    out, table = seeded
    runs = pd.read_csv(out / "runs.csv")
    assert runs["folder"].tolist() == ["nothing-seed-3", "tiny-seed-3", "nothing-seed-4", "tiny-seed-4"]
    for measure in ("validation_accuracy", "validation_stress_score"):
        own = runs[runs["recipe"] == "tiny"][measure].to_numpy()
        row = table[table["recipe"] == "tiny"].iloc[0]
        assert row[measure] == pytest.approx(own.mean())
        assert row[f"{measure}_std"] == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert (table["seeds"] == 2).all()
    assert (table["milliseconds_a_picture"] > 0).all()
    with Image.open(out / "leaderboard.png") as image:
        assert " ± " in image.info["Description"]


def test_of_the_chosen_recipe_the_best_seed_alone_is_tested(seeded: tuple[Path, pd.DataFrame]) -> None:
    out, table = seeded
    runs = pd.read_csv(out / "runs.csv")
    chosen = table.sort_values("validation_stress_score")["recipe"].iloc[-1]
    assert table.loc[table["chosen"], "recipe"].item() == chosen
    own = runs[runs["recipe"] == chosen].sort_values(["validation_stress_score", "validation_balanced_accuracy"])
    assert runs.loc[runs["test_accuracy"].notna(), "folder"].tolist() == [own["folder"].iloc[-1]]
    row = table[table["chosen"]].iloc[0]
    assert row["tested_seed"] == own["seed"].iloc[-1]
    assert row["test_accuracy"] == runs["test_accuracy"].dropna().item()
    assert pd.isna(row["test_accuracy_std"])


def test_the_run_of_a_seed_is_repeated_by_its_two_seeds(
    seeded: tuple[Path, pd.DataFrame], dirty: Cells, tiny: Tiny, tmp_path: Path
) -> None:
    out, _ = seeded
    again = train(dirty, tiny(), tmp_path / "again", seed=4, split_seed=3, score_test=False, say=quiet)
    known = Run(out / "tiny-seed-4")
    assert (again.model / "weights.safetensors").read_bytes() == (known.model / "weights.safetensors").read_bytes()
    with pytest.raises(InputError, match="was begun with another split seed"):
        train(dirty, tiny(), tmp_path / "again", seed=4, resume=True, say=quiet)


def test_an_interrupted_comparison_goes_on_and_finished_runs_are_taken_as_they_are(
    seeded: tuple[Path, pd.DataFrame], dirty: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the first epoch of the last run: only its second epoch is trained, and the table is the same."""
    recipes = [tiny(name="nothing", backbone="none", stages=[]), tiny()]
    save = checkpoint.save
    saved: list[Path] = []
    dying = True

    def save_and_die(folder: Path, *args: Any) -> None:
        save(folder, *args)
        saved.append(folder)
        if dying and folder.parent.name == "tiny-seed-4":
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        compare_recipes(dirty, recipes, tmp_path / "all", seeds=(3, 4), say=quiet)
    dying = False
    saved.clear()
    said: list[str] = []
    table = compare_recipes(dirty, recipes, tmp_path / "all", seeds=(3, 4), resume=True, say=said.append)
    assert [folder.parent.name for folder in saved] == ["tiny-seed-4"]
    assert "going on after epoch 1" in said
    assert sum("is scored already" in sentence for sentence in said) == 3
    timeless = [column for column in table if column != "milliseconds_a_picture"]
    pd.testing.assert_frame_equal(table[timeless], seeded[1][timeless])


def test_more_seeds_join_a_comparison_of_one(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(backbone="none", stages=[])
    compare_recipes(dirty, [recipe], tmp_path / "all", seeds=(5,), say=quiet)
    said: list[str] = []
    table = compare_recipes(dirty, [recipe], tmp_path / "all", seeds=(5, 6), resume=True, say=said.append)
    assert pd.read_csv(tmp_path / "all" / "runs.csv")["folder"].tolist() == ["tiny", "tiny-seed-6"]
    assert table["seeds"].item() == 2
    assert sum("finished already" in sentence for sentence in said) == 1


def test_a_seed_that_is_named_twice_and_a_misspelt_backbone_are_refused_first(
    dirty: Cells, tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="seed 1 is named more than once"):
        compare_recipes(dirty, [tiny()], tmp_path / "all", seeds=(1, 2, 1), say=quiet)
    with pytest.raises(InputError, match="timm has no backbone 'test_resnot'"):
        compare_recipes(dirty, [tiny(), tiny(name="b", backbone="test_resnot")], tmp_path / "all", say=quiet)
    assert not (tmp_path / "all").exists()
