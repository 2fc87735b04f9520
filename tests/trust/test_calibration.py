"""Probabilities against the distortion that a loss puts on them, SciPy's optimum, and numbers worked by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from hemascope.errors import InputError
from hemascope.metrics import expected_calibration_error, negative_log_likelihood, wilson_interval
from hemascope.trust import Calibration, fit_calibration, precision_at, reliability, restated

CLASSES = 5
WEIGHTS = (0.5, 2.0, 1.0, 1.5, 0.8)
PRIOR = (0.4, 0.1, 0.2, 0.1, 0.2)

Floats = NDArray[np.float64]


def truths(rows: int = 3000, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """True probabilities of the classes, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(0.3 * np.ones(CLASSES), rows)
    labels = (truth.cumsum(1) > rng.random((rows, 1))).argmax(1)
    return truth, labels


def learnt(truth: Floats, smoothing: float, weights: tuple[float, ...] | None) -> Floats:
    """The logits at which torch's weighted, smoothed cross entropy of such rows is least, found by SciPy."""
    from torch import from_numpy, no_grad
    from torch.nn.functional import cross_entropy

    every = from_numpy(np.arange(CLASSES))
    of_classes = None if weights is None else from_numpy(np.array(weights))
    found = []
    for row in truth:

        def loss(logits: Floats, row: Floats = row) -> float:
            with no_grad():
                losses = cross_entropy(
                    from_numpy(np.tile(logits, (CLASSES, 1))), every, of_classes, label_smoothing=smoothing,
                    reduction="none",
                )  # fmt: skip
            return float(losses.numpy() @ row)

        found.append(minimize(loss, np.zeros(CLASSES), method="BFGS", options={"gtol": 1e-7}).x)
    return np.array(found)


@pytest.mark.parametrize(("smoothing", "weights"), [(0.1, None), (0.0, WEIGHTS), (0.1, WEIGHTS)])
def test_what_the_loss_distorts_is_divided_out(smoothing: float, weights: tuple[float, ...] | None) -> None:
    truth = 0.98 * truths(12)[0] + 0.02 / CLASSES
    calibration = Calibration(smoothing, weights, 1.0, PRIOR)
    np.testing.assert_allclose(calibration.probabilities(learnt(truth, smoothing, weights)), truth, atol=2e-4)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_of_overconfident_logits_is_found(temperature: float) -> None:
    truth, labels = truths(20_000)
    found = fit_calibration(temperature * np.log(truth + 1e-12), labels, PRIOR)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert expected_calibration_error(found.probabilities(temperature * np.log(truth + 1e-12)), labels) < 0.01


def test_the_temperature_is_the_likeliest() -> None:
    truth, labels = truths(500)
    logits = np.log(truth + 1e-3) * 1.7
    found = fit_calibration(logits, labels, PRIOR)
    reference = minimize(
        lambda t: -log_softmax(logits / t[0], axis=1)[np.arange(len(labels)), labels].mean(),
        [1.0],
        method="Nelder-Mead",
    )
    assert found.temperature == pytest.approx(reference.x[0], rel=1e-3)


def test_calibration_mends_what_smoothing_and_weights_have_done() -> None:
    truth, labels = truths(20_000)
    mixed = np.array(WEIGHTS) * (0.9 * truth + 0.1 / CLASSES)
    logits = np.log(mixed / mixed.sum(1, keepdims=True))
    found = fit_calibration(logits, labels, PRIOR, smoothing=0.1, class_weights=WEIGHTS)
    plain = fit_calibration(logits, labels, PRIOR)
    before = softmax(logits, axis=1)
    errors = [expected_calibration_error(one, labels) for one in (found.probabilities(logits), before)]
    assert errors[0] < errors[1] / 2
    losses = [negative_log_likelihood(one.probabilities(logits), labels) for one in (found, plain)]
    assert losses[0] < losses[1] < negative_log_likelihood(before, labels)


def test_probabilities_sum_to_one_and_do_not_mind_a_shift() -> None:
    logits = np.random.default_rng(0).normal(size=(50, CLASSES)) * 40
    calibration = Calibration(0.05, WEIGHTS, 0.7, PRIOR)
    found = calibration.probabilities(logits)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(calibration.probabilities(logits + 1000), found, atol=1e-9)
    assert found.min() > 0


def test_the_formula_is_one_that_onnx_holds() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    make, number = onnx.helper, onnx.numpy_helper.from_array
    logits = (np.random.default_rng(1).normal(size=(200, CLASSES)) * 4).astype(np.float32)
    for calibration in (Calibration(0.05, WEIGHTS, 0.8, PRIOR), Calibration(0.0, None, 1.6, PRIOR)):
        constants = {
            "weights": calibration.inverse_weights.astype(np.float32),
            "axis": np.array([1]),
            "smoothing": np.float32(calibration.smoothing / CLASSES),
            "kept": np.float32(1 - calibration.smoothing),
            "least": np.float32(calibration.least),
            "temperature": np.float32(calibration.temperature),
        }
        nodes = [
            make.make_node("Softmax", ["logits"], ["a"], axis=1),
            make.make_node("Mul", ["a", "weights"], ["b"]),
            make.make_node("ReduceSum", ["b", "axis"], ["c"]),
            make.make_node("Div", ["b", "c"], ["d"]),
            make.make_node("Sub", ["d", "smoothing"], ["e"]),
            make.make_node("Div", ["e", "kept"], ["f"]),
            make.make_node("Max", ["f", "least"], ["g"]),
            make.make_node("Log", ["g"], ["h"]),
            make.make_node("Div", ["h", "temperature"], ["i"]),
            make.make_node("Softmax", ["i"], ["probabilities"], axis=1),
        ]
        shape = [None, CLASSES]
        ends = [
            make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("logits", "probabilities")
        ]
        held = [number(np.asarray(value), name) for name, value in constants.items()]
        graph = make.make_graph(nodes, "calibration", ends[:1], ends[1:], held)
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        found = session.run(None, {"logits": logits})[0]
        np.testing.assert_allclose(found, calibration.probabilities(logits), atol=2e-5)


