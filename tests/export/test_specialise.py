from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.export.specialise import OF_THE_BATCH, specialise
from hemascope.run import Run
from hemascope.runtime import Model
from hemascope.synthetic import draw_cells


@pytest.mark.parametrize("side", [32, 41])
def test_what_is_left_and_its_constants_give_what_the_whole_graph_gives(finished: Run, drawn: Cells, side: int) -> None:
    path = finished.model / "model.onnx"
    model = onnx.load(path)
    found = specialise(model, side)
    assert not {"Shape", "Range", "Where"} & {node.op_type for node in found.nodes}
    needed = {name for node in found.nodes for name in node.input} & set(found.constants)
    graph = helper.make_graph(
        found.nodes,
        "left",
        [helper.make_tensor_value_info(found.start, TensorProto.UINT8, ["n", side, side, 3])],
        [helper.make_tensor_value_info(found.end, TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(found.constants[name], name) for name in sorted(needed)],
    )
    left = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    images = np.asarray(draw_cells(8, seed=4, size=side).images)
    session = onnxruntime.InferenceSession(left.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {found.start: images})[0] - Model(path).predict(images)).max() < 1e-5


def test_shapes_are_known_but_for_the_batch(finished: Run) -> None:
    found = specialise(onnx.load(finished.model / "model.onnx"), 32)
    assert found.shapes["images"] == (OF_THE_BATCH, 32, 32, 3)
    assert found.shapes["probabilities"] == (OF_THE_BATCH, 8)
    assert found.shapes["embedding"][0] == OF_THE_BATCH
    assert {shape.count(OF_THE_BATCH) for shape in found.shapes.values()} == {1}


def test_a_graph_that_decides_while_it_runs_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "branch",
        [],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["probabilities"], then_branch=branch, else_branch=branch)],
        "decides",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.array(True), "yes")],
    )
    with pytest.raises(InputError, match="an operator If, which decides while it runs"):
        specialise(helper.make_model(graph), 8)
