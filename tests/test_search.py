from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from hemascope import search
from hemascope.data import Cells
from hemascope.recipe import Recipe
from hemascope.run import Run
from hemascope.search import SHARES, compare_recipes, learning_curve, suffices
from hemascope.stress import seed_for
from hemascope.synthetic import draw_cells

Tiny = Callable[..., Recipe]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, dirty: Cells, tiny: Tiny) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("compared") / "all"
    recipes = [tiny(name="nothing", backbone="none", stages=[]), tiny()]
    further = draw_cells(40, seed=11, size=32)
    return out, compare_recipes(dirty, recipes, out, test=further, say=lambda sentence: None)


def test_only_the_recipe_with_the_best_stress_score_on_validation_is_scored_on_test(
    compared: tuple[Path, pd.DataFrame],
) -> None:
    out, table = compared
    chosen = table[table["chosen"]]
    assert len(chosen) == 1
    assert chosen["validation_stress_score"].item() == table["validation_stress_score"].max()
    others = table[~table["chosen"]]
    scored = [column for column in map(str, table) if column.startswith(("test_", "accuracy on"))]
    assert len(scored) == 5
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

    monkeypatch.setattr(search, "fit", lambda *args: None)
    monkeypatch.setattr(search, "score_run", scored)
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
    assert (written["weights"] == "random").all()
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
    compare_recipes(dirty, recipes, tmp_path / "all", say=lambda sentence: None)
    said: list[str] = []
    more = [*recipes, tiny(name="two", backbone="none", stages=[])]
    table = compare_recipes(dirty, more, tmp_path / "all", resume=True, say=said.append)
    assert table["recipe"].tolist() == ["one", "two"]
    assert sum("finished already" in sentence for sentence in said) == 1


def test_the_learning_curve_uses_growing_parts_of_the_same_rows(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    table = learning_curve(dirty, tiny(backbone="none", stages=[]), tmp_path / "curve", say=lambda sentence: None)
    assert table["share"].tolist() == list(SHARES)
    assert table["rows"].is_monotonic_increasing
    splits = [pd.read_csv(tmp_path / "curve" / f"share-{round(share * 100):03d}" / "split.csv") for share in SHARES]
    training = [set(split.loc[split["split"] == "train", "id"]) for split in splits]
    assert all(small < large for small, large in itertools.pairwise(training))
    held = [set(split.loc[split["split"] == "validation", "id"]) for split in splits]
    assert all(part == held[0] for part in held)
    assert (tmp_path / "curve" / "learning_curve.png").is_file()


@pytest.mark.parametrize(
    ("half", "whole", "sentence"),
    [(0.95, 0.953, "would bring little"), (0.94, 0.95, "within what chance"), (0.80, 0.90, "do not suffice yet")],
)
def test_whether_the_data_suffice(half: float, whole: float, sentence: str) -> None:
    scores = [0.5, 0.7, half, whole]
    table = pd.DataFrame(
        {
            "validation_accuracy": scores,
            "validation_accuracy_low": [score - 0.015 for score in scores],
            "validation_accuracy_high": [score + 0.015 for score in scores],
        }
    )
    assert sentence in suffices(table)
