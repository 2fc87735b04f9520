from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from hemascope.data import Cells, save_npz
from hemascope.errors import InputError
from hemascope.evaluate import evaluate
from hemascope.predict import predict
from hemascope.refit import fit, refit
from hemascope.refit.head import LEAST, Head, fit_head
from hemascope.run import Run, recipe_of
from hemascope.runtime import load_model, training_hashes
from hemascope.serve.api import make_app
from hemascope.synthetic import draw_cells


def other_laboratory(count: int, seed: int) -> Cells:
    """Drawn cells in other colours, which a network that knows the usual ones names badly."""
    cells = draw_cells(count, seed=seed, size=32)
    images = np.asarray(cells.images[:])[..., ::-1]
    return replace(cells, images=np.ascontiguousarray(images), source="other.npz")


@pytest.fixture(scope="module")
def refitted(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = refit(
        finished.folder, other_laboratory(160, 31), tmp_path_factory.mktemp("refit") / "run", say=lambda told: None
    )
    assert run is not None
    return run


def test_a_refit_is_better_on_pictures_that_it_has_not_seen(refitted: Run, finished: Run) -> None:
    unseen = other_laboratory(200, 32)
    before, after = (evaluate(run.folder, unseen).scores["accuracy"] for run in (finished, refitted))
    assert after > before + 0.03
    metrics = json.loads(refitted.metrics.read_text())
    assert metrics["refit"]["refitted_right"] > metrics["refit"]["unchanged_right"]
    low, high = metrics["cross_validated"]["accuracy_interval"]
    assert low - 0.1 < after < high + 0.1


def test_it_is_a_model_like_any_other(refitted: Run, tmp_path: Path) -> None:
    cells = other_laboratory(30, 33)
    table = predict(refitted.folder, cells)
    assert len(table) == 30
    model = load_model(refitted.folder)
    assert model.trust is not None
    assert model.trust.sets is None
    assert "few pictures" in model.trust.notes[0]
    assert "not a medical device" in model.metadata["purpose"]
    known = training_hashes(refitted.folder)
    assert known is not None
    assert evaluate(refitted.folder, cells).scores["left_out"]["count"] == 0
    mine = evaluate(
        refitted.folder, replace(other_laboratory(160, 31).take(np.arange(20)), source="mine"), trained_on=[]
    )
    assert mine.scores["n"] == 20
    with pytest.raises(InputError, match="all 20 pictures trained this model"):
        evaluate(refitted.folder, other_laboratory(160, 31).take(np.arange(20)))


def test_its_card_holds_what_was_measured(refitted: Run) -> None:
    card, metrics = refitted.card.read_text(encoding="utf-8"), json.loads(refitted.metrics.read_text())
    assert card.startswith("# tiny on ")
    assert ", fitted again to other.npz\n" in card
    assert "not a medical device" in card
    assert "Fitted again to: other.npz, 160 pictures (basophil 20, " in card
    assert f"| cross-validated | 160 | {metrics['cross_validated']['accuracy']:.4f} (" in card
    assert f"The refit, cross-validated on 160 pictures: {metrics['refit']['refitted_right'] / 160:.3f} (" in card
    assert "the unchanged model" in card
    # The scores of the model that it began from are not its own.
    assert "validation (chose" not in card
    assert not {"refit.json", "README.md"} & {path.name for path in refitted.folder.iterdir()}


def test_a_refit_from_a_file_alone_has_a_card_too(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "alone.onnx").write_bytes((finished.model / "model.onnx").read_bytes())
    run = refit(tmp_path / "alone.onnx", other_laboratory(80, 38), tmp_path / "run", say=lambda told: None)
    assert run is not None
    assert run.card.read_text(encoding="utf-8").startswith("# tiny on cells, fitted again to other.npz\n")
    with pytest.raises(InputError, match="names no recipe"):
        recipe_of(run)


def test_the_graph_gives_what_was_fitted(finished: Run, refitted: Run) -> None:
    model, cells = load_model(finished.folder), other_laboratory(160, 31)
    found = fit(model, cells)
    images = np.asarray(other_laboratory(40, 34).images[:])
    answers = model.answers(np.ascontiguousarray(found.front(images)))
    logits = found.head.logits(
        np.log(np.maximum(answers.probabilities.astype(float), LEAST)), answers.embedding.astype(float)
    )
    exported = load_model(refitted.folder)
    assert exported.trust is not None
    expected = exported.trust.calibration.probabilities(logits)
    assert np.abs(exported.predict(images) - expected).max() < 1e-3


def test_new_classes_are_learnt(finished: Run, tmp_path: Path) -> None:
    cells = draw_cells(160, seed=35, size=32)
    images = np.asarray(cells.images[:]).copy()
    blast = cells.labels == 2
    images[blast] = np.random.default_rng(0).integers(0, 256, images[blast].shape, dtype=np.uint8)
    names = (*cells.class_names, "blast")
    labels = np.where(blast, 8, cells.labels)
    run = refit(finished.folder, replace(cells, images=images, labels=labels, class_names=names), tmp_path / "run")
    assert run is not None
    model = load_model(run.folder)
    assert model.class_names[-1] == "blast"
    noise = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    assert (model.predict(noise).argmax(1) == 8).mean() > 0.8


def with_blasts(path: Path, count: int, seed: int, name: str = "blast") -> Path:
    """A folder of drawn cells by class, whose erythroblasts have other colours and another name."""
    cells = draw_cells(count, seed=seed, size=32)
    for row, image in enumerate(np.asarray(cells.images[:])):
        kind = cells.class_names[cells.labels[row]]
        if kind == "erythroblast":
            kind, image = name, np.ascontiguousarray(255 - image[..., ::-1])
        folder = path / kind
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{row}.png")
    return path


Command = Callable[..., int]


def test_the_command_learns_a_new_class_and_all_commands_know_it(
    finished: Run, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with_blasts(Path("seen"), 160, 41), with_blasts(Path("unseen"), 80, 42)
    again = ("train", "seen", "--refit", finished.folder, "--out", "run")
    assert command(*again) == 2
    assert "'blast' is not the name of one of the eight cells" in capsys.readouterr().err
    assert command(*again, "--new-class", "blast") == 0
    assert "new to the model: blast, " in capsys.readouterr().out
    assert command("evaluate", "run", "unseen", "--out", "scores") == 0
    scores = json.loads(Path("scores/metrics.json").read_text())
    blast = next(row for row in scores["per_class"] if row["class"] == "blast")
    assert blast["support"] == 10
    assert blast["recall"] > 0.7
    assert command("evaluate", finished.folder, "unseen") == 2
    assert command("predict", "unseen", "--model", "run", "--out", "names.csv") == 0
    assert "blast" in Path("names.csv").read_text().splitlines()[0].split(",")
    assert command("train", "unseen", "--refit", "run", "--out", "again") == 0
    assert command("export", "run") == 0
    assert json.loads(Path("run-float32.onnx.json").read_text())["class_names"][-1] == "blast"
    assert command("export", "run", "--format", "submission") == 0
    with TestClient(make_app(load_model("run")), base_url="http://localhost:8000") as client:
        assert client.get("/v1/model").json()["classes"][-1] == "blast"
        picture = next(Path("unseen/blast").iterdir()).read_bytes()
        answer = client.post("/v1/predict", files=[("pictures", ("a.png", picture))]).json()["pictures"][0]
        assert "blast" in answer["probabilities"]


def test_a_new_class_that_is_not_there_or_too_rare_is_refused(
    finished: Run, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with_blasts(Path("typo"), 40, 43, "lymphocite"), with_blasts(Path("few"), 16, 44)
    for folder, name, sentence in (
        ("typo", "blast", "the nearest is lymphocyte"),
        ("few", "smudge", "'blast' is not the name"),
        ("few", "blast", "has 2 of blast, which the model does not know; to learn a class takes 5 pictures"),
    ):
        assert command("train", folder, "--refit", finished.folder, "--new-class", name, "--out", "run") == 2
        assert sentence in capsys.readouterr().err
    words = ("--new-class", "blast", "--new-class", "smudge")
    assert command("train", "few", "--refit", finished.folder, *words, "--out", "run") == 2
    assert "--new-class smudge: few has no picture of it, only of basophil" in capsys.readouterr().err
    assert command("train", "few", "--recipe", "small", "--new-class", "blast", "--out", "run") == 2
    assert "goes with --refit MODEL" in capsys.readouterr().err


def test_a_head_without_penalty_is_a_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    seen, labels = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    seen[np.arange(300), labels] += 1
    found = fit_head(np.zeros((300, 3)), seen, labels, 0.1)
    standard = (seen - seen.mean(0)) / (seen.std(0) + 1e-3)
    same = LogisticRegression(C=1 / (0.1 * 300), max_iter=1000).fit(standard, labels)
    assert (found.logits(np.zeros((300, 3)), seen).argmax(1) == same.predict(standard)).mean() > 0.99
    assert isinstance(found, Head)


def test_no_gain_writes_nothing(finished: Run, tmp_path: Path) -> None:
    usual, said = draw_cells(40, seed=36, size=32), list[str]()
    run = refit(
        finished.folder,
        replace(usual, labels=load_model(finished.folder).predict(usual.images[:]).argmax(1)),
        tmp_path / "run",
        say=said.append,
    )
    assert run is None
    assert not (tmp_path / "run").exists()
    assert any("nothing was written" in one for one in said)


def test_bad_input_is_refused(finished: Run, tmp_path: Path) -> None:
    cells = draw_cells(40, seed=36, size=32)
    with pytest.raises(InputError, match="holds 5 labelled pictures"):
        refit(finished.folder, cells.take(np.arange(5)), tmp_path / "a")
    with pytest.raises(InputError, match="shows one class only"):
        refit(
            finished.folder,
            draw_cells(200, seed=1, size=32).take(draw_cells(200, seed=1, size=32).labels == 6),
            tmp_path / "b",
        )


def test_the_command_needs_no_torch(finished: Run, tmp_path: Path) -> None:
    save_npz(other_laboratory(80, 37), tmp_path / "other.npz")
    words = [
        "hemascope",
        "train",
        str(tmp_path / "other.npz"),
        "--refit",
        str(finished.folder),
        "--out",
        str(tmp_path / "run"),
    ]
    code = (
        f"import sys; sys.argv = {words!r}\nfrom hemascope.cli import main\ntry: main()\nexcept SystemExit as end: "
        "assert not end.code, end.code\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cross-validated on 80 pictures" in done.stdout
