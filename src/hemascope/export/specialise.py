"""An ONNX graph for pictures of any size -> the same for one size, where all that follows from shapes is a constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from hemascope.errors import InputError
from hemascope.export.graph import nodes_for, with_nodes

BATCHES = (2, 3)
"""The graph is run at two sizes of a batch: a number that differs between them depends on it, any other does not."""
OF_THE_BATCH = -1


@dataclass(frozen=True)
class Specialised:
    """What is left of a graph: the nodes that pixels go through.

    constants: every other value by its name, but for those that depend on the size of the batch. shapes: that of each
    value on the way of the pixels, OF_THE_BATCH where it depends on the batch.
    """

    nodes: list[onnx.NodeProto]
    constants: dict[str, NDArray[Any]]
    shapes: dict[str, tuple[int, ...]]
    start: str
    end: str


def specialise(model: onnx.ModelProto, side: int, end: str = "probabilities") -> Specialised:
    """The part of a model that gives `end`, for uint8 (n, side, side, 3), any n.

    Raises InputError when a graph has parts that only its values decide on.
    """
    start = model.graph.input[0].name
    nodes = nodes_for(model, [end])
    # What pixels decide, and what only the shape of a picture does.
    pixels, measured = {start}, set[str]()
    for node in nodes:
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            raise InputError(
                f"the model has an operator {node.op_type}, which decides while it runs; export it as --format onnx, "
                "or as a submission with --runtime onnx."
            )
        if not pixels.isdisjoint(node.input):
            (measured if node.op_type in ("Shape", "Size") else pixels).update(node.output)
        else:
            measured.update(node.output)
    runs = [_values(model, nodes, start, side, batch) for batch in BATCHES]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants |= {name: runs[0][name] for name in measured if name and np.array_equal(runs[0][name], runs[1][name])}
    shapes = {
        name: tuple(a if a == b else OF_THE_BATCH for a, b in zip(*(run[name].shape for run in runs), strict=True))
        for name in pixels
        if name and name != start
    }
    shapes[start] = (OF_THE_BATCH, side, side, 3)
    return Specialised([node for node in nodes if not pixels.isdisjoint(node.output)], constants, shapes, start, end)


def _values(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], start: str, side: int, batch: int
) -> dict[str, NDArray[Any]]:
    """What each node gives for a batch of random pictures."""
    import onnxruntime

    outputs = [onnx.ValueInfoProto(name=name) for node in nodes for name in node.output if name]
    part = with_nodes(model, nodes, [model.graph.input[0]], outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    found = session.run(None, {start: pictures})
    return dict(zip((output.name for output in outputs), found, strict=True))
