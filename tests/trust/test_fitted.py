from __future__ import annotations

import json

import numpy as np
import pytest

from hemascope.data import Cells, Images, pixel_hashes
from hemascope.errors import InputError
from hemascope.run import Run
from hemascope.runtime import Model, load_model
from hemascope.split import split
from hemascope.synthetic import draw_cells
from hemascope.trust.fingerprint import known_rows
from hemascope.trust.fitted import (
    UNDISTORTED,
    Distortion,
    Trust,
    balanced_weights,
    fit_trust,
)


@pytest.fixture(scope="module")
def cells() -> Cells:
    return split(draw_cells(1600, seed=3, size=32), seed=0)


def by_colour(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Looks at the colours of the middle and of the whole, and is seldom right."""
    middle = images[:, 8:24, 8:24].reshape(len(images), -1, 3).mean(1)
    seen = np.concatenate([middle, images.reshape(len(images), -1, 3).mean(1)], axis=1).astype(np.float32) / 64
    weights = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    return seen @ weights, seen


def test_what_is_fitted_survives_its_file(cells: Cells) -> None:
    trust, score = fit_trust(by_colour, cells, UNDISTORTED)
    read = Trust.from_json(json.loads(json.dumps(trust.as_json())))
    assert read.as_json() == trust.as_json()
    logits, seen = by_colour(np.asarray(cells.images[:50]))
    assert np.array_equal(read.calibration.probabilities(logits), trust.calibration.probabilities(logits))
    assert np.isfinite(score.score(seen, logits)).all()
    assert trust.reference is not None
    counts = np.bincount(cells.in_split("train").labels, minlength=8)
    assert trust.calibration.class_prior == pytest.approx(counts / counts.sum())
    with pytest.raises(InputError, match="cannot be read"):
        Trust.from_json({"calibration": {}})


def test_the_same_seed_gives_the_same(cells: Cells) -> None:
    first, again = (fit_trust(by_colour, cells, UNDISTORTED, seed=1)[0].as_json() for _ in range(2))
    assert first == again


def test_the_fingerprint_knows_all_that_made_the_model(cells: Cells) -> None:
    fingerprint = fit_trust(by_colour, cells, UNDISTORTED)[0].fingerprint
    assert fingerprint is not None
    assert known_rows(fingerprint, cells.in_split("train").images).known.all()
    assert len(fingerprint) == len(cells) - len(cells.in_split("test"))


def test_too_few_rows_leave_notes_and_no_promise() -> None:
    few = split(draw_cells(160, seed=5, size=32), seed=0)
    trust, _ = fit_trust(by_colour, few, UNDISTORTED)
    assert trust.sets is None
    assert any("no sets of classes" in note and "needs 99" in note for note in trust.notes)
    assert trust.sets_of(np.full((3, 8), 1 / 8)) is None


def test_weights_are_divided_out(cells: Cells) -> None:
    counts = np.bincount(cells.in_split("train").labels, minlength=8)
    weights = balanced_weights(counts)
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    assert np.ptp(weights * counts) == pytest.approx(0)
    plain, _ = fit_trust(by_colour, cells, UNDISTORTED)
    weighted, _ = fit_trust(by_colour, cells, Distortion(0.0, weights))
    logits = np.zeros((1, 8), np.float32)
    assert plain.calibration.probabilities(logits)[0] == pytest.approx(1 / 8)
    uneven, _ = fit_trust(by_colour, cells, Distortion(0.0, balanced_weights([9, 1, 1, 1, 1, 1, 1, 1])))
    told = uneven.calibration.probabilities(logits)[0]
    # What a class of nine in sixteen weighed little for is told more often, less what the temperature takes back.
    assert told[0] > 1.05 * told[1]
    assert weighted.calibration.class_weights == pytest.approx(tuple(weights))
    assert balanced_weights([2, 0, 2]).tolist() == [1.0, 0.0, 1.0]


def test_a_risk_that_few_rows_cannot_prove_is_refused(cells: Cells) -> None:
    trust, _ = fit_trust(by_colour, cells, UNDISTORTED)
    with pytest.raises(InputError, match="299"):
        trust.reject_rule(0.01)


def test_a_run_carries_it_in_its_file(finished: Run, dirty: Cells) -> None:
    model = load_model(finished.folder)
    assert isinstance(model, Model)
    assert model.trust is not None
    images = np.asarray(dirty.images[:30])
    answers = model.answers(images)
    assert answers.outlier_score.shape == (30,)
    assert model.colours is not None
    assert pixel_hashes(dirty).shape == (400,)
