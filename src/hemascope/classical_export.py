"""A classical model -> one ONNX file that takes its features and gives probabilities, checked before it is kept.

The estimator is converted by skl2onnx; nothing is pickled. The file names the features that it takes, which
`hemascope.runtime` computes without scikit-learn.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper
from scipy.special import softmax
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_classifier
from sklearn.ensemble import HistGradientBoostingClassifier

from hemascope.assembly import assemble
from hemascope.classical import KINDS, LEAST, LIMIT, STEEPNESS, ClassicalModel, comparisons, fit_classical
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.features import SIDE, Floats, feature_set
from hemascope.files import write_json
from hemascope.progress import Say
from hemascope.recipe import Recipe
from hemascope.run import Run
from hemascope.runtime import PURPOSE
from hemascope.tail import OPSET, Nodes
from hemascope.trust.fitted import Trust
from hemascope.version import __version__

TOLERANCE = 1e-3
"""The largest difference in a probability between the model and its file, which counts in 32 bits."""

NEVER = 1e-38
"""The probability, near the least that float32 holds, in the place of none, so that it has a logarithm."""

_OPSETS = {"": OPSET, "ai.onnx.ml": 3}


def train_classical(
    cells: Cells, recipe: Recipe, run: Run, seed: int = 0, max_minutes: float | None = None, say: Say = print
) -> None:
    """Fit a classical recipe (`fit_classical`), and write its model.onnx and model.json into the run folder."""
    fitted = fit_classical(cells, recipe, seed, max_minutes, say)
    difference, parameters, trust = export_classical(
        fitted.model,
        run.model / "model.onnx",
        cells,
        fitted.held_out,
        {"recipe": recipe.name, "weights": "none", "version": __version__},
        seed,
    )
    described = {
        "recipe": recipe.name,
        "class_names": list(cells.class_names),
        "weights": "none",
        "parameters": parameters,
        "stages": [],
        "notes": [*fitted.notes, *trust.notes],
        "features": fitted.model.features,
        "settings": fitted.chosen,
        "tried": fitted.tried,
        "largest_difference_of_export": difference,
        "purpose": PURPOSE,
    }
    write_json(run.model / "model.json", described)


def export_classical(
    model: ClassicalModel, path: Path, cells: Cells, held_out: Floats, metadata: Mapping[str, str], seed: int = 0
) -> tuple[float, int, Trust]:
    """Write a model as ONNX for features float32 (batch, d), any batch; `hemascope.runtime` makes them of pictures.

    cells: what trained it, split. Returns the largest difference in probability from the model itself, on some of their
    pictures and on the features `held_out` (m, d); how many numbers the file holds; and what was fitted of when to
    trust it. Raises InputError, and leaves no file, when the difference is over TOLERANCE.
    """
    describe = feature_set(model.features)
    proto = to_onnx(model, held_out.shape[1])
    whole = assemble(proto, cells, SIDE, {"features": model.features, **metadata}, describe=describe, seed=seed)
    told, own = (softmax(logits, axis=1) for logits in (whole.asked(held_out)[0], _logarithms(model, held_out)))
    apart = float(np.abs(told - own).max(initial=0.0))
    if not apart <= TOLERANCE:
        raise InputError(
            f"{path.name}: differs from the model by {apart:.2g} in a probability, expected at most {TOLERANCE:g}; no "
            "file was kept: report this with the recipe."
        )
    pictures = np.asarray(cells.in_split("calibration").images[:64])
    difference = whole.write(path, lambda images: _logarithms(model, describe(images)), pictures, TOLERANCE)
    return max(difference, apart), _numbers(proto), whole.trust


def _logarithms(model: ClassicalModel, features: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(model.probabilities(features), NEVER)), np.float32)


def to_onnx(model: ClassicalModel, features: int) -> onnx.ModelProto:
    """A model as a graph, from "features" float32 (batch, features) to "logits" (batch, classes) and "embedding".

    It standardises, which gives the embedding float32 (batch, features), asks the estimator as skl2onnx writes it, and
    makes logarithms of probabilities of its answer. A class that training lacked has one that no softmax shows.
    """
    axes = model.standardise.axes
    proto = _estimator(model, features if axes is None else axes.shape[1])
    graph = proto.graph
    front = Nodes("standardised")
    level = front.add("Mul", front.add("Sub", "features", model.standardise.mean), model.standardise.inverse)
    level = front.add("Clip", level, np.float32(-LIMIT), np.float32(LIMIT))
    front.end(level, "embedding")
    if axes is not None:
        level = front.add("MatMul", front.add("Cast", level, to=TensorProto.DOUBLE), axes)
    front.end(level, graph.input[0].name)
    back = Nodes("scored")
    score = back.add("Cast", graph.output[1].name, to=TensorProto.FLOAT)
    if KINDS[model.kind].margins:
        sides, owners = comparisons(len(model.estimator.classes_))
        # Of two classes, the converter gives both sides already.
        if len(sides) > 1:
            score = back.add("MatMul", score, sides.astype(np.float32))
        # The logarithm of the logistic function.
        score = back.add("Softplus", back.add("Mul", score, np.float32(-STEEPNESS)))
        score = back.add("MatMul", score, -owners.astype(np.float32))
    else:
        score = back.add("Log", back.add("Max", score, np.float32(LEAST)))
    share = back.add("Softmax", back.add("Mul", score, np.float32(model.sharpness)), axis=1)
    placed = back.add("MatMul", share, model.placed)
    back.end(back.add("Log", back.add("Max", placed, np.float32(NEVER))), "logits")
    nodes = [*front.nodes, *graph.node, *back.nodes]
    constants = [*front.constants, *graph.initializer, *back.constants]
    # Shapes that skl2onnx noted are left out: of an SVM's margins it expects one for each class.
    whole = helper.make_graph(
        nodes,
        "classical",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", features])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(model.class_names)]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", features]),
        ],
        constants,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    return helper.make_model(whole, opset_imports=opsets, ir_version=8, producer_name="hemascope")


def _estimator(model: ClassicalModel, width: int) -> onnx.ModelProto:
    """What skl2onnx makes of the estimator: its second output is the margins or the probabilities."""
    kind = FloatTensorType if model.standardise.axes is None else DoubleTensorType
    options: dict[str, Any] = {"zipmap": False}
    if KINDS[model.kind].margins:
        options["raw_scores"] = True
    with warnings.catch_warnings():
        # The converter still looks for the probabilities that scikit-learn's SVC no longer has.
        warnings.simplefilter("ignore")
        found = convert_sklearn(
            model.estimator,
            initial_types=[("standardised", kind([None, width]))],
            options={id(model.estimator): options},
            target_opset=_OPSETS,
            custom_conversion_functions={HistGradientBoostingClassifier: _without_bools},
            custom_shape_calculators={HistGradientBoostingClassifier: calculate_linear_classifier_output_shapes},
        )
    return compose.add_prefix(found, "estimator_")


def _without_bools(scope: Any, operator: Any, container: Any) -> None:
    """Convert boosted trees as skl2onnx does, but for the truth values among its whole numbers.

    protobuf from version 7 on refuses them there, where earlier ones took them for 0 and 1.
    """
    add_node = container.add_node

    def add_numbers(kind: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        lists = {name: value for name, value in attributes.items() if name.startswith("nodes_missing")}
        add_node(kind, inputs, outputs, **attributes | {name: [int(one) for one in lists[name]] for name in lists})

    container.add_node = add_numbers
    convert_sklearn_random_forest_classifier(scope, operator, container)
    container.add_node = add_node


def _numbers(proto: onnx.ModelProto) -> int:
    """How many numbers a model consists of: its constants and what its nodes hold."""
    held = sum(len(value.floats) + len(value.ints) for node in proto.graph.node for value in node.attribute)
    return held + sum(int(np.prod(tensor.dims)) for tensor in proto.graph.initializer)
