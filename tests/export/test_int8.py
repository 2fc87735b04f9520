from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto

from hemascope.corrupt import MEDMNIST_C, corrupt
from hemascope.data import Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.export import int8
from hemascope.export.int8 import Loss, held_out_rows, in_8_bits, loss_of, mildly_corrupted
from hemascope.run import Run
from hemascope.runtime import Model
from hemascope.stress import seed_for
from hemascope.tail import with_tail
from hemascope.trust import Calibration
from hemascope.trust.outliers import OutlierScore


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "CALIBRATING", 24)
    monkeypatch.setattr(int8, "LEAST_MEASURING", 8)


@pytest.mark.usefixtures("few")
def test_the_rows_are_those_held_out_each_once_and_none_does_both(finished: Run, dirty: Cells) -> None:
    calibrating, measuring = held_out_rows(dirty, finished.folder)
    assert len(calibrating) == 24
    rows = np.concatenate([calibrating, measuring])
    hashes = pixel_hashes(dirty)[rows]
    assert len(np.unique(hashes)) == len(rows)
    table = pd.read_csv(finished.split, dtype={"pixel_hash": np.uint64})
    splits = table.set_index("pixel_hash").loc[hashes, "split"]
    assert set(splits) == {"validation", "calibration"}
    assert len(rows) == table.loc[table["split"].isin(("validation", "calibration")), "pixel_hash"].nunique()


def test_too_few_rows_and_no_split_are_refused(finished: Run, drawn: Cells, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 0 labelled pictures .* the file that the run was trained on"):
        held_out_rows(drawn, finished.folder)
    with pytest.raises(InputError, match=r"holds no split\.csv"):
        held_out_rows(drawn, tmp_path)


def test_each_picture_goes_through_one_family_in_turn(drawn: Cells) -> None:
    images, rows = np.asarray(drawn.images[:23]), np.arange(100, 123)
    found = mildly_corrupted(images, rows)
    place = 2 + len(MEDMNIST_C)
    alone = corrupt(
        images[place : place + 1], MEDMNIST_C[2], 1, seed=seed_for("calibration"), rows=rows[place : place + 1]
    )
    assert np.array_equal(found[place : place + 1], alone)
    assert not np.array_equal(found, images)


def test_only_the_network_counts_in_8_bits(finished: Run, drawn: Cells, tmp_path: Path) -> None:
    run = onnx.load(finished.model / "model.onnx")
    images = np.asarray(drawn.images[:64])
    proto = in_8_bits(run, images)
    kinds = [tensor.data_type for tensor in proto.graph.initializer]
    assert kinds.count(TensorProto.INT8) >= sum(node.op_type == "Conv" for node in run.graph.node)
    made = {output: node for node in proto.graph.node for output in node.output}
    softmaxes = [node for node in proto.graph.node if node.op_type == "Softmax"]
    assert all(made[softmax.input[0]].op_type != "DequantizeLinear" for softmax in softmaxes)
    assert len(softmaxes) == 2
    first = next(node for node in proto.graph.node if node.op_type == "QuantizeLinear")
    assert made[first.input[0]].op_type == "Div"
    onnx.save(proto, tmp_path / "int8.onnx")
    found, expected = (Model(path).predict(images) for path in (tmp_path / "int8.onnx", finished.model / "model.onnx"))
    assert 0 < np.abs(found - expected).max() < 0.2


def test_a_model_without_convolutions_is_refused() -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], [name]) for name in ("logits", "embedding")],
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 2])],
        [value(name, TensorProto.FLOAT, ["batch", 2]) for name in ("logits", "embedding")],
    )
    rng = np.random.default_rng(0)
    outliers = OutlierScore.fit(rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), np.arange(9) % 2)
    model = with_tail(onnx.helper.make_model(graph), Calibration(0.0, None, 1.0, (0.5, 0.5)), outliers, {})
    with pytest.raises(InputError, match="no convolution"):
        in_8_bits(model, np.zeros((1, 8, 8, 3), np.uint8))


class Always:
    """Names one class with certainty."""

    def __init__(self, place: int, class_names: tuple[str, ...]) -> None:
        self.place, self.class_names = place, class_names

    def predict(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(np.eye(len(self.class_names), dtype=np.float32)[np.full(len(images), self.place)])


def test_the_loss_is_the_larger_of_the_clean_and_the_corrupted_one(drawn: Cells) -> None:
    rows = np.flatnonzero(drawn.labels < 2)
    before, after = (Always(place, drawn.class_names) for place in (0, 1))
    found = loss_of(after, before, drawn, rows)  # type: ignore[arg-type]
    shares = [float((drawn.labels[rows] == place).mean()) for place in (0, 1)]
    assert (found.rows, found.before, found.after) == (len(rows), *map(pytest.approx, shares))
    assert found.worst == pytest.approx(shares[0] - shares[1])
    assert Loss(10, 0.9, 0.9, 0.9, 0.7).worst == pytest.approx(0.2)