def test_a_class_that_no_row_trained_gets_nothing() -> None:
    calibration = Calibration(0.0, (1.0, 1.0, 0.0), 1.0, (0.5, 0.5, 0.0))
    found = calibration.probabilities(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 900.0]]))
    assert found[:, 2].max() < 0.5
    np.testing.assert_allclose(found[0, :2], softmax([1.0, 2.0]), atol=1e-12)
    assert np.isfinite(found).all()


def test_it_travels_as_json() -> None:
    for weights in (None, WEIGHTS):
        calibration = fit_calibration(
            np.log(truths(300)[0] + 0.01), truths(300)[1], [4, 1, 2, 1, 2], smoothing=0.05, class_weights=weights
        )
        assert Calibration.from_json(json.loads(json.dumps(calibration.as_json()))) == calibration
        assert calibration.class_prior == PRIOR


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"logits": np.zeros((3, 1))}, "two classes or more"),
        ({"logits": np.full((3, CLASSES), np.nan)}, "no finite numbers"),
        ({"labels": [0, 1]}, "one whole number for each row"),
        ({"labels": [0, 1, 9]}, r"0\.\.9 for 5 classes"),
        ({"labels": np.zeros(0, int), "logits": np.zeros((0, CLASSES))}, "no calibration rows"),
        ({"class_prior": [1, 2]}, "class_prior"),
        ({"smoothing": 1.0}, "label smoothing is 1"),
        ({"class_weights": [1, 1, 1, 1, -1]}, "class weights"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"logits": np.zeros((3, CLASSES)), "labels": [0, 1, 2], "class_prior": PRIOR} | changed
    with pytest.raises(InputError, match=told):
        fit_calibration(**given)


def test_logits_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match="logits have 3 classes and the calibration 5"):
        Calibration(0.0, None, 1.0, PRIOR).probabilities(np.zeros((2, 3)))


def test_restated_is_bayes_rule_by_counting() -> None:
    # A feature with three values; its posterior under each prior is counted out, without the formula.
    likelihood = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    before, after = np.array([0.5, 0.5]), np.array([0.9, 0.1])

    def posterior(prior: Floats) -> Floats:
        joint = prior[:, None] * likelihood
        return np.asarray((joint / joint.sum(0)).T)

    np.testing.assert_allclose(restated(posterior(before), before, after), posterior(after))
    np.testing.assert_allclose(restated(posterior(before), [50, 50], [9, 1]), posterior(after))
    np.testing.assert_allclose(restated(posterior(before), before, before), posterior(before))


def test_restated_without_a_class() -> None:
    found = restated([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], [1, 1, 1], [0.5, 0.5, 0])
    np.testing.assert_allclose(found, [[0.4, 0.6, 0], [0.5, 0.5, 0]])
    with pytest.raises(InputError, match="class 2 is expected in prior_to"):
        restated([[0.2, 0.3, 0.5]], [1, 1, 0], [1, 1, 1])


def test_precision_of_a_rare_class_by_hand() -> None:
    # Both classes are recognised in 99 of 100 cells, and one cell in a hundred is of the first: half of its answers
    # are right.
    found = precision_at([[99, 1], [1, 99]], [0.01, 0.99])
    np.testing.assert_allclose(found, [0.5, 0.99**2 / (0.99**2 + 0.01**2)])
    np.testing.assert_allclose(precision_at([[990, 10], [2, 198]], [1, 99]), found)


def test_precision_at_the_counts_own_prior_is_the_precision() -> None:
    confusion = np.array([[30, 2, 0], [4, 50, 1], [0, 3, 10]])
    np.testing.assert_allclose(precision_at(confusion, confusion.sum(1)), np.diag(confusion) / confusion.sum(0))
    np.testing.assert_array_equal(precision_at([[2, 0], [3, 0]], [1, 1]), [0.5, np.nan])
    with pytest.raises(InputError, match="class 1 is expected"):
        precision_at([[2, 0], [0, 0]], [0.5, 0.5])
    with pytest.raises(InputError, match="confusion matrix has the shape"):
        precision_at([[2, 0]], [0.5, 0.5])


def test_reliability_is_what_the_expected_calibration_error_sums_up() -> None:
    truth, labels = truths(800)
    table = reliability(truth, labels, bins=12)
    assert table.rows.sum() == 800
    gap = (table.rows * np.abs(table.confidence - table.accuracy)).sum() / 800
    assert gap == pytest.approx(expected_calibration_error(truth, labels, bins=12))
    assert ((table.low < table.confidence) & (table.confidence <= table.high)).all()
    hits = round(float(table.accuracy[0] * table.rows[0]))
    assert (table.accuracy_low[0], table.accuracy_high[0]) == wilson_interval(hits, int(table.rows[0]))


def test_reliability_of_one_row_and_of_none() -> None:
    table = reliability([[0.25, 0.75]], [1], bins=4)
    assert (table.low.tolist(), table.high.tolist(), table.rows.tolist()) == ([0.5], [0.75], [1])
    assert len(reliability(np.zeros((0, 3)), np.zeros(0, int)).rows) == 0
    with pytest.raises(InputError, match="0 bins"):
        reliability([[0.25, 0.75]], [1], bins=0)
