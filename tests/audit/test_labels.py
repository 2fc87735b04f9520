from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hemascope.audit.features import cell_features
from hemascope.audit.labels import (
    FOLDS,
    MIN_CLASS_ROWS,
    deal_folds,
    find_label_suspects,
    judged_rows,
    out_of_sample_probabilities,
)
from hemascope.data.cells import Cells
from hemascope.data.load import load
from hemascope.errors import InputError
from hemascope.features import Floats
from hemascope.synthetic import draw_cells

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from plant import flip_labels, most_confusable

COUNT = 480


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine the threads of small matrix products only wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def drawn() -> Cells:
    return draw_cells(COUNT, seed=2)


@pytest.fixture(scope="module")
def features(drawn: Cells) -> Floats:
    return cell_features(drawn)


def some_cells(labels: NDArray[np.int64], names: tuple[str, ...] = ("red", "green", "blue")) -> Cells:
    return Cells(np.zeros((len(labels), 8, 8, 3), np.uint8), labels, names, np.arange(len(labels)).astype(str))


@pytest.mark.parametrize("how", ["any", "confusable"])
def test_flipped_labels_are_found(drawn: Cells, features: Floats, how: str) -> None:
    confusable = most_confusable(drawn.labels, out_of_sample_probabilities(features, drawn.labels, 8))
    labels, rows = flip_labels(drawn.labels, 0.04, 21, how, confusable)
    probabilities = out_of_sample_probabilities(features, labels, 8)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    table = find_label_suspects(replace(drawn, labels=labels), probabilities)
    flagged = table["is_label_suspect"].to_numpy()
    hits = np.intersect1d(np.flatnonzero(flagged), rows)
    assert len(hits) / len(rows) >= 0.8
    assert len(hits) / flagged.sum() >= 0.8
    assert (table["suggested_label"].to_numpy()[hits] == drawn.labels[hits]).mean() >= 0.9
    assert ((table["label_suspect_score"] < 0.5) | ~flagged).all()
    wrong, right = (drawn.class_names[some[hits[0]]] for some in (labels, drawn.labels))
    score = table["label_suspect_score"][hits[0]]
    told = f"labelled {wrong} but looks like {right}: the label is right with probability {score:.3f}"
    assert table["label_suspect_reason"][hits[0]] == told


def test_right_labels_and_labels_by_lot_are_left_alone(drawn: Cells, features: Floats) -> None:
    right = find_label_suspects(drawn, out_of_sample_probabilities(features, drawn.labels, 8))
    assert right["is_label_suspect"].mean() <= 0.005
    by_lot = np.random.default_rng(0).permutation(drawn.labels)
    probabilities = out_of_sample_probabilities(features, by_lot, 8)
    assert find_label_suspects(replace(drawn, labels=by_lot), probabilities)["is_label_suspect"].mean() <= 0.05


def test_a_copy_does_not_vouch_for_its_own_label(drawn: Cells, features: Floats) -> None:
    labels, rows = flip_labels(drawn.labels, 0.03, 5, "any")
    doubled = np.concatenate([np.arange(COUNT), np.repeat(rows, 4)])
    known, given = features[doubled], labels[doubled]
    apart = out_of_sample_probabilities(known, given, 8)[rows, labels[rows]]
    together = out_of_sample_probabilities(known, given, 8, groups=doubled)[rows, labels[rows]]
    assert np.median(together) < 0.1 < 0.5 < np.median(apart)


def test_rows_not_to_learn_from_are_still_guessed(drawn: Cells, features: Floats) -> None:
    labels = drawn.labels.copy()
    labels[:100] = -1
    learn = np.arange(COUNT) >= 200
    probabilities = out_of_sample_probabilities(features, labels, 8, learn=learn)
    assert (probabilities[:200].argmax(axis=1) == drawn.labels[:200]).mean() > 0.9
    table = find_label_suspects(replace(drawn, labels=labels), probabilities)
    assert (table["suggested_label"][:100] == -1).all()
    assert (table["label_suspect_score"][:100] == 1).all()
    assert not find_label_suspects(drawn, probabilities, learn=~learn)["is_label_suspect"][200:].any()


def test_probabilities_of_a_model_are_judged_too() -> None:
    labels = np.repeat(np.arange(3), 100)
    sure = np.random.default_rng(0).uniform(0.9, 0.995, 300)
    sure[[4, 150]] = 0.998
    probabilities = np.repeat((1 - sure[:, None]) / 2, 3, axis=1)
    probabilities[np.arange(300), labels] = sure
    given = labels.copy()
    given[[4, 150]] = 2
    table = find_label_suspects(some_cells(given), probabilities)
    assert np.flatnonzero(table["is_label_suspect"]).tolist() == [4, 150]
    score = table["label_suspect_score"][4]
    assert score < 0.1
    told = f"labelled blue but looks like red: the label is right with probability {score:.3f}"
    assert table["label_suspect_reason"][4] == told
    assert table["label_suspect_score"][0] > 0.9
    assert find_label_suspects(some_cells(given), probabilities, threshold=1e-9)["is_label_suspect"].sum() == 0


def test_classes_of_too_few_are_not_judged() -> None:
    labels = np.array([0] * MIN_CLASS_ROWS + [1] * (MIN_CLASS_ROWS - 1) + [-1])
    assert judged_rows(labels, 3).tolist() == [True] * MIN_CLASS_ROWS + [False] * MIN_CLASS_ROWS
    table = find_label_suspects(some_cells(labels), np.full((20, 3), 1 / 3))
    assert not table["is_label_suspect"].any()
    with pytest.raises(InputError, match="two classes with at least 10 labelled pictures each, found 1"):
        out_of_sample_probabilities(np.zeros((20, 4), np.float32), labels, 3)


def test_folds_keep_groups_together_and_deal_each_class_out() -> None:
    labels = np.repeat(np.arange(4), 50)
    groups = np.arange(200) // 2
    fold = deal_folds(labels, groups, np.random.default_rng(0))
    assert (fold[::2] == fold[1::2]).all()
    for label in range(4):
        assert np.bincount(fold[labels == label], minlength=FOLDS).tolist() == [10] * FOLDS


def test_real_cells(shared: Path) -> None:
    cells = load(shared / "data" / "pbc96" / "test.parquet")
    features = cell_features(cells)
    labels, rows = flip_labels(cells.labels, 0.05, 77, "any")
    probabilities = out_of_sample_probabilities(features, labels, 8)
    assert (probabilities.argmax(axis=1) == cells.labels).mean() > 0.94
    flagged = find_label_suspects(replace(cells, labels=labels), probabilities)["is_label_suspect"].to_numpy()
    assert flagged[rows].mean() >= 0.8
    assert np.isin(np.flatnonzero(flagged), rows).mean() >= 0.8


def test_bad_probabilities_are_told() -> None:
    cells = some_cells(np.repeat(np.arange(3), 10))
    with pytest.raises(InputError, match=r"shape \(30, 2\), expected \(30, 3\)"):
        find_label_suspects(cells, np.full((30, 2), 0.5))
    with pytest.raises(InputError, match="below 0 or not finite"):
        find_label_suspects(cells, np.full((30, 3), np.inf))
