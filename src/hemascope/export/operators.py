"""Each operator of ONNX that a convolutional network is made of, as steps of a Keras one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hemascope.errors import InputError
from hemascope.export.plan import (
    CHANNELS_LAST,
    INSTEAD,
    Plan,
    Value,
    attributes_of,
    broadcast,
    unsupported,
    whole,
    windows,
)
from hemascope.export.specialise import OF_THE_BATCH, Specialised

Operator = Callable[[Plan, onnx.NodeProto], None]

LOWEST = float(np.finfo(np.float32).min)
WHOLE = (onnx.TensorProto.UINT8, onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def plan_of(source: Specialised) -> Plan:
    """The steps of a network, from pictures float (n, side, side, 3) with whole numbers 0..255 to its last value.

    The last step has the name "end". Raises InputError when some operator has no counterpart.
    """
    plan = Plan(source)
    plan.values[source.start] = Value("start", (0, 1, 2, 3))
    if missing := sorted({node.op_type for node in source.nodes} - set(OPERATORS)):
        raise InputError(
            f"the network has the operators {', '.join(missing)}, which cannot be rebuilt in Keras; {INSTEAD}"
        )
    for node in source.nodes:
        OPERATORS[node.op_type](plan, node)
    plan.steps.append({"do": "end", "from": [plan.in_order(source.end)], "to": "end"})
    return plan


def _convolution(plan: Plan, node: onnx.NodeProto) -> None:
    attributes, kernel = attributes_of(node), plan.constant(node, 1)
    assert kernel is not None
    pads = windows(plan, node, kernel.shape[2:], attributes)
    inputs, groups, outputs = plan.shape(node.input[0])[1], int(attributes.get("group", 1)), len(kernel)
    bias = plan.constant(node, 2)
    bias = np.zeros(outputs, np.float32) if bias is None else bias
    options: dict[str, Any] = {
        "strides": list(attributes.get("strides", [1, 1])),
        "dilations": list(attributes.get("dilations", [1, 1])),
    }
    if 1 < groups == inputs:
        each = outputs // groups
        kernel = kernel.reshape(groups, each, *kernel.shape[2:]).transpose(2, 3, 0, 1)
        do = "depthwise"
    else:
        kernel = kernel.transpose(2, 3, 1, 0)
        do, options["groups"] = "convolution", groups
    start = _padded(plan, plan.in_order(node.input[0], CHANNELS_LAST), pads, 0.0)
    step = plan.step(do, [start], weights=[plan.array(kernel), plan.array(bias)], **options)
    plan.keep(node, step, CHANNELS_LAST)


def _padded(plan: Plan, step: str, pads: list[list[int]], value: float) -> str:
    return plan.step("pad", [step], pads=pads, value=value) if np.any(pads) else step


def _max_pool(plan: Plan, node: onnx.NodeProto) -> None:
    attributes = attributes_of(node)
    if len(node.output) > 1 or list(attributes.get("dilations", [1, 1])) != [1, 1]:
        raise unsupported(node, "with dilations or places")
    pads = windows(plan, node, attributes["kernel_shape"], attributes)
    start = _padded(plan, plan.in_order(node.input[0], CHANNELS_LAST), pads, LOWEST)
    step = plan.step("max_pool", [start], **_pool(attributes))
    plan.keep(node, step, CHANNELS_LAST)


def _average_pool(plan: Plan, node: onnx.NodeProto) -> None:
    attributes = attributes_of(node)
    kernel = attributes["kernel_shape"]
    if list(attributes.get("dilations", [1, 1])) != [1, 1]:
        raise unsupported(node, "with dilations")
    pads = windows(plan, node, kernel, attributes)
    start = _padded(plan, plan.in_order(node.input[0], CHANNELS_LAST), pads, 0.0)
    step = plan.step("average_pool", [start], **_pool(attributes))
    # At the border a mean is over fewer pixels than the window has.
    correction = np.ones((1, 1, 1, 1))
    for axis in range(2):
        inside, outside = plan.shape(node.input[0])[2 + axis], plan.shape(node.output[0])[2 + axis]
        told = attributes.get("pads", [0] * 4)
        low, high = (-told[axis], inside + told[2 + axis]) if attributes.get("count_include_pad", 0) else (0, inside)
        first = np.arange(outside) * attributes.get("strides", [1, 1])[axis] - told[axis]
        counted = np.minimum(first + kernel[axis], high) - np.maximum(first, low)
        shape = [1, outside, 1, 1] if axis == 0 else [1, 1, outside, 1]
        correction = correction * (kernel[axis] / counted).reshape(shape)
    if not np.allclose(correction, 1):
        step = plan.step("multiply", [step, plan.array(correction)])
    plan.keep(node, step, CHANNELS_LAST)


def _pool(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"window": list(attributes["kernel_shape"]), "strides": list(attributes.get("strides", [1, 1]))}


def _global_pool(plan: Plan, node: onnx.NodeProto, do: str) -> None:
    order = plan.values[node.input[0]].order
    axes = [order.index(axis) for axis in range(2, len(order))]
    plan.keep(node, plan.step(do, [plan.in_order(node.input[0], order)], axes=axes, keep=True), order)


def _reduction(plan: Plan, node: onnx.NodeProto, do: str) -> None:
    attributes, order = attributes_of(node), plan.values[node.input[0]].order
    told = plan.constant(node, 1)
    axes = list(attributes.get("axes", [])) if told is None else told.tolist()
    if not axes:
        raise unsupported(node, "over all axes")
    axes = [int(axis) % len(order) for axis in axes]
    keep = bool(attributes.get("keepdims", 1))
    step = plan.step(do, [plan.in_order(node.input[0], order)], axes=[order.index(axis) for axis in axes], keep=keep)
    left = order if keep else _renumbered([axis for axis in order if axis not in axes])
    plan.keep(node, step, left)


def _renumbered(axes: list[int]) -> tuple[int, ...]:
    return tuple(sorted(axes).index(axis) for axis in axes)


def _normalisation(plan: Plan, node: onnx.NodeProto) -> None:
    scale, bias, mean, variance = (plan.constant(node, place) for place in range(1, 5))
    assert scale is not None
    assert bias is not None
    assert mean is not None
    assert variance is not None
    order = CHANNELS_LAST if len(plan.shape(node.input[0])) == 4 else None
    start = plan.in_order(node.input[0], order)
    weights = [plan.array(numbers) for numbers in (scale, bias, mean, variance)]
    epsilon = float(attributes_of(node).get("epsilon", 1e-5))
    plan.keep(node, plan.step("normalisation", [start], weights=weights, epsilon=epsilon), order)


def _dense(plan: Plan, node: onnx.NodeProto) -> None:
    attributes, kernel = attributes_of(node), plan.constant(node, 1)
    assert kernel is not None
    if attributes.get("transA", 0):
        raise unsupported(node, "that transposes its first input")
    kernel = (kernel.T if attributes.get("transB", 0) else kernel) * attributes.get("alpha", 1.0)
    told = plan.constant(node, 2)
    bias: NDArray[Any] = np.zeros(kernel.shape[1]) if told is None else told * attributes.get("beta", 1.0)
    weights = [plan.array(kernel), plan.array(np.broadcast_to(bias.reshape(-1), kernel.shape[1:]))]
    plan.keep(node, plan.step("dense", [plan.in_order(node.input[0])], weights=weights))


def _product(plan: Plan, node: onnx.NodeProto) -> None:
    constants = [plan.source.constants.get(name) for name in node.input]
    for numbers in constants:
        # The resizing of a picture that has the network's size already.
        if numbers is not None and numbers.ndim == 2 and np.array_equal(numbers, np.eye(len(numbers))):
            plan.same(node)
            return
    inputs = [
        plan.in_order(name) if numbers is None else plan.array(numbers)
        for name, numbers in zip(node.input, constants, strict=True)
    ]
    plan.keep(node, plan.step("product", inputs))


def _alike(plan: Plan, node: onnx.NodeProto, do: str, **options: Any) -> None:
    """An operator that takes each number by itself."""
    order = plan.values[node.input[0]].order
    plan.keep(node, plan.step(do, [plan.in_order(node.input[0], order)], **options), order)


def _clip(plan: Plan, node: onnx.NodeProto) -> None:
    low, high = (plan.constant(node, place) for place in (1, 2))
    limits = (float(LOWEST if low is None else low), float(-LOWEST if high is None else high))
    _alike(plan, node, "clip", low=limits[0], high=limits[1])


def _hard_sigmoid(plan: Plan, node: onnx.NodeProto) -> None:
    attributes = attributes_of(node)
    _alike(plan, node, "ramp", slope=float(attributes.get("alpha", 0.2)), offset=float(attributes.get("beta", 0.5)))


def _leaky(plan: Plan, node: onnx.NodeProto) -> None:
    _alike(plan, node, "leaky_relu", slope=float(attributes_of(node).get("alpha", 0.01)))


def _over_axis(plan: Plan, node: onnx.NodeProto, do: str) -> None:
    order = plan.values[node.input[0]].order
    _alike(plan, node, do, axis=order.index(int(attributes_of(node).get("axis", -1)) % len(order)))


def _together(plan: Plan, node: onnx.NodeProto, do: str) -> None:
    """An operator on several values, whose shapes are brought to one."""
    rank = len(plan.shape(node.output[0]))
    moving = [name for name in node.input if plan.moves(name)]
    alike = all(len(plan.shape(name)) == rank for name in moving)
    order = plan.values[moving[0]].order if alike else tuple(range(rank))
    inputs = []
    for name in node.input:
        if plan.moves(name):
            inputs.append(plan.in_order(name, order if alike else None))
        elif name in plan.source.constants:
            inputs.append(plan.array(broadcast(plan.source.constants[name], order)))
        else:
            raise unsupported(node, "beside something whose shape depends on how many pictures there are")
    step = inputs[0]
    for other in inputs[1:]:
        step = plan.step(do, [step, other])
    plan.keep(node, step, order)


def _concatenation(plan: Plan, node: onnx.NodeProto) -> None:
    if not all(plan.moves(name) for name in node.input):
        raise unsupported(node, "of constants beside the pictures")
    order = plan.values[node.input[0]].order
    axis = order.index(int(attributes_of(node)["axis"]) % len(order))
    inputs = [plan.in_order(name, order) for name in node.input]
    plan.keep(node, plan.step("concatenation", inputs, axis=axis), order)


def _transposition(plan: Plan, node: onnx.NodeProto) -> None:
    value = plan.values[node.input[0]]
    axes = list(attributes_of(node).get("perm", range(len(value.order))[::-1]))
    plan.values[node.output[0]] = Value(value.step, tuple(axes.index(axis) for axis in value.order))


def _reshaping(plan: Plan, node: onnx.NodeProto) -> None:
    shape = plan.shape(node.output[0])
    if not whole(shape):
        raise unsupported(node, "to a shape of which two sides depend on how many pictures there are")
    plan.keep(node, plan.step("reshape", [plan.in_order(node.input[0])], shape=list(shape)))


def _slicing(plan: Plan, node: onnx.NodeProto) -> None:
    starts, ends, axes, steps = (plan.constant(node, place) for place in range(1, 5))
    assert starts is not None
    assert ends is not None
    order, shape = plan.values[node.input[0]].order, plan.shape(node.input[0])
    places = range(len(starts)) if axes is None else [int(axis) % len(order) for axis in axes]
    cuts: list[list[int | None] | None] = [None] * len(order)
    for number, axis in enumerate(places):
        side = shape[axis]
        step = 1 if steps is None else int(steps[number])
        if side == OF_THE_BATCH:
            if (int(starts[number]), step) != (0, 1) or int(ends[number]) < 2**31 - 1:
                raise unsupported(node, "that leaves out pictures")
            continue
        first, last, step = slice(int(starts[number]), int(ends[number]), step).indices(side)
        if (first, last, step) != (0, side, 1):
            cuts[order.index(axis)] = [first, None if last < 0 else last, step]
    if not any(cuts):
        plan.same(node)
        return
    _alike(plan, node, "slice", cuts=cuts)


def _same(plan: Plan, node: onnx.NodeProto) -> None:
    plan.same(node)


def _gathering(plan: Plan, node: onnx.NodeProto) -> None:
    axis = int(attributes_of(node).get("axis", 0))
    table = plan.source.constants.get(node.input[0])
    if table is not None:
        if table.ndim != 1:
            raise unsupported(node, "from a table of several columns")
        order = plan.values[node.input[1]].order
        plan.keep(node, plan.step("look_up", [plan.in_order(node.input[1], order), plan.array(table)]), order)
        return
    order, places = plan.values[node.input[0]].order, plan.constant(node, 1)
    assert places is not None
    side = plan.shape(node.input[0])[axis]
    if places.ndim != 1 or side == OF_THE_BATCH:
        raise unsupported(node, "that takes out single values or pictures")
    _alike(plan, node, "take", places=(places % side).tolist(), axis=order.index(axis % len(order)))


def _cast(plan: Plan, node: onnx.NodeProto) -> None:
    to = attributes_of(node)["to"]
    if to in WHOLE:
        # Numbers stay float32 here, which holds whole ones up to 2**24.
        _alike(plan, node, "truncate")
    elif to == onnx.TensorProto.FLOAT:
        plan.same(node)
    else:
        raise unsupported(node, "to another kind of number than float32 or whole ones")


OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _normalisation,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concatenation,
    "Conv": _convolution,
    "Dropout": _same,
    "Flatten": _reshaping,
    "Gather": _gathering,
    "Gemm": _dense,
    "GlobalAveragePool": partial(_global_pool, do="mean"),
    "GlobalMaxPool": partial(_global_pool, do="maximum_of"),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _same,
    "LeakyRelu": _leaky,
    "LogSoftmax": partial(_over_axis, do="log_softmax"),
    "MatMul": _product,
    "MaxPool": _max_pool,
    "Reshape": _reshaping,
    "Slice": _slicing,
    "Softmax": partial(_over_axis, do="softmax"),
    "Squeeze": _reshaping,
    "Transpose": _transposition,
    "Unsqueeze": _reshaping,
    **{
        name: partial(_alike, do=do)
        for name, do in {
            "Abs": "absolute",
            "Erf": "erf",
            "Exp": "exp",
            "Floor": "floor",
            "HardSwish": "hard_swish",
            "Log": "log",
            "Neg": "negative",
            "Reciprocal": "reciprocal",
            "Relu": "relu",
            "Sigmoid": "sigmoid",
            "Softplus": "softplus",
            "Sqrt": "sqrt",
            "Tanh": "tanh",
        }.items()
    },
    **{
        name: partial(_together, do=do)
        for name, do in {
            "Add": "add",
            "Div": "divide",
            "Max": "maximum",
            "Min": "minimum",
            "Mul": "multiply",
            "Pow": "power",
            "Sub": "subtract",
            "Sum": "add",
        }.items()
    },
    **{
        name: partial(_reduction, do=do)
        for name, do in {
            "ReduceLogSumExp": "logsumexp",
            "ReduceMax": "maximum_of",
            "ReduceMean": "mean",
            "ReduceSum": "sum",
        }.items()
    },
}
"""What each operator becomes."""
