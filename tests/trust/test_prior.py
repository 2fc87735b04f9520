from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from hemascope.bulk.job import predict_to_table
from hemascope.bulk.journal import parts_folder, write_part
from hemascope.bulk.plan import Part
from hemascope.cli import app
from hemascope.data import Cells, save_npz
from hemascope.errors import InputError
from hemascope.explain.sheets import explain_pictures
from hemascope.predict import predict
from hemascope.run import Run
from hemascope.runtime import Answers, load_model
from hemascope.trust import restated
from hemascope.trust.prior import precision_by_class, prior_in_words, prior_shares, read_prior
from hemascope.trust.verdict import Verdict, verdict_of

runner = CliRunner()
PRIOR = {"neutrophil": 60.0, "lymphocyte": 30.0, "monocyte": 10.0}
PAIRS = "neutrophil=60,lymphocyte=30,monocyte=10"


@pytest.fixture
def pool(drawn: Cells, tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    folder.mkdir()
    for row in range(40):
        Image.fromarray(np.asarray(drawn.images[row])).save(folder / f"{row:02}.png")
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "neutrophil,60\nlymphocyte,30\nmonocyte,10\n",
        "class\tcount\r\nNEU\t60%\r\nlymphocytes\t30%\r\nmonocyte\t10%\r\n",
        "\ufeffcell;share\nband;5\nseg;55\n\nlymphocyte;30\nmonocyte;10",
        '"neutrophil",60\n"lymphocyte",30\n"monocyte",10',
        "neutrophil=60\nlymphocyte=30\nmonocyte=10",
    ],
)
def test_a_file_says_the_same_as_pairs(tmp_path: Path, text: str) -> None:
    (tmp_path / "count.csv").write_text(text, encoding="utf-8")
    assert read_prior(str(tmp_path / "count.csv")) == PRIOR
    assert read_prior("seg=50, band=10%,LYM=30,monocyte=10") == PRIOR
    # A class of the model's own goes before what its name usually means.
    assert read_prior("seg=50,band=10", ("band", "neutrophil")) == {"neutrophil": 50, "band": 10}


def test_what_is_no_differential_count_is_told_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "count.csv"
    for text, told in (
        ("neutrophil=lots", "has 'neutrophil=lots', expected CLASS=SHARE"),
        ("none.csv", "no such file"),
    ):
        with pytest.raises(InputError, match=told):
            read_prior(text)
    for content, told in (
        (b"class,share\n", "names no class"),
        (b"neutrophil,60\nlymphocyte\n", "line 2: is 'lymphocyte', expected a class and a number"),
        (b"neutrophil,60\nlymphocyte,few\n", "line 2"),
        (b"\xff\xfe\x00", "cannot be read as text"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=told):
            read_prior(str(file))
    names = ("monocyte", "neutrophil")
    with pytest.raises(InputError, match="names 'blast'"):
        prior_shares(names, {"blast": 1})
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="a number below 0, or none above it"):
            prior_shares(names, {"monocyte": bad})


def test_a_model_that_expects_a_count_says_what_counting_says(finished: Run, drawn: Cells) -> None:
    model, images = load_model(finished.folder), np.asarray(drawn.images[:40])
    assert model.trust is not None
    trained = model.trust.calibration.class_prior
    before = model.answers(images)
    assert before.excluded is None
    same = model.expecting(dict(zip(model.class_names, trained, strict=True))).answers(images)
    assert np.abs(same.probabilities - before.probabilities).max() < 1e-5
    after = model.expecting(PRIOR).answers(images)
    shares = prior_shares(model.class_names, PRIOR)
    assert np.allclose(after.probabilities, restated(before.probabilities, trained, shares), atol=1e-6)
    assert np.allclose(after.probabilities.sum(1), 1, atol=1e-5)
    assert after.excluded is not None
    assert np.allclose(after.excluded, before.probabilities[:, shares == 0].sum(1), atol=1e-6)
    # Said once, said again: the last count holds, and the model that was asked first is as it was.
    again = model.expecting({"platelet": 1}).expecting(PRIOR).answers(images)
    assert np.array_equal(again.probabilities, after.probabilities)
    assert np.array_equal(after.embedding, before.embedding)
    assert np.array_equal(model.answers(images).probabilities, before.probabilities)
    assert model.expecting(PRIOR).answers(images[:0]).probabilities.shape == (0, len(model.class_names))


def test_all_columns_of_the_table_hold_for_the_count(finished: Run, drawn: Cells, pool: Path) -> None:
    table, plain = predict(finished.folder, pool, prior=PRIOR), predict(finished.folder, pool)
    names = list(load_model(finished.folder).class_names)
    values = table[names].to_numpy()
    assert (table["label"].to_numpy() == np.array(names)[values.argmax(1)]).all()
    assert (table["confidence"].to_numpy() == values.max(1)).all()
    assert (table["label"] != plain["label"]).any()
    assert set(table["label"]) <= set(PRIOR)
    rule = verdict_of(load_model(finished.folder)).confidence
    unsure = table["trust"].str.contains("the highest probability is")
    assert (unsure == (table["confidence"] < rule)).all()
    excluded = plain[[name for name in names if name not in PRIOR]].sum(axis=1)
    assert (table["trust"].str.contains("the differential count has none of") == (excluded > 0.5)).all()
    assert excluded.gt(0.5).any()
    assert (table["outlier_score"] == plain["outlier_score"]).all()
    in_memory = predict(finished.folder, drawn.take(np.arange(40)), prior=PRIOR)
    assert np.allclose(in_memory[names].to_numpy(), values, atol=1e-5)
    assert [bool(reason) for reason in in_memory["trust"]] == [bool(reason) for reason in table["trust"]]


