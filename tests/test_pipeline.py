from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from hemascope.data import SPLITS, Cells, concatenate
from hemascope.ensemble import load_network
from hemascope.errors import InputError
from hemascope.pipeline import train
from hemascope.recipe import Recipe
from hemascope.run import Run
from hemascope.runtime import load_model
from hemascope.stress import seed_for
from hemascope.synthetic import planted

Tiny = Callable[..., Recipe]


def quiet(sentence: str) -> None:
    pass


def test_the_run_folder_holds_all_that_is_needed_to_repeat_it(finished: Run) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {
        "config.yaml", "environment.json", "removed.csv", "split.csv", "history.csv", "metrics.json",
        "predictions.parquet", "figures", "model", "report.html", "MODEL_CARD.md",
    }  # fmt: skip
    assert "checkpoint" not in names
    assert {path.name for path in finished.model.iterdir()} == {
        "model.onnx", "model.json", "weights.safetensors", "neighbours.npz",
    }  # fmt: skip
    config = yaml.safe_load(finished.config.read_text())
    assert config["seed"] == 0
    assert Recipe.model_validate(config["recipe"]).name == "tiny"
    assert json.loads(finished.environment.read_text())["packages"]["torch"]
    assert not [path for path in finished.folder.rglob("*") if path.name.startswith(".")]


def test_tables_account_for_every_row(finished: Run, dirty: Cells) -> None:
    truth = planted(400, seed=6)
    removed, split = pd.read_csv(finished.removed), pd.read_csv(finished.split)
    assert set(removed["id"]) == set(dirty.ids[truth.non_cells | truth.copies])
    assert sorted([*removed["id"], *split["id"]]) == sorted(dirty.ids)
    assert set(split["split"]) == set(SPLITS)
    predictions = pd.read_parquet(finished.predictions)
    assert set(predictions["id"]) == set(split.loc[split["split"] == "test", "id"])


def test_metrics_say_what_was_scored(finished: Run) -> None:
    metrics = json.loads(finished.metrics.read_text())
    assert metrics["weights"] == "random"
    assert metrics["parameters"] > 10_000
    assert json.loads((finished.model / "model.json").read_text())["trained_in"] == "float32"
    for part in ("validation", "test"):
        low, high = metrics[part]["accuracy_interval"]
        assert low <= metrics[part]["accuracy"] <= high
    assert metrics["files"]["further.npz"]["n"] == 64
    for part in ("validation", "test"):
        stress = metrics["stress"][part]
        assert stress["n"] == metrics[part]["n"]
        plain = np.mean([mix["accuracy"] for mix in stress["mixes"].values()])
        assert stress["stress_score"] == pytest.approx(plain, abs=0.1)


def validation_pictures(run: Run, cells: Cells) -> Cells:
    split = pd.read_csv(run.split)
    return cells.take(np.isin(cells.ids, split.loc[split["split"] == "validation", "id"]))


