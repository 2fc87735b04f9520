from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from hemascope.data import Cells
from hemascope.precision import LEAST_NUMBERS, has_half_weights, with_half_weights, with_whole_weights
from hemascope.run import Run
from hemascope.runtime import Model


def test_half_weights_are_half_the_size_and_answer_alike(finished: Run, drawn: Cells, tmp_path: Path) -> None:
    whole = onnx.load(finished.model / "model.onnx")
    onnx.save(with_half_weights(whole), tmp_path / "half.onnx")
    images = np.asarray(drawn.images[:20])
    exact, near = (Model(path).answers(images) for path in (finished.model / "model.onnx", tmp_path / "half.onnx"))
    assert 0 < np.abs(exact.probabilities - near.probabilities).max() < 1e-2
    assert np.abs(exact.embedding - near.embedding).max() < 0.02 * np.abs(exact.embedding).max()
    small = onnx.load(tmp_path / "half.onnx")
    sizes = [sum(len(tensor.raw_data) for tensor in model.graph.initializer) for model in (whole, small)]
    assert sizes[1] < 0.6 * sizes[0]


def test_what_half_precision_cannot_hold_stays_as_it_is(finished: Run) -> None:
    whole = onnx.load(finished.model / "model.onnx")
    large = next(tensor for tensor in whole.graph.initializer if np.prod(tensor.dims) >= LEAST_NUMBERS)
    numbers = numpy_helper.to_array(large).copy()
    numbers.reshape(-1)[0] = 1e5
    large.CopyFrom(numpy_helper.from_array(numbers, large.name))
    kept = {tensor.name: tensor for tensor in with_half_weights(whole).graph.initializer}
    assert np.array_equal(numpy_helper.to_array(kept[large.name]), numbers)
    little = [tensor.name for tensor in whole.graph.initializer if np.prod(tensor.dims) < LEAST_NUMBERS]
    assert set(little) <= set(kept)


def test_whole_weights_undo_half_ones_but_for_their_rounding(finished: Run, drawn: Cells, tmp_path: Path) -> None:
    run = onnx.load(finished.model / "model.onnx")
    half = with_half_weights(run)
    whole = with_whole_weights(half)
    assert has_half_weights(half)
    assert not has_half_weights(whole)
    onnx.checker.check_model(whole)
    assert [node.op_type for node in whole.graph.node] == [node.op_type for node in run.graph.node]
    for name, model in (("half", half), ("whole", whole)):
        onnx.save(model, tmp_path / f"{name}.onnx")
    images = np.asarray(drawn.images[:20])
    rounded, found = (Model(tmp_path / f"{name}.onnx").predict(images) for name in ("half", "whole"))
    assert np.abs(rounded - found).max() < 1e-6


def test_whole_weights_of_whole_weights_are_the_same(finished: Run) -> None:
    run = onnx.load(finished.model / "model.onnx")
    assert with_whole_weights(run).SerializeToString(deterministic=True) == run.SerializeToString(deterministic=True)
