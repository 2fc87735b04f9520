"""Sets against crepes' rule worked out plainly, their promise by simulation, and edge cases by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from hemascope.errors import InputError
from hemascope.metrics import wilson_interval
from hemascope.trust import ConformalSets, coverage_table, fit_sets, prediction_sets, rows_for

Floats = NDArray[np.float64]


def made_up(rows: int, seed: int, classes: int = 4) -> tuple[Floats, NDArray[np.int64]]:
    """Answers that are worse for the later classes, which are also rarer."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, rows, p=np.arange(classes, 0, -1) / np.arange(classes + 1).sum())
    logits = rng.normal(size=(rows, classes)) + np.linspace(4, 1, classes)[labels, None] * np.eye(classes)[labels]
    return softmax(logits, axis=1), labels


def by_p_values(calibration: Floats, labels: NDArray[np.int64], new: Floats, coverage: float) -> NDArray[np.bool_]:
    """Class-conditional conformal sets from p-values, without any threshold: what crepes does without smoothing."""
    found = np.zeros(new.shape, bool)
    for label in range(new.shape[1]):
        scores = 1 - calibration[labels == label, label]
        for row, score in enumerate(1 - new[:, label]):
            p = (int((scores >= score).sum()) + 1) / (len(scores) + 1)
            found[row, label] = p > 1 - coverage + 1e-12
    found[np.arange(len(new)), new.argmax(1)] = True
    return found


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_are_those_of_p_values(coverage: float) -> None:
    probabilities, labels = made_up(900, 0)
    new, _ = made_up(300, 1)
    sets = fit_sets(probabilities, labels, coverage)
    assert not any(sets.pooled)
    ours, theirs = prediction_sets(new, sets), by_p_values(probabilities, labels, new, coverage)
    np.testing.assert_array_equal(ours, theirs)


def test_every_class_is_covered_as_promised() -> None:
    rates = []
    for seed in range(60):
        sets = fit_sets(*made_up(600, 2 * seed), coverage=0.9)
        new, truth = made_up(600, 2 * seed + 1)
        rates.append([each.coverage for each in coverage_table(prediction_sets(new, sets), truth).per_class])
    # Without the set of the most probable class it would be 0.9 to 0.9 + 1 / (n + 1).
    means = np.mean(rates, axis=0)
    assert (means > 0.89).all()
    assert means[3] < 0.92


def test_the_threshold_is_the_ranked_probability() -> None:
    of_truth = np.arange(1, 20) / 20
    probabilities = np.stack([of_truth, 1 - of_truth], axis=1)
    sets = fit_sets(np.concatenate([probabilities, 1 - probabilities]), [0] * 19 + [1] * 19, coverage=0.9)
    # ceil(20 * 0.9) = 18th highest of 19.
    assert list(sets.thresholds) == pytest.approx([0.1, 0.1])
    assert sets.rows == (19, 19)


@pytest.mark.parametrize(("coverage", "rows"), [(0.99, 99), (0.9, 9), (0.95, 19), (0.5, 1), (0.985, 66)])
def test_how_many_rows_a_coverage_needs(coverage: float, rows: int) -> None:
    assert rows_for(coverage) == rows
    one_class = np.tile([[0.9, 0.1]], (rows, 1))
    assert not fit_sets(one_class, [0] * rows, coverage).pooled[0]


def test_classes_with_few_rows_share_a_threshold() -> None:
    probabilities, labels = made_up(400, 3)
    kept = np.concatenate(
        [np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:60], np.flatnonzero(labels == 2)[:50]]
    )
    sets = fit_sets(probabilities[kept], labels[kept], coverage=0.99)
    assert sets.pooled == (False, True, True, True)
    assert sets.rows[1:] == (60, 50, 0)
    assert len(set(sets.thresholds[1:])) == 1
    of_truth = np.sort([probabilities[row, labels[row]] for row in kept if labels[row] > 0])[::-1]
    assert sets.thresholds[1] == of_truth[int(np.ceil(111 * 0.99)) - 1]


def test_a_pool_that_is_too_small_takes_the_next_smallest_class_in() -> None:
    probabilities, labels = made_up(2000, 4)
    kept = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate((300, 150, 120, 40))])
    sets = fit_sets(probabilities[kept], labels[kept], coverage=0.99)
    assert sets.pooled == (False, False, False, True)
    shared = np.sort([probabilities[row, labels[row]] for row in kept if labels[row] >= 2])[::-1]
    assert sets.thresholds[3] == shared[int(np.ceil(161 * 0.99)) - 1]
    own = np.sort([probabilities[row, 2] for row in kept if labels[row] == 2])[::-1]
    assert sets.thresholds[2] == own[int(np.ceil(121 * 0.99)) - 1]


def test_no_set_is_empty_and_the_answer_is_in_it() -> None:
    sets = ConformalSets(0.9, (0.99, 0.99, 0.99), (9, 9, 9), (False,) * 3)
    found = prediction_sets([[0.4, 0.3, 0.3], [0.1, 0.1, 0.8]], sets)
    assert found.tolist() == [[True, False, False], [False, False, True]]
    assert prediction_sets(np.zeros((0, 3)), sets).shape == (0, 3)


def test_a_table_by_hand() -> None:
    table = coverage_table([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]], [0, 1, 1, 0])
    assert table.overall[:3] == (4, 3, 0.75)
    assert table.overall[3:] == wilson_interval(3, 4)
    assert [each.covered for each in table.per_class] == [1, 2, 0]
    assert np.isnan(table.per_class[2].coverage)
    assert (table.mean_size, table.single) == (1.25, 0.75)


def test_it_travels_as_json() -> None:
    sets = fit_sets(*made_up(300, 5), coverage=0.9)
    assert ConformalSets.from_json(json.loads(json.dumps(sets.as_json()))) == sets


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((np.tile([[0.5, 0.5]], (50, 1)), [0] * 50, 0.99), "50 calibration rows were given, .* needs 99"),
        (([[0.5, 0.5]], [0], 1.0), "coverage is 1"),
        (([[0.5, 0.9]], [0], 0.5), "do not sum to 1"),
        (([[0.5, 0.5]], [2], 0.5), r"lie in 2\.\.2"),
    ],
)
def test_what_cannot_be_promised_is_refused(given: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        fit_sets(*given)


def test_sets_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match="2 classes and the sets 3"):
        prediction_sets([[0.5, 0.5]], ConformalSets(0.9, (0.1,) * 3, (9,) * 3, (False,) * 3))
    with pytest.raises(InputError, match="sets have the shape"):
        coverage_table(np.zeros((0, 3)), [])
