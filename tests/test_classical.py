from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pandas as pd
import pytest
from scipy.special import log_expit

from hemascope import classical_export
from hemascope.classical import KINDS, Fitted, comparisons, describe, fit_classical, fitted_sharpness
from hemascope.classical_export import NEVER, TOLERANCE, export_classical
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.pipeline import train
from hemascope.recipe import Classical, Recipe, load_recipe, recipe_from
from hemascope.run import Run
from hemascope.runtime import Model, load_model
from hemascope.search import compare_recipes
from hemascope.split import split
from hemascope.synthetic import draw_cells

Tiny = Callable[..., Recipe]


def quiet(sentence: str) -> None:
    pass


def recipe(kind: str, **fields: object) -> Recipe:
    return recipe_from({"name": kind, "backbone": f"classical/{kind}", **fields})


@pytest.fixture(scope="module")
def divided() -> Cells:
    return split(draw_cells(200, seed=5, size=32), seed=0)


@pytest.fixture(scope="module")
def neighbours(divided: Cells) -> Fitted:
    return fit_classical(divided, recipe("k-nn"), say=quiet)


def held_out(cells: Cells) -> Cells:
    return cells.take(np.isin(cells.split, ("calibration", "test")))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [name.partition("/")[2] for name in KINDS])
def test_every_kind_learns_and_its_file_gives_what_it_gives(kind: str, divided: Cells, tmp_path: Path) -> None:
    fitted = fit_classical(divided, recipe(kind), say=quiet)
    path, others = tmp_path / "model.onnx", held_out(divided)
    images = np.asarray(others.images[:])
    difference, numbers, trust = export_classical(fitted.model, path, divided, fitted.held_out, {"recipe": kind})
    assert difference <= TOLERANCE
    assert numbers > 100
    model = Model(path)
    assert model.class_names == divided.class_names
    assert model.metadata["recipe"] == kind
    assert "not a medical device" in model.metadata["purpose"]
    probabilities = model.predict(images)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    told = trust.calibration.probabilities(np.log(np.maximum(fitted.model.probabilities(describe(others)), NEVER)))
    np.testing.assert_allclose(probabilities, told, atol=TOLERANCE)
    assert (probabilities.argmax(1) == others.labels).mean() > 0.6
    assert set(fitted.chosen) == set(KINDS[f"classical/{kind}"].grid[0])
    assert len(fitted.tried) == len(KINDS[f"classical/{kind}"].grid)


def test_the_names_in_recipes_are_the_kinds_there_are() -> None:
    assert set(KINDS) == set(get_args(Classical))


@pytest.mark.parametrize("kind", ["svm", "gradient-boosting", "k-nn"])
def test_two_classes_and_one_that_training_lacks(kind: str, tmp_path: Path) -> None:
    cells = split(draw_cells(480, seed=5, size=32), seed=0)
    some = cells.take(cells.labels < 3).with_classes(cells.class_names[:3])
    lacking = some.take((some.labels != 1) | (some.split == "validation"))
    fitted = fit_classical(lacking, recipe(kind), say=quiet)
    images = np.asarray(lacking.in_split("test").images[:])
    export_classical(fitted.model, tmp_path / "model.onnx", lacking, fitted.held_out, {})
    probabilities = Model(tmp_path / "model.onnx").predict(images)
    assert probabilities.shape == (len(images), 3)
    assert (probabilities[:, 1] < 1e-30).all()
    assert (probabilities.argmax(1) == lacking.in_split("test").labels).mean() > 0.7


def test_one_class_in_training_is_refused(divided: Cells) -> None:
    with pytest.raises(InputError, match="training rows show one class only"):
        fit_classical(divided.take((divided.labels == 0) | (divided.split != "train")), recipe("svm"), say=quiet)


def test_a_seed_decides_the_forest(divided: Cells) -> None:
    features = describe(held_out(divided))
    first, again, other = (
        fit_classical(divided, recipe("random-forest"), seed, 0, quiet).model.probabilities(features)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_time_that_is_used_up_ends_the_search_for_settings(divided: Cells) -> None:
    said: list[str] = []
    fitted = fit_classical(divided, recipe("svm"), max_minutes=0, say=said.append)
    assert len(fitted.tried) == 1
    assert any("the time given was used up" in note for note in fitted.notes)
    assert any("the time given was used up" in sentence for sentence in said)


def test_augmented_copies_are_learnt_beside_the_pictures(divided: Cells, neighbours: Fitted) -> None:
    augmented = recipe("k-nn", augmentation=[{"name": "jitter"}], copies=2)
    fitted = fit_classical(divided, augmented, say=quiet)
    rows = len(neighbours.model.estimator._fit_X)
    assert len(fitted.model.estimator._fit_X) == 3 * rows
    assert np.array_equal(fitted.held_out, neighbours.held_out)
    copies = fitted.model.estimator._fit_X[rows : 2 * rows], fitted.model.estimator._fit_X[2 * rows :]
    assert not np.allclose(*copies)


def test_the_sharpness_makes_the_labels_most_likely() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 4000)
    odds = rng.normal(size=(4000, 3))
    drawn = (odds + rng.gumbel(size=odds.shape)).argmax(1)
    assert fitted_sharpness(odds / 4, np.arange(3), drawn) == pytest.approx(4, rel=0.1)
    assert fitted_sharpness(odds, np.arange(3), labels) < 0.1
    assert fitted_sharpness(odds[:0], np.arange(3), labels[:0]) == 1


