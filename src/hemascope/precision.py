"""How many bits a model's file keeps of each weight: 16 for half the size, or 32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST_NUMBERS = 256
"""Fewer numbers than this stay as they are: they weigh nothing, and thresholds and scales are among them."""


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights are kept in 16 bits and used in 32, so that it is half the size and computes as before.

    Each becomes the nearest number that half precision has; one beyond its range (65,504) stays in 32 bits.
    """
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    graph = smaller.graph
    casts, kept = [], []
    for tensor in graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        if (
            numbers.dtype != np.float32
            or numbers.size < LEAST_NUMBERS
            or np.abs(numbers).max() > np.finfo(np.float16).max
        ):
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(numbers.astype(np.float16), f"{tensor.name}_half"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:]
    del graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return smaller


def with_whole_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights are all kept in 32 bits: `with_half_weights` undone, but for what it rounded."""
    larger = onnx.ModelProto()
    larger.CopyFrom(model)
    graph = larger.graph
    halves = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    nodes, replaced = [], set()
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in halves and node.attribute[0].i == TensorProto.FLOAT:
            numbers = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(numbers, node.output[0]))
            replaced.add(node.input[0])
        else:
            nodes.append(node)
    needed = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in replaced or tensor.name in needed]
    del graph.initializer[:]
    del graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return larger


def has_half_weights(model: onnx.ModelProto) -> bool:
    """Whether some weights of a model are kept in 16 bits."""
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
