from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from hemascope.errors import InputError
from hemascope.trust.outliers import OutlierScore, OutlierThreshold

WIDTH, CLASSES = 24, 4
Floats = NDArray[np.float64]


class Network:
    """Embeddings of classes that lie apart in a few directions, and a linear head: what a trained network gives."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.axes = ortho_group.rvs(WIDTH, random_state=seed)
        self.spread = np.r_[np.full(6, 1.0), np.full(WIDTH - 6, 0.05)]
        self.middles = np.zeros((CLASSES, WIDTH))
        self.middles[:, :CLASSES] = 6 * np.eye(CLASSES)
        self.shift = self.generator.normal(size=WIDTH)

    def embeddings(self, labels: NDArray[np.int64]) -> Floats:
        inside = self.middles[labels] + self.generator.normal(size=(len(labels), WIDTH)) * self.spread
        return np.asarray(inside @ self.axes.T + self.shift)

    def logits(self, embeddings: Floats) -> Floats:
        return np.asarray((embeddings - self.shift) @ self.axes @ self.middles.T / 6)

    def cells(self, count: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
        labels = self.generator.integers(CLASSES, size=count)
        embeddings = self.embeddings(labels)
        return embeddings, self.logits(embeddings), labels

    def strangers(self, kind: str, count: int) -> tuple[Floats, Floats]:
        """Pictures between two classes, or such that leave the few directions that cells use."""
        labels = self.generator.integers(CLASSES, size=count)
        embeddings = self.embeddings(labels)
        if kind == "between":
            other = self.middles[(labels + 1) % CLASSES]
            embeddings = embeddings + (other - self.middles[labels]) @ self.axes.T / 2
        else:
            embeddings = embeddings + self.axes[:, 10]
        return embeddings, self.logits(embeddings)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


@pytest.fixture(scope="module")
def fitted() -> OutlierScore:
    return OutlierScore.fit(*Network().cells(3000), rank=8)


def test_the_distance_is_mahalanobis_distance_to_the_nearest_class(network: Network) -> None:
    embeddings, logits, labels = network.cells(4000)
    found = OutlierScore.fit(embeddings, np.zeros_like(logits), labels)
    assert found.logit_weight == 0, "logits that do not vary tell nothing"
    new = network.cells(200)[0]
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=WIDTH / (WIDTH + 4000)).fit(embeddings, labels)
    inverse = np.linalg.inv(reference.covariance_)
    expected = cdist(new, reference.means_, "mahalanobis", VI=inverse).min(axis=1) ** 2
    distance = (found.score(new, logits[:200] * 0) - found.offset) / found.distance_weight
    np.testing.assert_allclose(distance, expected, rtol=2e-3)


def test_directions_beyond_the_rank_share_one_variance(network: Network, fitted: OutlierScore) -> None:
    embeddings = Network().cells(3000)[0]
    pca = PCA(8).fit(embeddings)
    np.testing.assert_allclose(1 / fitted.outside, pca.noise_variance_, rtol=1e-3)
    np.testing.assert_allclose(np.abs(pca.components_ @ fitted.directions).max(axis=1)[:4], 1, atol=1e-3)

    shape = np.linalg.inv(fitted.whiten @ fitted.whiten.T)
    axes = fitted.directions.astype(np.float64)
    outer = (np.eye(WIDTH) - axes @ axes.T) / fitted.outside
    means = fitted.centre + fitted.means @ np.linalg.inv(fitted.whiten) @ axes.T
    new = network.cells(50)[0]
    expected = cdist(new, means, "mahalanobis", VI=np.linalg.inv(axes @ shape @ axes.T + outer)).min(axis=1) ** 2
    height = network.logits(new).max(axis=1)
    distance = (fitted.score(new, network.logits(new)) - fitted.offset + fitted.logit_weight * height) / (
        fitted.distance_weight
    )
    np.testing.assert_allclose(distance, expected, rtol=2e-3)


@pytest.mark.parametrize(("kind", "by_logit"), [("between", 0.95), ("off the directions of cells", 0.5)])
def test_strangers_score_higher_than_cells(network: Network, fitted: OutlierScore, kind: str, by_logit: float) -> None:
    embeddings, logits, _ = network.cells(500)
    strangers = network.strangers(kind, 300)
    usual, strange = fitted.score(embeddings, logits), fitted.score(*strangers)
    assert usual.dtype == np.float32
    assert abs(usual.mean()) < 0.3
    truth = np.repeat([False, True], [500, 300])
    alone = roc_auc_score(truth, -np.r_[logits.max(1), strangers[1].max(1)])
    assert alone == pytest.approx(by_logit, abs=0.06)
    assert roc_auc_score(truth, np.r_[usual, strange]) > max(alone, 0.96)


def test_a_class_that_was_not_learnt_is_strange(network: Network) -> None:
    embeddings, logits, labels = network.cells(3000)
    known = labels != 2
    found = OutlierScore.fit(embeddings[known], np.delete(logits, 2, 1)[known], labels[known])
    assert found.means.shape[0] == CLASSES - 1
    new, heights, tags = network.cells(600)
    assert roc_auc_score(tags == 2, found.score(new, np.delete(heights, 2, 1))) > 0.99


def test_both_parts_count_alike_and_a_dead_one_not_at_all(network: Network) -> None:
    embeddings, logits, labels = network.cells(2000)
    for given, heights in ((embeddings * 100, logits), (embeddings, logits * 50)):
        found = OutlierScore.fit(given, heights, labels, rank=8)
        scores = found.score(given, heights)
        np.testing.assert_allclose(found.logit_weight * heights.max(1).std(), 1, rtol=1e-3)
        np.testing.assert_allclose(scores.mean(), 0, atol=0.01)
        assert 1 < scores.std() < 2, "the sum of two parts of one standard deviation each"
    dead = OutlierScore.fit(np.ones((10, 3)), np.ones((10, 2)), np.zeros(10, np.int64))
    assert dead.distance_weight == dead.logit_weight == 0
    np.testing.assert_array_equal(dead.score(np.ones((2, 3)), np.ones((2, 2))), [0, 0])


def test_few_cells_of_a_wide_network_are_enough_to_begin_with() -> None:
    network = Network(3)
    found = OutlierScore.fit(*network.cells(15))
    assert found.directions.shape == (WIDTH, 14)
    assert found.outside > 0
    cells, logits, _ = network.cells(300)
    far = network.strangers("off the directions of cells", 300)
    assert np.isfinite(found.score(cells, logits)).all()
    assert roc_auc_score(np.r_[np.zeros(300), np.ones(300)], np.r_[found.score(cells, logits), found.score(*far)]) > 0.7


def test_a_wide_network_keeps_within_a_megabyte() -> None:
    generator = np.random.default_rng(0)
    found = OutlierScore.fit(
        generator.normal(size=(400, 1280)), generator.normal(size=(400, 8)), generator.integers(8, size=400)
    )
    arrays = found.arrays()
    assert sum(array.nbytes for array in arrays.values()) < 1e6
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_the_arrays_give_the_same_score_again(network: Network, fitted: OutlierScore) -> None:
    embeddings, logits, _ = network.cells(100)
    again = OutlierScore.from_arrays(fitted.arrays())
    np.testing.assert_array_equal(again.score(embeddings, logits), fitted.score(embeddings, logits))
    with pytest.raises(InputError, match="no 'whiten' among centre"):
        OutlierScore.from_arrays({name: array for name, array in fitted.arrays().items() if name != "whiten"})


def test_the_formula_of_the_docstring_is_the_score_on_onnx_runtime(network: Network, fitted: OutlierScore) -> None:
    arrays = {name: numpy_helper.from_array(array, name) for name, array in fitted.arrays().items()}
    numbers = {"turned": fitted.directions.T, "last": np.array([1]), "second": np.array([1]), "third": np.array([2])}
    arrays |= {name: numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in numbers.items()}
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Sub", ["embedding", "centre"], "from_centre", {}),
        ("MatMul", ["from_centre", "directions"], "inside", {}),
        ("MatMul", ["inside", "turned"], "back", {}),
        ("Sub", ["from_centre", "back"], "rest", {}),
        ("MatMul", ["inside", "whiten"], "white", {}),
        ("Unsqueeze", ["white", "second"], "beside", {}),
        ("Sub", ["beside", "means"], "apart", {}),
        ("ReduceSumSquare", ["apart", "third"], "distances", {"keepdims": 0}),
        ("ReduceMin", ["distances", "last"], "nearest", {"keepdims": 0}),
        ("ReduceSumSquare", ["rest", "last"], "rest_square", {"keepdims": 0}),
        ("Mul", ["rest_square", "outside"], "far", {}),
        ("Add", ["nearest", "far"], "distance", {}),
        ("Mul", ["distance", "distance_weight"], "first_part", {}),
        ("ReduceMax", ["logits", "last"], "height", {"keepdims": 0}),
        ("Mul", ["height", "logit_weight"], "second_part", {}),
        ("Sub", ["first_part", "second_part"], "both", {}),
        ("Add", ["both", "offset"], "outlier_score", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **settings) for kind, inputs, output, settings in steps],
        "outliers",
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES]),
        ],
        [helper.make_tensor_value_info("outlier_score", TensorProto.FLOAT, ["n"])],
        list(arrays.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    embeddings, logits = network.strangers("between", 40)
    given = {"embedding": embeddings.astype(np.float32), "logits": logits.astype(np.float32)}
    np.testing.assert_allclose(session.run(None, given)[0], fitted.score(embeddings, logits), rtol=1e-3, atol=1e-3)


def test_the_threshold_keeps_the_share_of_new_cells_that_it_promises() -> None:
    generator = np.random.default_rng(1)
    kept = []
    for _ in range(400):
        threshold = OutlierThreshold.fit(generator.gamma(2, size=79), 0.9)
        kept.append(1 - threshold.is_outlier(generator.gamma(2, size=1000)).mean())
    assert 0.9 - 0.003 < np.mean(kept) < 0.9 + 1 / 80 + 0.003, (
        "at least 0.9 on average, and no more than one cell above"
    )
    exact = OutlierThreshold.fit(np.arange(1, 20), 0.95)
    assert exact == OutlierThreshold(19.0, 0.95, 19), "of 20 cells, 19 and the next one"
    np.testing.assert_array_equal(
        exact.is_outlier([18.0, 19.0, 19.5, np.nan, np.inf]), [False, False, True, True, True]
    )
    assert OutlierThreshold.from_json(json.loads(json.dumps(exact.as_json()))) == exact


def good() -> dict[str, Any]:
    return {"embeddings": np.zeros((6, 3)), "logits": np.zeros((6, 2)), "labels": np.array([0, 0, 0, 1, 1, 1])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embeddings": np.zeros((5, 3))}, r"embeddings are \(5, 3\) and the logits \(6, 2\); give"),
        ({"embeddings": np.zeros(6)}, r"embeddings are \(6,\)"),
        ({"embeddings": np.array([[0, 0, np.nan], *np.zeros((5, 3))])}, "embeddings of 1 of 6 pictures are not finite"),
        ({"logits": np.full((6, 2), np.inf)}, "logits of 6 of 6 pictures are not finite"),
        ({"labels": np.array([0, 0, 0, 1, 1, -1])}, r"labels are int64 \(6,\) with 1 unknown for 6 embeddings"),
        ({"labels": np.zeros(6)}, r"labels are float64 \(6,\)"),
        ({"labels": np.zeros(4, np.int64)}, r"labels are int64 \(4,\) .* for 6 embeddings"),
        ({name: value[:1] for name, value in good().items()}, "1 training cells were given"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_a_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        OutlierScore.fit(**good() | change)


def test_what_cannot_be_scored_or_set_is_refused_with_a_sentence(fitted: OutlierScore) -> None:
    with pytest.raises(InputError, match="have 7 numbers a picture, but the outlier score was fitted on 24"):
        fitted.score(np.zeros((2, 7)), np.zeros((2, CLASSES)))
    with pytest.raises(InputError, match=r"18 cells cannot say below which score 95% of cells stay; give 19 or more"):
        OutlierThreshold.fit(np.zeros(18))
    with pytest.raises(InputError, match="1 of 30 outlier scores are not finite"):
        OutlierThreshold.fit(np.r_[np.zeros(29), np.nan])
    with pytest.raises(InputError, match=r"1\.5 of the cells are to be kept"):
        OutlierThreshold.fit(np.zeros(30), 1.5)
    with pytest.raises(InputError, match="expected numbers for value, kept and cells"):
        OutlierThreshold.from_json({"value": 1.0})
    assert fitted.score(np.zeros((0, WIDTH)), np.zeros((0, CLASSES))).shape == (0,)
    assert np.isnan(fitted.score(np.full((1, WIDTH), np.nan), np.zeros((1, CLASSES)))).all()
