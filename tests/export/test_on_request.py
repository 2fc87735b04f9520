from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hemascope.data import Cells
from hemascope.export.on_request import on_request, without_heatmap, without_twins
from hemascope.precision import with_half_weights
from hemascope.run import Run
from hemascope.runtime import HEATMAP, WANTED, load_model

WEIGHTS = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)


@pytest.fixture
def model() -> onnx.ModelProto:
    """x (n, 4) -> logits = relu(x @ w), embedding = x, heatmap = relu(x @ w) @ w' reshaped; w stands in it twice."""
    nodes = [
        helper.make_node("MatMul", ["images", "w"], ["seen"]),
        helper.make_node("Relu", ["seen"], ["logits"]),
        helper.make_node("Identity", ["images"], ["embedding"]),
        helper.make_node("Transpose", ["twin"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["logits", "turned"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], [HEATMAP]),
    ]
    outputs: list[tuple[str, list[str | int | None]]] = [
        ("logits", ["n", 300]),
        ("embedding", ["n", 4]),
        (HEATMAP, ["n", 2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [
            numpy_helper.from_array(WEIGHTS, "w"),
            numpy_helper.from_array(WEIGHTS, "twin"),
            numpy_helper.from_array(np.array([-1, 2, 2]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def asked(model: onnx.ModelProto, wanted: bool | None = None) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"images": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)}
    if wanted is not None:
        given[WANTED] = np.array(wanted)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def test_a_map_is_there_when_it_is_wanted_and_empty_else(model: onnx.ModelProto) -> None:
    changed, before = on_request(model), asked(model)
    onnx.checker.check_model(changed)
    for wanted in (None, False):
        found = asked(changed, wanted)
        assert found[HEATMAP].shape == (0, 0, 0)
        assert np.array_equal(found["logits"], before["logits"])
    found = asked(changed, True)
    assert found.keys() == before.keys()
    assert all(np.array_equal(found[name], before[name]) for name in before)


def test_only_what_the_map_alone_needs_waits_for_the_request(model: onnx.ModelProto) -> None:
    graph = on_request(model).graph
    assert [node.op_type for node in graph.node] == ["MatMul", "Relu", "Identity", "If"]
    (branch,) = (attribute.g for attribute in graph.node[-1].attribute if attribute.name == "then_branch")
    assert [node.op_type for node in branch.node] == ["Transpose", "MatMul", "Reshape"]


def test_a_constant_stands_once_also_for_a_branch(model: onnx.ModelProto) -> None:
    assert [tensor.name for tensor in without_twins(model).graph.initializer] == ["w", "shape"]
    changed = on_request(model)
    assert [tensor.name for tensor in changed.graph.initializer] == ["w", "shape", WANTED]
    assert np.abs(asked(with_half_weights(changed), True)[HEATMAP] - asked(model)[HEATMAP]).max() < 0.1


def test_it_can_be_taken_off_again(model: onnx.ModelProto) -> None:
    bare = without_heatmap(on_request(model))
    onnx.checker.check_model(bare)
    assert [value.name for value in bare.graph.input] == ["images"]
    assert [tensor.name for tensor in bare.graph.initializer] == ["w"]
    assert asked(bare).keys() == {"logits", "embedding"}
    assert np.array_equal(asked(bare)["logits"], asked(model)["logits"])


def test_a_run_gives_maps_and_the_same_answers_with_them(finished: Run, drawn: Cells) -> None:
    model, images = load_model(finished.folder), np.asarray(drawn.images[:70])
    assert model.explains
    plain, whole = model.answers(images), model.answers(images, heatmap=True)
    assert plain.heatmap is None
    assert whole.heatmap is not None
    assert whole.heatmap.shape == (70, 32, 32)
    assert 0 <= whole.heatmap.min() < 0.1 < 0.9 < whole.heatmap.max() <= 1.001
    assert np.array_equal(plain.probabilities, whole.probabilities)
