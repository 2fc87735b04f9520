"""A network as layers of Keras, from the steps in network.json and the arrays in network.npz."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


class Network:
    """The probabilities of a Keras model that is built layer by layer from the two files beside this one."""

    def __init__(self, folder: Path) -> None:
        # TensorFlow tells of its own start; what is asked here are cells.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        plan = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        with np.load(folder / "network.npz", allow_pickle=False) as arrays:
            self.model = build(plan["steps"], dict(arrays), plan["side"])

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """float32 (n, classes) of uint8 (n, side, side, 3)."""
        return np.asarray(self.model.predict_on_batch(pictures.astype(np.float32)), np.float32)


def build(steps: list[dict[str, Any]], arrays: dict[str, np.ndarray], side: int) -> Any:
    """The model of some steps: float32 (n, side, side, 3), 0 to 255 -> the last step's value."""
    import keras

    start = keras.Input((side, side, 3), dtype="float32")
    known: dict[str, Any] = {"start": start}
    for step in steps:
        inputs = [arrays[name] if name in arrays else known[name] for name in step["from"]]
        weights = [arrays[name] for name in step.get("weights", [])]
        known[step["to"]] = apply(keras, step, inputs, weights)
    return keras.Model(start, known["end"])


def apply(keras: Any, step: dict[str, Any], inputs: list[Any], weights: list[np.ndarray]) -> Any:
    """What one step makes of its inputs."""
    layer = layer_of(keras, step, weights)
    if layer is not None:
        made = layer(inputs[0])
        layer.set_weights(weights)
        return made
    do, ops, value = step["do"], keras.ops, inputs[0]
    if do == "end":
        return value
    if do == "concatenation":
        return keras.layers.Concatenate(axis=step["axis"])(inputs)
    if do == "pad":
        widths = [[0, 0], *step["pads"], [0, 0]]
        return ops.pad(value, widths, mode="constant", constant_values=step["value"])
    if do == "transpose":
        return ops.transpose(value, step["axes"])
    if do == "reshape":
        return ops.reshape(value, step["shape"])
    if do == "slice":
        return value[tuple(slice(*(cut or [None])) for cut in step["cuts"])]
    if do == "take":
        return ops.take(value, np.array(step["places"]), axis=step["axis"])
    if do == "look_up":
        return ops.take(inputs[1], ops.cast(value, "int32"), axis=0)
    if do == "truncate":
        return ops.sign(value) * ops.floor(ops.absolute(value))
    if do == "clip":
        return ops.clip(value, step["low"], step["high"])
    if do == "ramp":
        return ops.clip(value * step["slope"] + step["offset"], 0.0, 1.0)
    if do == "hard_swish":
        return value * ops.clip(value / 6.0 + 0.5, 0.0, 1.0)
    if do == "leaky_relu":
        return ops.leaky_relu(value, step["slope"])
    if do in ("softmax", "log_softmax"):
        return getattr(ops, do)(value, axis=step["axis"])
    if do in ("mean", "sum", "logsumexp"):
        return getattr(ops, do)(value, axis=tuple(step["axes"]), keepdims=step["keep"])
    if do == "maximum_of":
        return ops.max(value, axis=tuple(step["axes"]), keepdims=step["keep"])
    if do == "product":
        return ops.matmul(*inputs)
    # What is left has the name that Keras gives it.
    return getattr(ops, do)(*inputs)


def layer_of(keras: Any, step: dict[str, Any], weights: list[np.ndarray]) -> Any:
    """The layer of a step, which its weights are then put into; None where the step is no layer."""
    do, layers = step["do"], keras.layers
    if do == "convolution":
        height, width, _, filters = weights[0].shape
        return layers.Conv2D(
            filters,
            (height, width),
            strides=step["strides"],
            dilation_rate=step["dilations"],
            groups=step["groups"],
            padding="valid",
        )
    if do == "depthwise":
        height, width, _, each = weights[0].shape
        return layers.DepthwiseConv2D(
            (height, width),
            strides=step["strides"],
            dilation_rate=step["dilations"],
            depth_multiplier=each,
            padding="valid",
        )
    if do == "dense":
        return layers.Dense(weights[0].shape[1])
    if do == "normalisation":
        return layers.BatchNormalization(epsilon=step["epsilon"])
    if do == "pad" and step["value"] == 0:
        return layers.ZeroPadding2D(step["pads"])
    if do == "average_pool":
        return layers.AveragePooling2D(step["window"], strides=step["strides"], padding="valid")
    if do == "max_pool":
        return layers.MaxPooling2D(step["window"], strides=step["strides"], padding="valid")
    if do == "relu":
        return layers.ReLU()
    if do == "clip" and step["low"] == 0:
        return layers.ReLU(max_value=step["high"])
    return None