def test_what_stood_on_excluded_classes_is_not_trusted() -> None:
    answers = Answers(
        np.array([[1, 0], [1, 0]], np.float32),
        np.zeros(2, np.float32),
        np.zeros((2, 3), np.float32),
        excluded=np.array([0.1, 0.98], np.float32),
    )
    assert Verdict().why_not(answers) == [
        [],
        ["unsure: it looks like a class that the differential count has none of (0.98)."],
    ]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ""])
def test_every_form_of_the_table_is_restated(finished: Run, pool: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"table{ending}"
    predict_to_table([pool], out, model=finished.folder, prior=PRIOR)
    if ending == ".csv":
        found = pd.read_csv(out)
    else:
        found = pd.read_json(out, lines=True) if ending == ".jsonl" else pd.read_parquet(out)
    expected = predict(finished.folder, pool, prior=PRIOR)
    assert found["label"].tolist() == expected["label"].tolist()
    assert np.allclose(found["confidence"], expected["confidence"], atol=1e-5)


def test_a_job_that_goes_on_keeps_its_count(
    finished: Run, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "table.csv"
    predict_to_table([pool], whole, model=finished.folder, part_rows=8, prior=PRIOR)
    done: list[Path] = []

    def stopped(path: Path, part: Part, table: object) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        write_part(path, part, table)
        done.append(path)

    monkeypatch.setattr("hemascope.bulk.job.write_part", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict_to_table([pool], out, model=finished.folder, part_rows=8, prior=PRIOR)
    monkeypatch.undo()
    for other in (None, {"neutrophil": 1.0}):
        with pytest.raises(InputError, match=r"this is not the job that was begun: its options were .*neutrophil 60%"):
            predict_to_table([pool], out, model=finished.folder, part_rows=8, prior=other, resume=True)
    assert len(list(parts_folder(out).glob("part-*.parquet"))) == 2
    # The same count in other numbers is the same job.
    shares = {name: value / 100 for name, value in reversed(PRIOR.items())}
    found = predict_to_table([pool], out, model=finished.folder, part_rows=8, prior=shares, resume=True)
    assert found.resumed == 16
    assert out.read_bytes() == whole.read_bytes()


def test_the_command_takes_a_file_or_pairs(finished: Run, pool: Path, tmp_path: Path) -> None:
    (tmp_path / "count.csv").write_text(PAIRS.replace(",", "\n").replace("=", ","))
    command = ["predict", str(pool), "--model", str(finished.folder)]
    for given, out in ((PAIRS, "a.csv"), (str(tmp_path / "count.csv"), "b.csv")):
        said = runner.invoke(app, [*command, "--out", str(tmp_path / out), "--prior", given])
        assert said.exit_code == 0, said.output
        assert "for this differential count: neutrophil 60%, lymphocyte 30%, monocyte 10%; no basophil" in said.output
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    new = ["--out", str(tmp_path / "c.csv"), "--explain", str(tmp_path / "sheets")]
    refused = runner.invoke(app, [*command, *new, "--prior", "blast=1"])
    assert "--prior names 'blast'" in str(refused.exception)
    assert not list(tmp_path.glob("c.csv*"))
    assert not (tmp_path / "sheets").exists()


def test_a_sheet_shows_the_restated_answer(pool: Path, tmp_path: Path) -> None:
    assert explain_pictures("small", [pool / "00.png"], tmp_path / "out", prior={"platelet": 1}) == 1
    with Image.open(tmp_path / "out" / "001-00.png") as sheet:
        assert sheet.info["Description"].startswith("platelet, 100%.")


def test_precision_for_a_count_stands_in_the_metrics(finished: Run, drawn: Cells, tmp_path: Path) -> None:
    confusion = np.array([[9, 1], [1, 9]])
    even, rare = {"a": 50.0, "b": 50.0}, {"a": 1.0, "b": 99.0}
    assert precision_by_class(confusion, ("a", "b"), even) == {"a": pytest.approx(0.9), "b": pytest.approx(0.9)}
    assert precision_by_class(confusion, ("a", "b"), rare)["a"] == pytest.approx(0.009 / (0.009 + 0.099))
    with pytest.raises(InputError, match="--prior expects b, and no scored picture shows one"):
        precision_by_class([[9, 1], [0, 0]], ("a", "b"), even)
    save_npz(drawn, tmp_path / "cells.npz")
    command = ["evaluate", str(finished.folder), str(tmp_path / "cells.npz"), "--out", str(tmp_path / "out")]
    said = runner.invoke(app, [*command, "--prior", PAIRS])
    assert said.exit_code == 0, said.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "At your count" in page
    assert "where the cells are neutrophil 60, lymphocyte 30, monocyte 10, of the answers as they are" in page
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["prior"] == PRIOR
    names = metrics["class_names"]
    expected = precision_by_class(metrics["confusion_matrix"], names, PRIOR)
    assert metrics["precision_at_prior"] == expected
    assert all(expected[name] is None for name in names if name not in PRIOR)
    told = [value for value in expected.values() if value is not None]
    assert told
    assert all(f">{value:.4f}</td>" in page for value in told)


def test_a_count_in_words() -> None:
    names = ("basophil", "monocyte", "neutrophil")
    assert prior_in_words(names, {"neutrophil": 2, "monocyte": 1}) == "neutrophil 66.7%, monocyte 33.3%; no basophil"
