"""The end of a model's graph, the same for every kind: logits and embedding -> calibrated probabilities, outlier score.

What stands before it, the body, comes from torch or from scikit-learn. The tail is written in ONNX by hand, so that it
can be put on, taken off and replaced without either of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from hemascope.trust.calibration import Calibration
from hemascope.trust.outliers import OutlierScore

OPSET = 18
_LAST = np.array([1], np.int64)


class Nodes:
    """Nodes that are being written, and their constants. All their names begin with `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str | ArrayLike, **attributes: Any) -> str:
        """Add an operator on values by their names ("" where it takes none) and constants; the name of its output."""
        output = f"{self.name}_{len(self.nodes)}"
        names = []
        for place, value in enumerate(inputs):
            if isinstance(value, str):
                names.append(value)
                continue
            names.append(f"{output}_{place}")
            self.constants.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def end(self, value: str, name: str) -> None:
        """Give a value the name by which others look for it."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"{self.name}_{name}"))


def with_tail(
    body: onnx.ModelProto, calibration: Calibration, outliers: OutlierScore, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """A body, from its inputs to "logits" (batch, classes) and "embedding" (batch, d), with the tail behind it.

    Outputs, in this order: "probabilities" (batch, classes), "outlier_score" (batch,), "embedding", and "heatmap" where
    the body gives one; all float32. metadata: what the file says of itself. The body is not changed.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(body)
    graph = whole.graph
    given = {value.name: value for value in graph.output}
    nodes = Nodes("tail")
    nodes.end(_calibrated(nodes, calibration), "probabilities")
    nodes.end(_strangeness(nodes, outliers), "outlier_score")
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.constants)
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(calibration.class_prior)]),
        helper.make_tensor_value_info("outlier_score", TensorProto.FLOAT, ["batch"]),
        given["embedding"],
        *([given["heatmap"]] if "heatmap" in given else []),
    ]
    del graph.output[:]
    graph.output.extend(outputs)
    helper.set_model_props(whole, dict(metadata))
    return whole


def _calibrated(nodes: Nodes, calibration: Calibration) -> str:
    """`Calibration.probabilities` of "logits"."""
    classes = len(calibration.class_prior)
    share = nodes.add("Mul", nodes.add("Softmax", "logits", axis=1), calibration.inverse_weights.astype(np.float32))
    share = nodes.add("Div", share, nodes.add("ReduceSum", share, _LAST, keepdims=1))
    share = nodes.add("Sub", share, np.float32(calibration.smoothing / classes))
    share = nodes.add("Mul", share, np.float32(1 / (1 - calibration.smoothing)))
    told = nodes.add("Log", nodes.add("Max", share, np.float32(calibration.least)))
    return nodes.add("Softmax", nodes.add("Mul", told, np.float32(1 / calibration.temperature)), axis=1)


def _strangeness(nodes: Nodes, outliers: OutlierScore) -> str:
    """`OutlierScore.score` of "embedding" and "logits"."""
    from_centre = nodes.add("Sub", "embedding", outliers.centre)
    inside = nodes.add("MatMul", from_centre, outliers.directions)
    rest = nodes.add("Sub", from_centre, nodes.add("MatMul", inside, outliers.directions.T))
    white = nodes.add("MatMul", inside, outliers.whiten)
    apart = nodes.add("Sub", nodes.add("Unsqueeze", white, np.array([1], np.int64)), outliers.means[None])
    distances = nodes.add("ReduceSumSquare", apart, np.array([2], np.int64), keepdims=0)
    nearest = nodes.add("ReduceMin", distances, _LAST, keepdims=0)
    outside = nodes.add("Mul", nodes.add("ReduceSumSquare", rest, _LAST, keepdims=0), outliers.outside)
    distance = nodes.add("Mul", nodes.add("Add", nearest, outside), outliers.distance_weight)
    height = nodes.add("Mul", nodes.add("ReduceMax", "logits", _LAST, keepdims=0), outliers.logit_weight)
    return nodes.add("Add", nodes.add("Sub", distance, height), outliers.offset)


def with_head(model: onnx.ModelProto, own: float, weights: ArrayLike, bias: ArrayLike, least: float) -> onnx.ModelProto:
    """A whole model with a further head behind it: probabilities = softmax(own * log q + embedding @ weights + bias).

    q are its own probabilities, with `least` below and for the classes, at the end, that it does not know. weights:
    (d, classes). bias: (classes,). The other outputs stay as they are.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    before = "probabilities_before"
    while any(before in node.output for node in graph.node):
        before += "_before"
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == "probabilities":
                    names[place] = before
    weight = np.asarray(weights, np.float32)
    classes, known = weight.shape[1], graph.output[0].type.tensor_type.shape.dim[1].dim_value
    nodes = Nodes(f"head_{before}")
    share = before
    if classes > known:
        # Zeros for the classes that it does not know; a product is what every runtime has.
        share = nodes.add("MatMul", before, np.eye(known, classes, dtype=np.float32))
    share = nodes.add("Max", share, np.float32(least))
    told = nodes.add("Mul", nodes.add("Log", share), np.float32(own))
    seen = nodes.add("Add", nodes.add("MatMul", "embedding", weight), np.asarray(bias, np.float32))
    nodes.end(nodes.add("Softmax", nodes.add("Add", told, seen), axis=1), "probabilities")
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.constants)
    graph.output[0].CopyFrom(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes]))
    return whole
