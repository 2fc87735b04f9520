from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hemascope import metrics
from hemascope.belief import reasons_to_believe
from hemascope.cli.tables import summary
from hemascope.comparison import compare
from hemascope.data import Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.evaluate import (
    Evaluation,
    confident_mistakes,
    constant_class_warning,
    evaluate,
    score,
)
from hemascope.pipeline import train
from hemascope.recipe import Recipe
from hemascope.synthetic import draw_cells

NAMES = ("basophil", "eosinophil", "monocyte")


class Reader:
    """Reads its answer from the first pixel of a picture: the class from red, its confidence in percent from green."""

    def __init__(self, class_names: tuple[str, ...] = NAMES) -> None:
        self.class_names = class_names

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answer, confidence = images[:, 0, 0, 0], images[:, 0, 0, 1] / 100
        others = (1 - confidence) / (len(self.class_names) - 1)
        probabilities = np.repeat(others[:, None], len(self.class_names), axis=1)
        probabilities[np.arange(len(images)), answer] = confidence
        return probabilities.astype(np.float32)


def cells_of(labels: Any, answers: Any, confidence: Any = 90, names: tuple[str, ...] = NAMES) -> Cells:
    """Cells that `Reader` answers as asked; the rest of each picture is noise, so that all of them differ."""
    labels = np.asarray(labels, np.int64)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4, 3)).astype(np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = answers, confidence
    ids = np.array([f"cells.npz#{row}" for row in range(len(labels))])
    return Cells(images, labels, names, ids, source="cells.npz")


LABELS = np.repeat([0, 1, 2], [30, 20, 10])
ANSWERS = np.where(np.isin(np.arange(60), [3, 31, 32, 55]), [1] * 30 + [2] * 20 + [0] * 10, LABELS)


@pytest.fixture
def cells() -> Cells:
    return cells_of(LABELS, ANSWERS)


def test_scores_are_those_of_the_metrics(cells: Cells) -> None:
    found = evaluate(Reader(), cells)
    probabilities = Reader().predict(np.asarray(cells.images[:]))
    scores = found.scores
    assert scores["n"] == 60
    assert scores["class_names"] == list(NAMES)
    assert scores["accuracy"] == 56 / 60
    assert scores["accuracy_interval"] == list(metrics.wilson_interval(56, 60))
    assert scores["balanced_accuracy"] == pytest.approx((29 / 30 + 18 / 20 + 9 / 10) / 3)
    assert scores["macro_f1"] == metrics.macro_f1(probabilities, LABELS)
    assert scores["auc"] == metrics.macro_mean(metrics.one_vs_rest_auc(probabilities, LABELS))
    assert scores["confusion_matrix"] == [[29, 1, 0], [0, 18, 2], [1, 0, 9]]
    assert scores["calibration"] == {
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, LABELS),
        "adaptive_calibration_error": metrics.adaptive_calibration_error(probabilities, LABELS),
        "brier": metrics.brier(probabilities, LABELS),
        "negative_log_likelihood": metrics.negative_log_likelihood(probabilities, LABELS),
    }
    for name in ("balanced_accuracy", "macro_f1", "auc"):
        low, high = scores[f"{name}_interval"]
        assert 0.5 < low < scores[name] < high <= 1
    assert scores["per_class"][1] == {
        "class": "eosinophil",
        "support": 20,
        "predicted": 19,
        "recall": 0.9,
        "recall_interval": list(metrics.wilson_interval(18, 20)),
        "precision": 18 / 19,
        "precision_interval": list(metrics.wilson_interval(18, 19)),
        "f1": pytest.approx(36 / 39),
        "auc": metrics.one_vs_rest_auc(probabilities, LABELS)[1],
    }
    assert scores["most_confused"][0] == {"true": "eosinophil", "predicted": "monocyte", "count": 2, "share": 0.1}
    assert scores["left_out"] is None
    assert found.warnings == ()


