"""What may stand before a model's graph: pictures of another laboratory brought nearer to those that trained it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from hemascope.colour import ColourMatch
from hemascope.data.cells import Images
from hemascope.tail import Nodes


@dataclass(frozen=True)
class Front:
    """How pictures are changed before a model sees them.

    field: the side of the square that is used, as a share of the picture's shorter side; over 1 the picture is widened
    by its edges. colours: what is done to the colours; None for nothing.
    """

    field: float = 1.0
    colours: ColourMatch | None = None

    def __call__(self, images: Images) -> Images:
        """Pictures uint8 (n, height, width, 3) -> uint8 (n, side, side, 3); the same where nothing is to be done."""
        if self.field != 1:
            height, width = images.shape[1:3]
            side = _side(min(height, width), self.field)
            spare = [max(side - length, 0) for length in (height, width)]
            pads = [(one // 2, one - one // 2) for one in spare]
            images = np.pad(images, [(0, 0), *pads, (0, 0)], mode="edge")
            top, left = ((length - side) // 2 for length in images.shape[1:3])
            images = images[:, top : top + side, left : left + side]
        return images if self.colours is None else self.colours(images)


def _side(shorter: int, field: float) -> int:
    return max(int(np.floor(np.float32(shorter) * np.float32(field) + np.float32(0.5))), 1)


def with_front(model: onnx.ModelProto, front: Front) -> onnx.ModelProto:
    """A model that takes "images" uint8 (batch, height, width, 3), with the same changes made within its graph."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == "images":
                node.input[place] = "images_seen"
    nodes = Nodes("front")
    images = "images" if front.field == 1 else _field(nodes, front.field)
    if front.colours is not None:
        level = nodes.add("Add", nodes.add("Cast", images, to=TensorProto.INT32), np.array([0, 256, 512], np.int32))
        images = nodes.add("Gather", front.colours.tables().reshape(-1), level, axis=0)
    nodes.end(images, "images_seen")
    behind = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes.nodes, *behind])
    graph.initializer.extend(nodes.constants)
    return whole


def _field(nodes: Nodes, field: float) -> str:
    """The central square of a share of the shorter side, widened by the edges where it is larger than the picture."""
    two = np.array([2, 2], np.int64)
    sides = nodes.add("Cast", nodes.add("Shape", "images", start=1, end=3), to=TensorProto.FLOAT)
    shorter = nodes.add("Mul", nodes.add("ReduceMin", sides, keepdims=1), np.float32(field))
    side = nodes.add("Max", nodes.add("Floor", nodes.add("Add", shorter, np.float32(0.5))), np.float32(1))
    spare = nodes.add("Cast", nodes.add("Relu", nodes.add("Sub", side, sides)), to=TensorProto.INT64)
    before = nodes.add("Div", spare, two)
    pads = nodes.add("Concat", before, nodes.add("Sub", spare, before), axis=0)
    axes = np.array([1, 2], np.int64)
    padded = nodes.add("Pad", nodes.add("Cast", "images", to=TensorProto.INT32), pads, "", axes, mode="edge")
    whole_side = nodes.add("Cast", side, to=TensorProto.INT64)
    start = nodes.add("Div", nodes.add("Sub", nodes.add("Shape", padded, start=1, end=3), whole_side), two)
    square = nodes.add("Slice", padded, start, nodes.add("Add", start, whole_side), axes)
    return nodes.add("Cast", square, to=TensorProto.UINT8)
