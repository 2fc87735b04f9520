"""The steps of a network as Keras takes them: channels last, padding of its own, weights in Keras' order.

ONNX has channels before places, and TensorFlow's convolutions on a CPU have them behind. A value is therefore kept in
whatever order its maker left it, with a note of that order; it is transposed only where someone needs another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hemascope.errors import InputError
from hemascope.export.specialise import OF_THE_BATCH, Specialised

Order = tuple[int, ...]

INSTEAD = (
    "make the submission with --runtime onnx, or of a convolutional network such as cell_residual, mobilenetv2_100, "
    "densenet121 or regnetx_002."
)

CHANNELS_LAST: Order = (0, 2, 3, 1)
"""Where the axes of an ONNX picture (n, channels, height, width) stand in a Keras one."""


@dataclass(frozen=True)
class Value:
    """Where a value of the ONNX graph is kept: the step that makes it, and which of its axes stands at each place."""

    step: str
    order: Order


@dataclass
class Plan:
    """What `hemascope.export.keras_network` builds from.

    steps: in their order; each says what to "do", "from" which earlier steps or arrays, "to" what name, and with which
    options. arrays: float32, by the names that steps take them by.
    """

    source: Specialised
    steps: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value in ONNX' order; OF_THE_BATCH where it depends on the batch."""
        return self.source.shapes[name]

    def moves(self, name: str) -> bool:
        """Whether a value depends on the pictures."""
        return name in self.values

    def constant(self, node: onnx.NodeProto, place: int) -> NDArray[Any] | None:
        """A constant input of a node; None where it has none there.

        Raises InputError when it is no constant.
        """
        if place >= len(node.input) or not node.input[place]:
            return None
        if node.input[place] not in self.source.constants:
            raise unsupported(node, f"whose input {place + 1} is computed from the pictures")
        return self.source.constants[node.input[place]]

    def in_order(self, name: str, order: Order | None = None) -> str:
        """The step that has a value in some order of its axes; as in ONNX when none is given."""
        value = self.values[name]
        order = order or tuple(range(len(value.order)))
        if value.order == order:
            return value.step
        places = [value.order.index(axis) for axis in order]
        return self.step("transpose", [value.step], axes=places)

    def step(self, do: str, inputs: Sequence[str], **options: Any) -> str:
        """Add a step; returns its name."""
        name = f"step_{len(self.steps)}"
        self.steps.append({"do": do, "from": list(inputs), "to": name, **options})
        return name

    def array(self, numbers: NDArray[Any]) -> str:
        """Keep numbers for a step; returns their name."""
        name = f"array_{len(self.arrays)}"
        self.arrays[name] = np.ascontiguousarray(numbers, np.float32)
        return name

    def keep(self, node: onnx.NodeProto, step: str, order: Order | None = None) -> None:
        """Say that a step made the output of a node, in some order of its axes; as in ONNX when none is given."""
        name = node.output[0]
        self.values[name] = Value(step, order or tuple(range(len(self.shape(name)))))

    def same(self, node: onnx.NodeProto) -> None:
        """Say that a node changes nothing."""
        self.values[node.output[0]] = self.values[next(name for name in node.input if self.moves(name))]


def unsupported(node: onnx.NodeProto, which: str = "") -> InputError:
    """The error for an operator that has no counterpart here."""
    return InputError(
        f"the network has an operator {node.op_type} {which or 'that is not known here'}, which cannot be rebuilt in "
        f"Keras; {INSTEAD}"
    )


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by their names."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def windows(plan: Plan, node: onnx.NodeProto, kernel: Sequence[int], attributes: dict[str, Any]) -> list[list[int]]:
    """How far a convolution or pool reaches beyond its picture: [[top, bottom], [left, right]] in pixels.

    What it leaves out at the lower and right end is not told. Raises InputError when its padding is not explicit.
    """
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or len(kernel) != 2:
        raise unsupported(node, "that is not over the two axes of a picture with its padding told in pixels")
    before = list(attributes.get("pads", [0] * 4))[:2]
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    inside, outside = plan.shape(node.input[0])[2:], plan.shape(node.output[0])[2:]
    reach = [
        (count - 1) * stride + (size - 1) * dilation + 1
        for count, stride, size, dilation in zip(outside, strides, kernel, dilations, strict=True)
    ]
    return [[first, max(0, end - first - side)] for first, end, side in zip(before, reach, inside, strict=True)]


def broadcast(numbers: NDArray[Any], order: Order) -> NDArray[Any]:
    """A constant as it stands beside a value whose axes are in some order. Numbers with one element fit any."""
    numbers = numbers.reshape((1,) * (len(order) - numbers.ndim) + numbers.shape)
    return numbers.transpose(order)


def whole(shape: Sequence[int]) -> bool:
    """Whether a shape can be told with at most one side left open."""
    return sum(side == OF_THE_BATCH for side in shape) <= 1