def test_both_sides_of_a_margin_are_compared() -> None:
    sides, owners = comparisons(2)
    assert sides.tolist() == [[-1, 1]]
    assert owners.tolist() == [[1, 0], [0, 1]]
    sides, owners = comparisons(4)
    # Class 2 wins against 0, 1 and 3, by however little; class 0 wins against the others, by however much.
    margins = np.array([50.0, -4.0, 50.0, -4.0, 50.0, 4.0])
    assert ((margins @ sides > 0) @ owners).tolist() == [2, 1, 3, 0]
    assert (log_expit(margins @ sides) @ owners).argmax() == 2
    assert (margins @ sides @ owners).argmax() == 0


def test_a_file_that_differs_is_not_kept(
    divided: Cells, neighbours: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classical_export, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="differs from the model"):
        export_classical(neighbours.model, tmp_path / "model.onnx", divided, neighbours.held_out, {})
    assert list(tmp_path.iterdir()) == []


def test_features_that_this_version_lacks_are_refused(divided: Cells, neighbours: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_classical(neighbours.model, path, divided, neighbours.held_out, {})
    file = onnx.load(path)
    next(entry for entry in file.metadata_props if entry.key == "features").value = "cell-99"
    onnx.save(file, path)
    with pytest.raises(InputError, match="wants the features 'cell-99'"):
        Model(path)


@pytest.fixture(scope="module")
def few() -> Cells:
    return draw_cells(160, seed=6, size=32, dirty=True)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, few: Cells, tiny: Tiny) -> tuple[Path, pd.DataFrame]:
    """A leaderboard of a network and of a classical model."""
    out = tmp_path_factory.mktemp("board") / "all"
    return out, compare_recipes(few, [tiny(), load_recipe("classical")], out, say=quiet)


def test_networks_and_classical_models_stand_on_one_leaderboard(board: tuple[Path, pd.DataFrame]) -> None:
    out, table = board
    assert table["recipe"].tolist() == ["tiny", "classical"]
    assert table["weights"].tolist() == ["random", "none"]
    assert (table["parameters"] > 1000).all()
    assert table["chosen"].sum() == 1
    assert (out / "leaderboard.png").is_file()


def test_a_run_folder_says_how_the_model_was_chosen(board: tuple[Path, pd.DataFrame]) -> None:
    run = Run(board[0] / "classical")
    assert {path.name for path in run.model.iterdir()} == {"model.onnx", "model.json", "neighbours.npz"}
    described = json.loads((run.model / "model.json").read_text())
    assert described["settings"]["C"] in [row["C"] for row in described["tried"]]
    best = max(described["tried"], key=lambda row: row["validation_balanced_accuracy"])
    metrics = json.loads(run.metrics.read_text())
    assert metrics["validation"]["balanced_accuracy"] == pytest.approx(best["validation_balanced_accuracy"])
    assert any("Chosen by validation" in note for note in metrics["notes"])
    page = run.report.read_text(encoding="utf-8")
    assert "hand-made features" in page
    assert not [path for path in run.folder.rglob("*") if path.suffix in (".pkl", ".joblib", ".pickle")]


def test_resume_of_a_finished_run_trains_no_more(board: tuple[Path, pd.DataFrame], few: Cells) -> None:
    run = Run(board[0] / "classical")
    before = (run.model / "model.onnx").read_bytes()
    said: list[str] = []
    train(few, load_recipe("classical"), run.folder, resume=True, say=said.append)
    assert any("finished already" in sentence for sentence in said)
    assert (run.model / "model.onnx").read_bytes() == before
    with pytest.raises(InputError, match="was begun with another recipe"):
        train(few, recipe("k-nn"), run.folder, resume=True, say=quiet)


def test_pictures_of_another_size_are_resized(board: tuple[Path, pd.DataFrame]) -> None:
    model = load_model(board[0] / "classical")
    assert model.image_size == 96
    images = np.asarray(draw_cells(8, seed=2, size=48).images)
    assert model.predict(images).shape == (8, 8)
    assert model.predict(images[:0]).shape == (0, 8)


def test_a_classical_model_predicts_without_torch(board: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, hemascope\n"
        "from hemascope.synthetic import draw_cells\n"
        f"table = hemascope.predict({str(board[0] / 'classical')!r}, draw_cells(8, seed=3, size=32))\n"
        "assert len(table) == 8 and np.isfinite(table['confidence']).all()\n"
        "assert not {'torch', 'sklearn', 'skl2onnx', 'onnx'} & set(sys.modules), 'more was imported than is needed'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_model_is_another_with_other_class_weights(divided: Cells) -> None:
    uneven = divided.take((divided.labels > 0) | (np.arange(len(divided)) % 3 == 0))
    features = describe(held_out(divided))
    balanced, plain = (
        fit_classical(uneven, recipe("svm", class_weights=weights), say=quiet).model.probabilities(features)
        for weights in ("balanced", "none")
    )
    assert not np.allclose(balanced, plain)
    assert balanced[:, 0].mean() > plain[:, 0].mean()


def test_a_standardised_feature_that_never_varied_says_nothing(neighbours: Fitted, divided: Cells) -> None:
    features = describe(held_out(divided))
    flat = np.flatnonzero(neighbours.model.standardise.inverse == 0)
    assert len(flat)
    odd = features.copy()
    odd[:, flat] += 100
    assert np.array_equal(neighbours.model.probabilities(odd), neighbours.model.probabilities(features))
    sharper = replace(neighbours.model, sharpness=2 * neighbours.model.sharpness)
    assert sharper.probabilities(features).max(1).mean() > neighbours.model.probabilities(features).max(1).mean()
