"""What may stand before a model's graph: pictures of another laboratory brought nearer to those that trained it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from hemascope.colour import ColourMatch
from hemascope.data.cells import Images
from hemascope.resize import central_square, resize
from hemascope.tail import Nodes


@dataclass(frozen=True)
class Front:
    """How pictures are changed before a model sees them.

    size: the side in pixels to which their central squares are brought first, so that pictures which were stored larger
    come out the same. field: the side of the square that is used of those, as a share of theirs; over 1 the picture is
    widened by its edges. colours: what is done to the colours; None for nothing.
    """

    size: int
    field: float = 1.0
    colours: ColourMatch | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return self.field != 1 or self.colours is not None

    def __call__(self, images: Images) -> Images:
        """Pictures uint8 (n, height, width, 3) -> uint8 (n, side, side, 3); the same where nothing is to be done."""
        if not self.changes:
            return images
        images = resize(central_square(images), self.size)
        if self.field != 1:
            places = self.places()
            images = images[:, places][:, :, places]
        return images if self.colours is None else self.colours(images)

    def places(self) -> NDArray[np.int64]:
        """Which row of the picture each row of the square is, and so for columns: int64 (side,)."""
        side = max(int(np.floor(self.size * self.field + 0.5)), 1)
        first = (self.size - side) // 2 if side < self.size else -((side - self.size) // 2)
        return np.clip(np.arange(side) + first, 0, self.size - 1)


def with_front(model: onnx.ModelProto, front: Front) -> onnx.ModelProto:
    """A model that takes "images" uint8 (batch, height, width, 3), with the same changes made within its graph."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    if not front.changes:
        return whole
    graph = whole.graph
    seen = "images_seen"
    while any(seen in node.output for node in graph.node):
        seen += "_before"
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == "images":
                node.input[place] = seen
    nodes = Nodes(f"front_{seen}")
    picture = _resized(nodes, front.size)
    if front.field != 1:
        for axis in (2, 3):
            picture = nodes.add("Gather", picture, front.places(), axis=axis)
    if front.colours is not None:
        # The three tables stand one behind the other.
        level = nodes.add("Add", picture, np.array([0, 256, 512], np.float32).reshape(3, 1, 1))
        table = front.colours.tables().reshape(-1).astype(np.float32)
        picture = nodes.add("Gather", table, nodes.add("Cast", level, to=TensorProto.INT32), axis=0)
    picture = nodes.add("Transpose", picture, perm=[0, 2, 3, 1])
    nodes.end(nodes.add("Cast", picture, to=TensorProto.UINT8), seen)
    behind = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes.nodes, *behind])
    graph.initializer.extend(nodes.constants)
    return whole


def _resized(nodes: Nodes, size: int) -> str:
    """`hemascope.resize` of the central squares: float (batch, 3, size, size), whole numbers."""
    two, axes = np.array([2], np.int64), np.array([1, 2], np.int64)
    sides = nodes.add("Shape", "images", start=1, end=3)
    side = nodes.add("ReduceMin", sides, keepdims=1)
    start = nodes.add("Div", nodes.add("Sub", sides, side), two)
    square = nodes.add("Slice", "images", start, nodes.add("Add", start, side), axes)
    pixels = nodes.add("Transpose", nodes.add("Cast", square, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    weights = _weights(nodes, side, size)
    limits = np.float32(0), np.float32(255)
    narrow = nodes.add("MatMul", pixels, nodes.add("Transpose", weights, perm=[1, 0]))
    small = nodes.add("MatMul", weights, nodes.add("Clip", narrow, *limits))
    return nodes.add("Floor", nodes.add("Add", nodes.add("Clip", small, *limits), np.float32(0.5)))


def _weights(nodes: Nodes, side: str, size: int) -> str:
    """`hemascope.resize.resize_weights` for a side that is known only when the graph runs: float32 (size, side)."""
    one = np.float64(1)
    scale = nodes.add("Div", nodes.add("Cast", side, to=TensorProto.DOUBLE), np.float64(size))
    count = nodes.add("Range", np.int64(0), nodes.add("Squeeze", side), np.int64(1))
    pixels = nodes.add("Add", nodes.add("Cast", count, to=TensorProto.DOUBLE), np.float64(0.5))
    centres = nodes.add("Mul", (np.arange(size) + 0.5)[:, None], scale)
    apart = nodes.add("Div", nodes.add("Sub", pixels, centres), nodes.add("Max", scale, one))
    x = nodes.add("Abs", apart)
    near = _polynomial(nodes, x, 1.5, -2.5, 0.0, 1.0)
    far = _polynomial(nodes, x, -0.5, 2.5, -4.0, 2.0)
    outside = nodes.add("Where", nodes.add("Less", x, np.float64(2)), far, np.float64(0))
    weights = nodes.add("Where", nodes.add("Less", x, one), near, outside)
    total = nodes.add("ReduceSum", weights, np.array([1], np.int64), keepdims=1)
    return nodes.add("Cast", nodes.add("Div", weights, total), to=TensorProto.FLOAT)


def _polynomial(nodes: Nodes, x: str, *factors: float) -> str:
    """The highest power first."""
    value = nodes.add("Mul", x, np.float64(factors[0]))
    for factor in factors[1:-1]:
        value = nodes.add("Mul", nodes.add("Add", value, np.float64(factor)), x)
    return nodes.add("Add", value, np.float64(factors[-1]))
