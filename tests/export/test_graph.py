from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from hemascope.data import Cells
from hemascope.export.graph import add_metadata, followers, forget_sources, nodes_for, tail_of
from hemascope.run import Run
from hemascope.runtime import Model


def forked() -> onnx.ModelProto:
    """x -> a -> b -> probabilities, and beside it a -> c."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Add", ["a", "one"], ["b"]),
        helper.make_node("Neg", ["a"], ["c"]),
        helper.make_node("Softmax", ["b"], ["probabilities"], axis=1),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "probabilities", "c")]
    one = numpy_helper.from_array(np.ones(2, np.float32), "one")
    return helper.make_model(helper.make_graph(nodes, "forked", values[:1], values[1:], [one]))


def test_what_an_exporter_notes_of_nodes_is_forgotten_and_what_a_file_says_stays() -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["a"], ["b"], doc_string="/home/me/neg.py")], "branch", [], [])
    chosen = helper.make_node("If", ["yes"], ["b"], then_branch=branch, else_branch=branch)
    model = helper.make_model(helper.make_graph([*forked().graph.node, chosen], "forked", [], []))
    add_metadata(model, {"recipe": "small"})
    for node in (model.graph.node[0], model.graph.node[-1].attribute[0].g.node[0]):
        node.metadata_props.add(key="stack_trace", value="/home/me/project/net.py, line 3")
    forget_sources(model)
    assert b"/home/me" not in model.SerializeToString()
    assert {entry.key: entry.value for entry in model.metadata_props} == {"recipe": "small"}
    assert [node.op_type for node in model.graph.node] == ["Relu", "Add", "Neg", "Softmax", "If"]


def test_a_value_needs_its_own_nodes_and_no_others() -> None:
    model = forked()
    assert [node.op_type for node in nodes_for(model, ["probabilities"])] == ["Relu", "Add", "Softmax"]
    assert [node.op_type for node in nodes_for(model, ["probabilities"], ["a"])] == ["Add", "Softmax"]
    assert nodes_for(model, ["x"]) == []


def test_what_follows_a_value() -> None:
    assert followers(forked().graph.node, {"b"}) == {"b", "probabilities"}


def test_the_tail_alone_gives_what_the_file_gives(finished: Run, drawn: Cells) -> None:
    path = finished.model / "model.onnx"
    images = np.asarray(drawn.images[:5])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    whole = onnx.load(path)
    whole.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8]))
    logits = onnxruntime.InferenceSession(whole.SerializeToString()).run(["logits"], {"images": images})[0]
    tail = onnxruntime.InferenceSession(tail_of(onnx.load(path)).SerializeToString())
    found = tail.run(None, {"logits": logits})[0]
    assert np.abs(found - session.run(["probabilities"], {"images": images})[0]).max() < 1e-6
    assert found.shape == Model(path).predict(images).shape


def test_metadata_are_added_and_never_replaced() -> None:
    model = forked()
    add_metadata(model, {"recipe": "small", "trust": "{}"})
    add_metadata(model, {"recipe": "other", "precision": "int8"})
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "recipe": "small",
        "trust": "{}",
        "precision": "int8",
    }
