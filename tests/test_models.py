"""The models that come with the package are found by name and name real cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hemascope.data import Cells, load
from hemascope.evaluate import evaluate
from hemascope.models import model_folder, shipped_models
from hemascope.predict import predict
from hemascope.recipe import load_recipe
from hemascope.run import Run, recipe_of
from hemascope.runtime import load_model, training_hashes


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_is_a_run_of_the_recipe_of_its_name(name: str) -> None:
    recipe, shipped = recipe_of(Run(model_folder(name))), load_recipe(name)
    assert recipe.model_copy(update={"select_by": shipped.select_by}) == shipped
    assert len(training_hashes(name) or ()) > 10_000
    assert len(load_model(name).class_names) == 8


def test_small_comes_with_the_package_and_answers_without_being_named_by_a_path(drawn: Cells) -> None:
    assert "small" in shipped_models()
    table = predict("small", drawn.take(np.arange(5)))
    assert table[list(load_model("small").class_names)].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)


def test_the_file_of_a_shipped_model_is_one_like_any_other() -> None:
    file = load_model("small").path
    assert load_model(file).path == load_model(file.with_suffix("")).path == file


def test_what_stands_on_the_disk_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_folder("small") != Path("small")
    (tmp_path / "small").mkdir()
    assert model_folder("small") == Path("small")


def test_small_names_real_cells_that_it_has_not_seen(challenge: Path) -> None:
    cells = load(challenge / "public_test.npz")
    found = evaluate("small", cells.take(np.arange(0, len(cells), 4)))
    assert found.scores["accuracy"] > 0.97
