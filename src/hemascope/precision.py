"""A model's file made smaller: weights in half precision, or whole numbers of 8 bits."""

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