def of_network(run: Run, cells: Cells) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logits and the embeddings that the network of a run gives."""
    with torch.inference_mode():
        pictures = torch.from_numpy(np.asarray(cells.images[:])).permute(0, 3, 1, 2)
        logits, embedding = load_network(run)[0].described(pictures)
    return logits.numpy(), embedding.numpy()


def test_a_stage_tells_the_accuracy_of_the_network_before_it_is_calibrated(finished: Run, dirty: Cells) -> None:
    cells = validation_pictures(finished, dirty)
    right = (of_network(finished, cells)[0].argmax(1) == cells.labels).mean()
    assert json.loads(finished.metrics.read_text())["stages"][0]["validation_accuracy"] == pytest.approx(right)


def test_a_run_ended_in_a_stage_of_smaller_pictures_answers_as_it_did_there(
    dirty: Cells, tiny: Tiny, tmp_path: Path
) -> None:
    stages = [
        {"name": "small", "epochs": 3, "learning_rate": 0.003, "image_size": 16},
        {"name": "whole", "epochs": 1, "learning_rate": 0.003},
    ]
    run = train(dirty, tiny(stages=stages), tmp_path / "run", max_minutes=1e-6, say=quiet)
    assert json.loads((run.model / "model.json").read_text(encoding="utf-8"))["image_sizes"] == [16]
    assert load_network(run)[0].image_size == 16
    assert "- Side of the pictures: 16 pixels\n" in run.card.read_text(encoding="utf-8")
    cells = validation_pictures(run, dirty)
    logits, embedding = of_network(run, cells)
    told = json.loads(run.metrics.read_text())["stages"][0]["validation_accuracy"]
    assert told == pytest.approx((logits.argmax(1) == cells.labels).mean())
    # The file too, which takes pictures of any size.
    answers = load_model(run.folder).answers(np.asarray(cells.images[:]))
    assert np.abs(answers.embedding - embedding).max() < 1e-3


def test_every_figure_is_a_picture(finished: Run) -> None:
    figures = {path.name for path in finished.figures.iterdir()}
    # A class without a right answer, and a run without a mistake, have no heat map there.
    assert figures - {"heat_maps_right.png", "heat_maps_wrong.png"} == {
        "augmentation.png", "cells.png", "class_distribution.png", "confusion_matrix.png", "mean_pixel_histogram.png",
        "mistakes.png", "reliability.png", "reliability_by_corruption.png", "training_curves.png",
    }  # fmt: skip
    assert figures & {"heat_maps_right.png", "heat_maps_wrong.png"}
    for path in finished.figures.iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_the_report_says_what_it_is(finished: Run) -> None:
    page = finished.report.read_text(encoding="utf-8")
    assert "not a medical device" in page
    assert f"{json.loads(finished.metrics.read_text())['test']['n']}" in page


def test_an_output_folder_with_something_in_it_is_refused(finished: Run, dirty: Cells, tiny: Tiny) -> None:
    before = finished.metrics.read_bytes()
    with pytest.raises(InputError, match=r"holds a run already; go on with it by --resume"):
        train(dirty, tiny(), finished.folder, say=quiet)
    assert finished.metrics.read_bytes() == before


def test_a_finished_run_has_said_its_doubts_and_resume_trains_no_more(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    said: list[str] = []
    run = train(dirty, tiny(backbone="none", stages=[]), tmp_path / "run", say=said.append)
    (sentence,) = (sentence for sentence in said if sentence.startswith("take care: "))
    assert "patients are unknown" in sentence
    page = run.report.read_text(encoding="utf-8")
    for title in sentence.removeprefix("take care: ").removesuffix(" (the report says why)").split("; "):
        assert title[0].upper() + title[1:] in page
    weights = (run.model / "model.onnx").read_bytes()
    said.clear()
    train(dirty, tiny(backbone="none", stages=[]), tmp_path / "run", resume=True, say=said.append)
    assert any("finished already" in sentence for sentence in said)
    assert (run.model / "model.onnx").read_bytes() == weights
    with pytest.raises(InputError, match="was begun with another seed"):
        train(dirty, tiny(backbone="none", stages=[]), tmp_path / "run", resume=True, seed=1, say=quiet)
    with pytest.raises(InputError, match="was begun with another recipe"):
        train(dirty, tiny(), tmp_path / "run", resume=True, say=quiet)


def test_the_whole_stress_test_of_the_baseline_is_written_and_shown(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(backbone="none", stages=[], augmentation=[])
    run = train(dirty, recipe, tmp_path / "run", stress=True, say=quiet)
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"stress.json", "stress.csv", "stress.parquet"}
    found, metrics = json.loads((run.folder / "stress.json").read_text()), json.loads(run.metrics.read_text())
    assert found["stress_score"] == metrics["stress"]["test"]["stress_score"]
    assert set(metrics["stress"]["test"]) == set(metrics["stress"]["validation"])
    assert metrics["test"]["balanced_accuracy"] == pytest.approx(1 / 8)
    # What a picture counts has nothing to do with its class, but by chance where there are few.
    assert found["stress_score"] == pytest.approx(metrics["test"]["accuracy"], abs=0.05)
    assert found["medmnist_c"]["loss"] == found["held_out"]["loss"] == 0
    assert found["mistakes"] == []
    assert found["seed"] == seed_for("test")
    assert {path.stem for path in run.figures.glob("stress_*")} == {
        "stress_medmnist_c", "stress_held_out", "stress_recall", "stress_mistakes",
    }  # fmt: skip
    page = run.report.read_text(encoding="utf-8")
    for said in ("Held-out families", "hidden-unseen", "rBE", "it does not forecast your hidden test"):
        assert said in page


def test_bad_data_are_refused_before_anything_is_written(drawn: Cells, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one class"):
        train(drawn.take(drawn.labels == 0), tiny(), tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()


def test_leaks_stop_the_job_unless_told_to_go_on(dirty: Cells, drawn: Cells, tiny: Tiny, tmp_path: Path) -> None:
    further = replace(dirty.take(np.array([1, 9, 17, 25, 33, 41])), source="further.npz")
    constant = tiny(backbone="none", stages=[])
    with pytest.raises(InputError, match=r"stand in further\.npz too.*--allow-leaks"):
        train(dirty, constant, tmp_path / "run", test=further, say=quiet)
    assert not (tmp_path / "run").exists()
    both = concatenate([drawn, replace(drawn.take(np.arange(5)), ids=np.arange(5).astype(str))])
    division = np.array(["train"] * len(drawn) + ["test"] * 5)
    with pytest.raises(InputError, match=r"5 pictures of .* stand in two of its splits"):
        train(replace(both, split=division), constant, tmp_path / "run", say=quiet)
    said: list[str] = []
    run = train(replace(both, split=division), constant, tmp_path / "run", allow_leaks=True, say=said.append)
    assert any("left out" in sentence for sentence in said)
    split = pd.read_csv(run.split)
    assert not split["pixel_hash"].duplicated().any()
    assert (split["split"] == "test").sum() == 5
