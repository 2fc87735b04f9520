"""What the commands do and say, from the words that a user types to the files that they leave."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from hemascope.data import CLASS_NAMES, Cells, load, save_npz
from hemascope.novelty import novelty
from hemascope.recipe import Recipe, load_recipe
from hemascope.run import Run
from hemascope.synthetic import draw_cells

Tiny = Callable[..., Recipe]
Command = Callable[..., int]


def test_the_main_job_from_a_sample_to_predictions(
    command: Command, recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("sample", "cells.npz", "--count", "120", "--dirty") == 0
    assert command("train", "cells.npz", "--recipe", recipe_file, "--out", "run", "--epochs", "1") == 0
    told = capsys.readouterr().out
    assert "removed" in told
    assert "test accuracy" in told
    assert "weakest classes" in told
    assert command("evaluate", "run", "cells.npz", "--out", "scores") == 0
    told = capsys.readouterr().out
    assert "went into this model" in told
    assert "stand under several labels" in told
    assert "without them the accuracy is " in told
    assert Path("scores/metrics.json").is_file()
    page = Path("scores/report.html").read_text(encoding="utf-8")
    assert "run on cells" in page
    assert "model run" in page
    assert "At your count" not in page
    assert 'id="training"' not in page
    assert command("predict", "cells.npz", "--model", "run") == 0
    table = pd.read_csv("predictions.csv")
    assert len(table) == len(load("cells.npz"))
    assert set(table["label"]) <= set(CLASS_NAMES)
    assert command("predict", "cells.npz", "--model", "run", "--out", "predictions.parquet") == 0


def test_two_runs_are_compared_on_the_same_pictures(
    command: Command, finished: Run, drawn: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    save_npz(drawn, "drawn.npz")
    assert command("evaluate", finished.folder, "drawn.npz", "--against", finished.folder / "model" / "model.onnx") == 0
    assert "McNemar" in capsys.readouterr().out


def test_the_stress_test_is_printed_and_written(
    command: Command, finished: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("hemascope.stress")
    monkeypatch.setattr(module, "novelty", functools.partial(novelty, pictures=8, draws=24, own_draws=1))
    save_npz(draw_cells(24, seed=31, size=32), "fresh.npz")
    assert command("evaluate", finished.folder, "fresh.npz", "--stress", "--out", "stressed") == 0
    told = capsys.readouterr().out
    for said in ("MedMNIST-C", "worst family", "held-out families", "mix hidden-unseen", "stress score"):
        assert said in told
    names = {path.name for path in Path("stressed").iterdir()}
    assert names >= {"metrics.json", "predictions.parquet", "stress.json", "stress.csv", "stress.html", "figures"}
    assert json.loads(Path("stressed/stress.json").read_text())["novelty"]["threshold"] > 0
    stressed = Path("stressed/stress.html").read_text(encoding="utf-8")
    assert "it does not forecast your hidden test" in stressed
    assert f"model {finished.folder}, recipe tiny" in stressed
    assert "only 24 pictures were stressed" in told
    assert command("evaluate", finished.folder, "fresh.npz", "--stress") == 0
    assert capsys.readouterr().out.endswith(
        "nothing was written: --out DIR keeps the tables and a page that shows them\n"
    )
    assert command("train", "fresh.npz", "--recipe", "quick", "--out", "x", "--preview", "--stress") == 2
    assert "hemascope: --stress needs a score on the test rows" in capsys.readouterr().err


def test_one_picture_is_spoken_of_as_one(
    command: Command, finished: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_npz(draw_cells(8, seed=98).take(np.arange(1)), "one.npz")
    model = finished.folder
    assert command("evaluate", model, "one.npz", "--against", model, "--out", "scored") == 0
    assert command("evaluate", model, "one.npz", "--spot-check", "1", "--out", "checked") == 0
    assert command("predict", "one.npz", "--model", model, "--explain", "sheets") == 0
    assert command("audit", "one.npz", "--out", "found", "--model", model) == 0
    assert command("train", "one.npz", "--recipe", "quick", "--out", "run") == 2
    assert command("train", "one.npz", "--refit", model, "--out", "run") == 2
    told = capsys.readouterr()
    said = told.out + told.err
    for page in ("scored/report.html", "found/audit.html"):
        said += re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]+>", " ", Path(page).read_text(), flags=re.DOTALL)
    assert "1 picture, 1 class\n" in said
    assert "the one picture is of one class" in said
    assert "differ from those of training: " not in said
    plurals = set(re.findall(r"(?<![\d.,])\b1 (?:of the )?([a-z]+s)\b", said)) - {
        "is",
        "was",
        "has",
        "class",
        "less",
        "pixels",
    }
    assert not plurals
    assert not re.findall(r"[.?!;:,][.;:,]", re.sub(r"\S+/\S+|\.\.\.", "", told.out + told.err))


def test_seeds_are_compared_and_the_table_has_their_deviation(
    command: Command, tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    Path("none.yaml").write_text(yaml.safe_dump(tiny(backbone="none", stages=[]).model_dump(mode="json")))
    save_npz(draw_cells(160, seed=8, size=32), "few.npz")
    assert command("train", "few.npz", "--recipe", "none.yaml", "--out", "all", "--seed", "2", "--seeds", "2") == 0
    told = capsys.readouterr().out
    assert "seeds 2, 3 decide weights, draws and order; all see the split of seed 2" in told
    assert re.search(r"0\.\d{3} ± 0\.\d{3}", told)
    assert command("train", "few.npz", "--recipe", "none.yaml", "--out", "x", "--seeds", "2", "--preview") == 2
    assert command("train", "few.npz", "--recipe", "none.yaml", "--out", "x", "--seed", "1,2", "--seeds", "2") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--search", "0"), "expected the minutes that it may take"),
        (("--search", "5", "--seeds", "2"), "--search takes one recipe and one seed; found 1 and 2"),
        (("--search", "5", "--all-tests"), "--search and --all-tests exclude each other"),
    ],
)
def test_a_search_refuses_what_it_does_not_do(
    command: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert command("train", "none.npz", "--recipe", "quick", "--out", "x", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "words",
    [
        "predict cells.npz --out -",
        "predict cells.npz --explain -",
        "evaluate small cells.npz --out -",
        "audit cells.npz --out -",
        "audit cells.npz --apply -",
        "train cells.npz --recipe baseline --out -",
        "train cells.npz --recipe baseline --out - --preview",
        "train cells.npz --refit small --out -",
        "review cells.npz --decisions -",
        "download bloodmnist -",
    ],
)
def test_no_command_makes_a_place_named_after_standard_output(
    command: Command, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    save_npz(draw_cells(16, seed=3, size=32), "cells.npz")
    assert command(*words.split()) == 2
    assert capsys.readouterr().err.endswith(
        "hemascope: -: stands for the standard output, expected a place on the disk; name a file or a folder.\n"
    )
    assert [path.name for path in Path().iterdir()] == ["cells.npz"]


def test_preview_draws_and_trains_nothing(command: Command, recipe_file: Path, drawn: Cells) -> None:
    save_npz(drawn, "drawn.npz")
    assert command("train", "drawn.npz", "--recipe", recipe_file, "--out", "look", "--preview") == 0
    assert [path.name for path in Path("look").iterdir()] == ["preview.png"]


def test_recipes_are_listed_printed_and_explained(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("recipes") == 0
    assert "densenet121-robust" in capsys.readouterr().out
    assert command("recipes", "quick") == 0
    Path("own.yaml").write_text(capsys.readouterr().out)
    assert load_recipe("own.yaml") == load_recipe("quick")
    assert command("recipes", "--fields") == 0
    assert "select_by" in capsys.readouterr().out


def test_doctor_names_the_installation_and_what_to_type(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hemascope.doctor.TRAIN", ("torch", "a-package-that-is-not-there"))
    assert command("doctor") == 0
    told = capsys.readouterr().out
    assert "pip install '.[train]' in the folder of hemascope" in told
    monkeypatch.undo()
    assert command("doctor") == 0
    told = capsys.readouterr().out
    assert "torch" in told
    assert "small" in told


def test_help_is_quick_and_version_is_one_line() -> None:
    start = time.perf_counter()
    cpu = os.times()
    found = subprocess.run([sys.executable, "-m", "hemascope", "--help"], check=True, capture_output=True, text=True)
    used = os.times().children_user + os.times().children_system - cpu.children_user - cpu.children_system
    assert "predict" in found.stdout
    # On a busy machine the clock says little: what the process itself used must stay well under half a second.
    assert min(used, time.perf_counter() - start) < 0.5


def test_a_model_judges_labels(command: Command, finished: Run, drawn: Cells) -> None:
    save_npz(drawn, "drawn.npz")
    assert command("audit", "drawn.npz", "--model", finished.folder, "--out", "other") == 0
    assert pd.read_csv("other/findings.csv")["label_suspect_score"].nunique() > 100
