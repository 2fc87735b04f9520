from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hemascope.cli import app
from hemascope.corrupt import corrupt
from hemascope.data import Cells, save_npz
from hemascope.errors import InputError
from hemascope.evaluate import evaluate
from hemascope.judgement import judge_unlabelled, known
from hemascope.preparation.square import at_scale
from hemascope.run import Run
from hemascope.runtime import answers_of, load_model
from hemascope.synthetic import draw_cells

runner = CliRunner()


@pytest.fixture(scope="module")
def fresh() -> Cells:
    return draw_cells(240, seed=21, size=32)


def test_evaluation_says_how_far_to_believe(finished: Run, fresh: Cells) -> None:
    found = evaluate(finished.folder, fresh)
    told = found.scores["trust"]
    assert told["rows"] == 240
    assert 0 <= told["area_under_risk_coverage"] <= 1
    assert sum(row["rows"] for row in told["reliability"]) == 240
    assert all(line["rows"] >= 30 for line in told["slices"])
    json.dumps(found.scores, allow_nan=False)
    assert found.believe


def test_pictures_that_trained_the_model_are_found_by_the_file_alone(
    finished: Run, dirty: Cells, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.onnx"
    alone.write_bytes((finished.model / "model.onnx").read_bytes())
    made = known(load_model(alone), dirty)
    assert made is not None
    assert made.any()
    found = evaluate(alone, dirty)
    assert found.scores["left_out"]["count"] == int(made.sum())
    assert any(f"{int(made.sum())} of these 400 pictures went into this model" in one for one in found.warnings)


def test_degraded_pictures_differ_from_training(finished: Run, fresh: Cells) -> None:
    model = load_model(finished.folder)
    assert model.trust is not None
    images = corrupt(np.asarray(fresh.images[:]), "brightness_down", 5, seed=1, rows=np.arange(240))
    spoilt = Cells(images, fresh.labels, fresh.class_names, fresh.ids)
    told = judge_unlabelled(model.trust, answers_of(model, spoilt), spoilt)
    assert any("differ from those of training" in sentence for sentence in told.sentences)
    assert {"background_lightness", "brightness"} & {line["name"] for line in told.facts["drift"]}
    usual = judge_unlabelled(model.trust, answers_of(model, fresh), fresh)
    assert len(usual.facts["drift"]) < len(told.facts["drift"])


def test_the_command_speaks_of_pictures_without_labels(finished: Run, fresh: Cells, tmp_path: Path) -> None:
    data = tmp_path / "pictures.npz"
    save_npz(Cells(fresh.images, np.full(240, -1), fresh.class_names, fresh.ids), data)
    command = ["evaluate", str(finished.folder), str(data), "--spot-check", "60"]
    first = runner.invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert first.exit_code == 0
    assert "label these 60 pictures" in first.output
    table = tmp_path / "out" / "spot-check.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line + "monocyte" for line in lines[1:])]))
    filled = runner.invoke(
        app, ["evaluate", str(finished.folder), str(data), "--labels", str(table), "--out", str(tmp_path / "checked")]
    )
    assert "spot check: " in filled.output
    assert "A person has named" in (tmp_path / "checked" / "report.html").read_text()
    refused = runner.invoke(app, ["evaluate", str(finished.folder), str(data), "--stress"])
    assert isinstance(refused.exception, InputError)
    assert "needs labelled pictures" in str(refused.exception)
    homeless = runner.invoke(app, command)
    assert isinstance(homeless.exception, InputError)
    assert "needs --out DIR" in str(homeless.exception)


def test_a_weak_model_holds_no_picture_against_the_class_it_gives_it(finished: Run, fresh: Cells) -> None:
    model = load_model(finished.folder)
    assert model.trust is not None
    weak = replace(model.trust, correct=np.arange(100) < 60)
    judged = judge_unlabelled(weak, answers_of(model, fresh), fresh)
    assert not [line for line in judged.facts["drift"] if line["name"] in ("cell_diameter", "scale?")]


def test_cells_of_another_scale_are_told(finished: Run, fresh: Cells) -> None:
    model = load_model(finished.folder)
    assert model.trust is not None
    trust = replace(model.trust, correct=np.ones(100, bool))
    for field, told in ((1.0, False), (3.0, True)):
        cells = replace(fresh, images=at_scale(np.asarray(fresh.images[:]), field))
        answers = answers_of(model, cells)._replace(probabilities=np.eye(8, dtype=np.float32)[fresh.labels])
        judged = judge_unlabelled(trust, answers, cells)
        assert any("(scale?), of usual" in sentence for sentence in judged.sentences) == told
        assert ("scale?" in [line["name"] for line in judged.facts["drift"]]) == told
        json.dumps(judged.facts, allow_nan=False)
