"""The steps of a Keras network, carried out by torch here, against the ONNX graph on ONNX Runtime."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from hemascope.errors import InputError
from hemascope.export import keras_network
from hemascope.export.operators import plan_of
from hemascope.export.plan import Plan
from hemascope.export.specialise import specialise

SIDE, CHANNELS, END = 11, 6, "probabilities"
RNG = np.random.default_rng(8)


def graph_of(*nodes: onnx.NodeProto, **constants: np.ndarray | np.float32) -> onnx.ModelProto:
    """From pictures to "x", float (n, CHANNELS, SIDE, SIDE) of either sign, and by `nodes` to "probabilities"."""
    front = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["channels_first", "middle"], ["centred"]),
        helper.make_node("Conv", ["centred", "mixing"], ["x"]),
    ]
    constants = {
        "middle": np.full((1, 3, 1, 1), 127.5, np.float32),
        "mixing": RNG.normal(0, 0.02, (CHANNELS, 3, 1, 1)).astype(np.float32),
        **constants,
    }
    graph = helper.make_graph(
        [*front, *nodes],
        "tested",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def carried_out(plan: Plan, images: np.ndarray) -> np.ndarray:
    """The steps of a plan by torch, which has channels first, as ONNX has."""
    arrays = {name: torch.tensor(value) for name, value in plan.arrays.items()}
    known: dict[str, torch.Tensor] = {"start": torch.from_numpy(images).float(), **arrays}
    for step in plan.steps:
        inputs = [known[name] for name in step["from"]]
        weights = [arrays[name] for name in step.get("weights", [])]
        known[step["to"]] = STEPS[step["do"]](inputs, weights, step)
    return known["end"].numpy()


def first(value: torch.Tensor) -> torch.Tensor:
    return value.permute(0, 3, 1, 2)


def last(value: torch.Tensor) -> torch.Tensor:
    return value.permute(0, 2, 3, 1)


def convolution(inputs: list[torch.Tensor], weights: list[torch.Tensor], step: Mapping[str, Any]) -> torch.Tensor:
    kernel, bias = weights
    groups = step.get("groups", 0)
    if step["do"] == "depthwise":
        height, width, channels, each = kernel.shape
        kernel, groups = kernel.permute(2, 3, 0, 1).reshape(channels * each, 1, height, width), channels
    else:
        kernel = kernel.permute(3, 2, 0, 1)
    strides, dilations = tuple(step["strides"]), tuple(step["dilations"])
    return last(functional.conv2d(first(inputs[0]), kernel, bias, strides, 0, dilations, groups))


def pad(inputs: list[torch.Tensor], weights: list[torch.Tensor], step: Mapping[str, Any]) -> torch.Tensor:
    (top, bottom), (left, right) = step["pads"]
    return functional.pad(inputs[0], (0, 0, left, right, top, bottom), value=step["value"])


def pool(inputs: list[torch.Tensor], weights: list[torch.Tensor], step: Mapping[str, Any]) -> torch.Tensor:
    function = functional.max_pool2d if step["do"] == "max_pool" else functional.avg_pool2d
    return last(function(first(inputs[0]), tuple(step["window"]), tuple(step["strides"])))


def cut(inputs: list[torch.Tensor], weights: list[torch.Tensor], step: Mapping[str, Any]) -> torch.Tensor:
    return torch.from_numpy(inputs[0].numpy()[tuple(slice(*(part or [None])) for part in step["cuts"])].copy())


def normalisation(inputs: list[torch.Tensor], weights: list[torch.Tensor], step: Mapping[str, Any]) -> torch.Tensor:
    scale, bias, mean, variance = weights
    return (inputs[0] - mean) / torch.sqrt(variance + step["epsilon"]) * scale + bias


STEPS: dict[str, Callable[[list[torch.Tensor], list[torch.Tensor], Mapping[str, Any]], torch.Tensor]] = {
    "end": lambda i, w, s: i[0],
    "convolution": convolution,
    "depthwise": convolution,
    "pad": pad,
    "max_pool": pool,
    "average_pool": pool,
    "slice": cut,
    "normalisation": normalisation,
    "dense": lambda i, w, s: i[0] @ w[0] + w[1],
    "product": lambda i, w, s: i[0] @ i[1],
    "transpose": lambda i, w, s: i[0].permute(s["axes"]),
    "reshape": lambda i, w, s: i[0].reshape(s["shape"]),
    "concatenation": lambda i, w, s: torch.cat(i, s["axis"]),
    "mean": lambda i, w, s: i[0].mean(s["axes"], s["keep"]),
    "sum": lambda i, w, s: i[0].sum(s["axes"], s["keep"]),
    "logsumexp": lambda i, w, s: i[0].logsumexp(s["axes"], s["keep"]),
    "maximum_of": lambda i, w, s: i[0].amax(s["axes"], s["keep"]),
    "take": lambda i, w, s: i[0].index_select(s["axis"], torch.tensor(s["places"])),
    "look_up": lambda i, w, s: i[1][i[0].long()],
    "truncate": lambda i, w, s: i[0].trunc(),
    "clip": lambda i, w, s: i[0].clamp(s["low"], s["high"]),
    "ramp": lambda i, w, s: (i[0] * s["slope"] + s["offset"]).clamp(0, 1),
    "hard_swish": lambda i, w, s: functional.hardswish(i[0]),
    "leaky_relu": lambda i, w, s: functional.leaky_relu(i[0], s["slope"]),
    "softmax": lambda i, w, s: i[0].softmax(s["axis"]),
    "log_softmax": lambda i, w, s: i[0].log_softmax(s["axis"]),
    **{
        name: functools.partial(lambda function, i, w, s: function(*i), function)
        for name, function in {
            "absolute": torch.abs, "add": torch.add, "divide": torch.divide, "erf": torch.erf, "exp": torch.exp,
            "floor": torch.floor, "log": torch.log, "maximum": torch.maximum, "minimum": torch.minimum,
            "multiply": torch.multiply, "negative": torch.negative, "power": torch.pow,
            "reciprocal": torch.reciprocal, "relu": torch.relu, "sigmoid": torch.sigmoid,
            "softplus": functional.softplus, "sqrt": torch.sqrt, "subtract": torch.subtract, "tanh": torch.tanh,
        }.items()
    },
}  # fmt: skip


def one(operator: str, *constants: np.ndarray | np.float32 | None, **attributes: Any) -> onnx.ModelProto:
    """A graph that ends in one operator on "x" and some constants."""
    names = ["" if value is None else f"constant_{place}" for place, value in enumerate(constants)]
    node = helper.make_node(operator, ["x", *names], ["probabilities"], **attributes)
    return graph_of(node, **{name: value for name, value in zip(names, constants, strict=True) if value is not None})


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def axes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


GRAPHS = {
    "a convolution padded unevenly": one("Conv", numbers(5, 6, 4, 3), numbers(5), pads=[1, 0, 2, 1], strides=[2, 3]),
    "one with dilations": one("Conv", numbers(5, CHANNELS, 3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]),
    "one in groups": one("Conv", numbers(8, 3, 3, 3), numbers(8), group=2, pads=[1, 1, 1, 1], strides=[2, 2]),
    "one for each channel": one("Conv", numbers(CHANNELS, 1, 5, 5), group=CHANNELS, pads=[2, 2, 2, 2], strides=[2, 2]),
    "two for each channel": one("Conv", numbers(2 * CHANNELS, 1, 3, 3), numbers(2 * CHANNELS), group=CHANNELS),
    "the largest, padded": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "the largest, rounded up": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "means of what is there": one("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=0),
    "means beyond": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    "means within": one("AveragePool", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]),
    "the mean of all": one("GlobalAveragePool"),
    "the largest of all": one("GlobalMaxPool"),
    "a mean over places": one("ReduceMean", axes(2, 3), keepdims=0),
    "a mean over channels": one("ReduceMean", axes(1), keepdims=1),
    "a sum over rows": one("ReduceSum", axes(-2), keepdims=0),
    "logsumexp": one("ReduceLogSumExp", axes(1), keepdims=0),
    "normalised": one("BatchNormalization", numbers(6), numbers(6), numbers(6), numbers(6) ** 2 + 0.1, epsilon=1e-3),
    "softmax over channels": one("Softmax", axis=1),
    "log-softmax over columns": one("LogSoftmax", axis=-1),
    "clipped": one("Clip", np.float32(0), np.float32(6)),
    "clipped below": one("Clip", np.float32(-0.5)),
    "clipped above": one("Clip", None, np.float32(0.5)),
    "a ramp": one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard swish": one("HardSwish"),
    "leaky": one("LeakyRelu", alpha=0.1),
    "erf": one("Erf"),
    "softplus": one("Softplus"),
    "a constant for each channel": one("Mul", numbers(CHANNELS, 1, 1)),
    "a constant for each column": one("Sub", numbers(SIDE)),
    "the larger": one("Max", np.float32(0.1), numbers(1, CHANNELS, 1, 1)),
    "a product on the right": one("MatMul", numbers(SIDE, 4)),
    "flattened": one("Flatten", axis=1),
    "turned": one("Slice", axes(-1), axes(np.iinfo(np.int64).min), axes(3), axes(-1)),
    "cut": one("Slice", axes(1, 2), axes(-1, np.iinfo(np.int64).max), axes(1, 2), axes(2, 1)),
    "transposed": one("Transpose", perm=[0, 1, 3, 2]),
    "reshaped": one("Reshape", axes(0, 2, -1, SIDE)),
    "another axis": one("Unsqueeze", axes(1)),
    "rows by their places": one("Gather", axes(0, 0, 3, 2, -1), axis=2),
}  # fmt: skip


ORDERS = graph_of(
    helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 1, 3, 2]),
    helper.make_node("Add", ["x", "turned"], ["sum"]),
    helper.make_node("Concat", ["turned", "sum"], ["both"], axis=1),
    helper.make_node("GlobalAveragePool", ["both"], ["squeezed"]),
    helper.make_node("Sigmoid", ["squeezed"], ["gate"]),
    helper.make_node("Mul", ["both", "gate"], ["gated"]),
    helper.make_node("MatMul", ["rows", "gated"], ["fewer_rows"]),
    helper.make_node("ReduceMean", ["fewer_rows", "places"], ["means"], keepdims=0),
    helper.make_node("Gemm", ["means", "kernel", "bias"], ["logits"], transB=1, alpha=0.5, beta=2.0),
    helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    rows=numbers(4, SIDE),
    places=axes(2, 3),
    kernel=numbers(5, 2 * CHANNELS),
    bias=numbers(5),
)
"""Values that are kept in different orders of their axes meet in it."""

LOOKED_UP = graph_of(
    helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT32),
    helper.make_node("Abs", ["whole"], ["level"]),
    helper.make_node("Gather", ["table", "level"], [END], axis=0),
    table=numbers(64),
)
"""Numbers, some below zero, become whole and then others by a table."""

IMAGES = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


def check(model: onnx.ModelProto, carried: Callable[[Plan, np.ndarray], np.ndarray] = carried_out) -> None:
    """Assert that a graph gives on ONNX Runtime what its steps give where they are carried out."""
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": IMAGES})[0]
    found = carried(plan_of(specialise(model, SIDE)), IMAGES)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("name", GRAPHS)
def test_an_operator_becomes_steps_that_give_the_same(name: str) -> None:
    check(GRAPHS[name])


@pytest.mark.parametrize("model", [ORDERS, LOOKED_UP])
def test_values_in_different_orders_meet_and_are_looked_up(model: onnx.ModelProto) -> None:
    check(model)


def read_answers(path: Path, plan: Plan, images: np.ndarray) -> np.ndarray:
    return np.asarray(np.load(path))


def test_keras_gives_the_same_for_every_operator(tmp_path: Path) -> None:
    """All graphs in one process, as TensorFlow takes seconds to begin."""
    if not (python := os.environ.get("HEMASCOPE_KERAS_PYTHON")):
        pytest.skip("HEMASCOPE_KERAS_PYTHON names no Python of an environment with TensorFlow 2.17 and Keras 3.4")
    graphs = [*GRAPHS.values(), ORDERS, LOOKED_UP]
    for number, graph in enumerate(graphs):
        plan = plan_of(specialise(graph, SIDE))
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "network.json").write_text(json.dumps({"steps": plan.steps, "side": SIDE}))
        np.savez(tmp_path / str(number) / "network.npz", allow_pickle=False, **plan.arrays)
    np.save(tmp_path / "images.npy", IMAGES)
    code = (
        "import sys; from pathlib import Path; import numpy as np; exec(Path(sys.argv[1]).read_text())\n"
        "for folder in [path for path in Path().iterdir() if path.is_dir()]:\n"
        "    np.save(folder / 'found.npy', Network(folder).probabilities(np.load('images.npy')))\n"
    )
    subprocess.run(
        [python, "-I", "-c", code, str(keras_network.__file__)], cwd=tmp_path, check=True, capture_output=True
    )
    for number, graph in enumerate(graphs):
        check(graph, functools.partial(read_answers, tmp_path / str(number) / "found.npy"))


def test_resizing_to_the_size_that_is_there_takes_no_step() -> None:
    plan = plan_of(specialise(one("MatMul", np.eye(SIDE, dtype=np.float32)), SIDE))
    assert "product" not in {step["do"] for step in plan.steps}


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (one("LayerNormalization", numbers(SIDE), axis=-1), "has the operators LayerNormalization, which cannot be"),
        (one("Conv", numbers(5, CHANNELS, 3, 3), auto_pad="SAME_UPPER"), "Conv that is not over the two axes"),
        (one("Slice", axes(1), axes(3), axes(0)), "Slice that leaves out pictures"),
        (one("Gather", axes(1), axis=0), "Gather that takes out single values or pictures"),
        (one("Cast", to=TensorProto.DOUBLE), "Cast to another kind of number"),
        (graph_of(helper.make_node("MatMul", ["x", "x"], ["y"]), helper.make_node("Conv", ["x", "y"], [END])),
         "Conv whose input 2 is computed from the pictures"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_with_what_to_do(model: onnx.ModelProto, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as told:
        plan_of(specialise(model, SIDE))
    assert "make the submission with --runtime onnx" in str(told.value)