def test_predictions_have_a_line_for_each_picture(cells: Cells) -> None:
    table = evaluate(Reader(), cells).predictions
    columns = ["id", "label", "predicted", "confidence", "correct", "left_out"]
    assert list(table.columns) == [*columns, "p_basophil", "p_eosinophil", "p_monocyte"]
    assert table["id"].tolist() == cells.ids.tolist()
    assert table[["label", "predicted", "correct"]].values[3].tolist() == ["basophil", "eosinophil", False]
    assert table["correct"].mean() == 56 / 60
    assert not table["left_out"].any()
    np.testing.assert_allclose(table.filter(regex="^p_").sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(table["confidence"], 0.9, atol=1e-6)


def test_classes_are_matched_by_name(cells: Cells) -> None:
    """The file counts its classes in another order than the model, and knows one that it has no picture of."""
    names = ("monocyte", "platelet", "basophil", "eosinophil")
    other = replace(cells, labels=np.array([2, 3, 0])[cells.labels], class_names=names)
    found, expected = evaluate(Reader(), other), evaluate(Reader(), cells)
    assert found.scores == expected.scores
    pd.testing.assert_frame_equal(found.predictions, expected.predictions)


def test_a_class_that_the_model_does_not_know_is_refused(cells: Cells) -> None:
    with pytest.raises(InputError, match=r"cells\.npz: has pictures of monocyte, but the classes expected are"):
        evaluate(Reader(("basophil", "eosinophil")), cells)


def test_pictures_that_trained_the_model_are_left_out(cells: Cells) -> None:
    hashes = pixel_hashes(cells)
    found = evaluate(Reader(), cells, trained_on=set(hashes[[0, 3, 40]].tolist()))
    assert found.scores["n"] == 57
    assert found.scores["accuracy"] == 54 / 57
    assert found.scores["left_out"] == {"count": 3, "of": 60, "accuracy_with_them": 56 / 60}
    assert found.warnings == (
        "cells.npz: 3 of these 60 pictures went into this model; they are left out: accuracy 0.9474, with them 0.9333.",
    )
    assert np.flatnonzero(found.predictions["left_out"]).tolist() == [0, 3, 40]
    assert [mistake["row"] for mistake in found.scores["confident_mistakes"]] == [31, 32, 55]
    assert evaluate(Reader(), cells, trained_on=hashes[[0, 3, 40]]).scores == found.scores


def test_a_file_that_did_not_train_the_model_loses_nothing(cells: Cells) -> None:
    other = pixel_hashes(cells_of([0, 1], [0, 1], confidence=70))
    found = evaluate(Reader(), cells, trained_on=other)
    assert found.scores["left_out"] == {"count": 0, "of": 60, "accuracy_with_them": found.scores["accuracy"]}
    assert found.warnings == ()


def test_the_training_file_itself_is_refused(cells: Cells) -> None:
    with pytest.raises(InputError, match="all 60 pictures trained this model"):
        evaluate(Reader(), cells, trained_on=pixel_hashes(cells))


def test_copies_and_groups_are_resampled_together(cells: Cells) -> None:
    alone = evaluate(Reader(), cells)
    twice = evaluate(Reader(), cells.take(np.tile(np.arange(60), 2)))
    assert twice.scores["intervals"]["bootstrap_groups"] == alone.scores["intervals"]["bootstrap_groups"] == 60
    width = [np.ptp(each.scores["balanced_accuracy_interval"]) for each in (alone, twice)]
    assert width[1] == pytest.approx(width[0], rel=0.1)
    patients = replace(cells, groups=np.array([f"patient {row // 6}" for row in range(60)]))
    assert evaluate(Reader(), patients).scores["intervals"]["bootstrap_groups"] == 10


def test_the_seed_decides_the_intervals(cells: Cells) -> None:
    assert evaluate(Reader(), cells, seed=1).scores == evaluate(Reader(), cells, seed=1).scores
    other = evaluate(Reader(), cells, seed=2).scores
    assert other["macro_f1_interval"] != evaluate(Reader(), cells, seed=1).scores["macro_f1_interval"]


def test_without_a_mistake_the_bootstrap_claims_no_interval() -> None:
    scores = evaluate(Reader(), cells_of(LABELS, LABELS)).scores
    assert scores["balanced_accuracy"] == 1
    assert scores["balanced_accuracy_interval"] is None
    assert scores["accuracy_interval"][0] < 0.95
    assert scores["most_confused"] == scores["confident_mistakes"] == []
    assert "balanced accuracy       1.0000\n" in summary(scores)


def test_what_is_undefined_is_null(tmp_path: Path) -> None:
    found = evaluate(Reader(), cells_of([0, 0, 1], [0, 0, 0]))
    found.write(tmp_path)
    absent, unseen = json.loads((tmp_path / "metrics.json").read_text())["per_class"][:0:-1]
    assert absent["recall"] is absent["precision"] is absent["f1"] is absent["auc"] is absent["recall_interval"] is None
    assert (unseen["recall"], unseen["precision"], unseen["f1"]) == (0, None, 0)
    only_one = evaluate(Reader(), cells_of([0, 0], [0, 1])).scores
    assert only_one["auc"] is only_one["auc_interval"] is None
    assert "undefined" in summary(only_one)


def test_write_gives_both_files_and_nothing_else(cells: Cells, tmp_path: Path) -> None:
    found = evaluate(Reader(), cells, trained_on=pixel_hashes(cells)[:1])
    found.write(tmp_path / "run")
    found.write(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.json", "predictions.parquet"]
    content = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert content == {**found.scores, "warnings": list(found.warnings)}
    back = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    pd.testing.assert_frame_equal(back, found.predictions, check_dtype=False)
    assert back["p_monocyte"].dtype == np.float32


def test_confident_mistakes_come_surest_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    labels, ids = np.array([0, 0, 1, 0]), np.array(["a", "b", "c", "d"])
    found = confident_mistakes(probabilities, labels, ids, ("lymphocyte", "monocyte"))
    assert [mistake["id"] for mistake in found] == ["d", "c", "b"]
    assert found[0] == {
        "row": 3,
        "id": "d",
        "label": "lymphocyte",
        "predicted": "monocyte",
        "confidence": 0.8,
        "label_probability": 0.2,
    }
    assert confident_mistakes(probabilities, labels, ids, ("lymphocyte", "monocyte"), most=1) == found[:1]


@pytest.mark.parametrize(("rows", "of_one_class", "warned"), [(49, 49, False), (50, 45, False), (50, 46, True)])
def test_one_class_for_nearly_all_is_warned_of(rows: int, of_one_class: int, warned: bool) -> None:
    answers = np.repeat([1, 0], [of_one_class, rows - of_one_class])
    labels = np.arange(rows) % 3
    warning = constant_class_warning(np.eye(3)[answers], labels, NAMES)
    assert (warning is not None) == warned
    if warning:
        assert warning.startswith("46 of 50 pictures (92.0%) are named eosinophil, but only 17 labelled so")
        assert "check the pixel range" in warning
    assert constant_class_warning(np.eye(3)[answers], answers, NAMES) is None


def test_the_baseline_is_not_warned_of_for_what_it_is(
    drawn: Cells, tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    run = train(drawn, tiny(backbone="none", stages=[]), tmp_path / "run", say=lambda sentence: None)
    found = evaluate(run.folder, draw_cells(60, seed=1, size=32))
    assert {row["predicted"] for row in found.scores["per_class"]} == {0, 60}
    assert found.warnings == ()
    checks = {check["title"] for check in reasons_to_believe(json.loads(run.metrics.read_text()), "test", None)}
    assert "This is the baseline" in checks
    assert not {"It may be no better than one answer for all", "Trained from random weights"} & checks


def test_evaluate_passes_the_warning_on() -> None:
    found = evaluate(Reader(), cells_of(LABELS, np.zeros(60)))
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("cells.npz: 60 of 60 pictures (100.0%) are named basophil")


def test_cells_without_labels_are_refused(cells: Cells) -> None:
    some = replace(cells, labels=np.where(np.arange(60) < 2, -1, LABELS))
    with pytest.raises(InputError, match=r"cells\.npz: 2 of 60 pictures have no label.*`hemascope predict`"):
        evaluate(Reader(), some)
    with pytest.raises(InputError, match="has no pictures"):
        evaluate(Reader(), cells.take(np.zeros(0, np.int64)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda n: np.full((n, 3), np.nan), "cells.npz#0: the model gives .nan nan nan., expected probabilities"),
        (lambda n: np.tile([3.0, -1.0, 0.5], (n, 1)), "that sum to 1"),
        (lambda n: np.full((n, 2), 0.5), r"shape \(60, 2\) for 60 pictures of 3 classes"),
    ],
)
def test_a_model_that_gives_no_probabilities_is_refused(cells: Cells, given: Any, message: str) -> None:
    class Broken(Reader):
        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(given(len(images)), np.float32)

    with pytest.raises(InputError, match=message):
        evaluate(Broken(), cells)


def test_pictures_are_read_in_batches() -> None:
    sizes: list[int] = []

    class Counting(Reader):
        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            sizes.append(len(images))
            return super().predict(images)

    labels = np.arange(600) % 3
    scores = evaluate(Counting(), cells_of(labels, labels)).scores
    assert sum(sizes) == 600
    assert max(sizes) <= 256
    assert scores["accuracy"] == 1


def other_answers(answers: Any, confidence: int = 90) -> Evaluation:
    return evaluate(Reader(), cells_of(LABELS, answers, confidence))


def test_compare_counts_the_pictures_that_both_know(cells: Cells) -> None:
    a = evaluate(Reader(), cells)
    worse = np.where(np.arange(60) % 4 == 0, (LABELS + 1) % 3, LABELS)
    found = compare(a, other_answers(worse), names=("small", "baseline"))
    expected = metrics.mcnemar(ANSWERS == LABELS, worse == LABELS)
    assert {key: found[key] for key in expected._fields} == expected._asdict()
    assert (found["rows"], found["accuracy_a"], found["accuracy_b"]) == (60, 56 / 60, 0.75)
    assert expected.p < 0.05
    assert "small has an accuracy of 0.9333 and baseline of 0.7500" in found["sentence"]
    assert "small is better beyond chance (McNemar, p = 0.0" in found["sentence"]
    assert "baseline is better" in compare(other_answers(worse), a, names=("small", "baseline"))["sentence"]
    assert "they are right on the same pictures (McNemar, p = 1.000)" in compare(a, a)["sentence"]
    nearly = compare(a, other_answers(np.where(np.arange(60) < 2, 1, ANSWERS)))
    assert "chance alone may explain the difference" in nearly["sentence"]


def test_compare_matches_by_id_and_passes_over_what_was_left_out(cells: Cells) -> None:
    a = evaluate(Reader(), cells, trained_on=pixel_hashes(cells)[:10])
    b = evaluate(Reader(), cells.take(np.arange(59, 4, -1)))
    found = compare(a, b)
    assert (found["rows"], found["only_a"], found["only_b"], found["both"], found["neither"]) == (50, 0, 0, 47, 3)
    with pytest.raises(InputError, match="no picture in common"):
        compare(a, evaluate(Reader(), cells.take(np.arange(10))))
    relabelled = evaluate(Reader(), replace(cells, labels=(LABELS + (np.arange(60) == 20)) % 3))
    with pytest.raises(InputError, match=r"cells\.npz#20 is labelled basophil for x and eosinophil for y"):
        compare(a, relabelled, names=("x", "y"))


def test_summary_is_short_and_names_what_is_weak(cells: Cells) -> None:
    lines = summary(evaluate(Reader(), cells).scores).splitlines()
    assert len(lines) <= 12
    assert lines[0] == "scored on               60 pictures, 3 classes"
    assert lines[1] == "accuracy                0.9333   0.8407 to 0.9738"
    assert [line[:21].strip() for line in lines[2:5]] == ["balanced accuracy", "macro-F1", "AUC, one against rest"]
    assert "weakest classes         eosinophil: 0.9000, 18 of 20 found" in lines
    assert "most confused           eosinophil called monocyte: 2 (10.0%)" in lines


def test_score_takes_class_names_of_any_sequence_and_rows_alone_without_groups() -> None:
    probabilities = Reader().predict(np.asarray(cells_of(LABELS, ANSWERS).images[:]))
    found = score(probabilities, LABELS, list(NAMES), seed=3)
    assert found == score(probabilities, LABELS, NAMES, groups=np.arange(60), seed=3)
    assert json.loads(json.dumps(found)) == found
    assert found["intervals"] == {"confidence": 0.95, "bootstrap_draws": 2000, "bootstrap_groups": 60, "seed": 3}
    with pytest.raises(ValueError, match="labels"):
        score(probabilities, LABELS[:5], NAMES)
