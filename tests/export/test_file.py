from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.export import check, export_file, file, int8
from hemascope.export.check import Difference
from hemascope.export.file import check_difference, check_loss
from hemascope.export.int8 import Loss
from hemascope.export.source import Precision, Source, open_source, run_hash
from hemascope.run import Run
from hemascope.runtime import Model, load_model


@pytest.fixture(autouse=True)
def fewer_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check asks about 64 pictures of each size; here it is the export that is tested."""
    monkeypatch.setattr(check, "COUNT", 8)


def test_float32_is_the_run_itself_and_says_so_beside_it(finished: Run, drawn: Cells, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    facts = export_file(finished.folder, out)
    images = np.asarray(drawn.images[:9])
    assert np.array_equal(Model(out).predict(images), load_model(finished.folder).predict(images))
    assert json.loads((tmp_path / "model.onnx.json").read_text()) == facts
    assert facts["differences"]["weights.safetensors"]["32 x 32"]["probability"] < 1e-5
    assert facts["differences"]["model.onnx"]["360 x 363"]["labels"] == 0
    assert facts["bytes"]["exported"] == out.stat().st_size
    assert facts["class_names"] == list(drawn.class_names)


def test_float16_is_smaller_and_what_the_file_said_is_kept(finished: Run, tmp_path: Path) -> None:
    facts = export_file(finished.folder, tmp_path / "half.onnx", "float16")
    before, after = load_model(finished.folder).metadata, Model(tmp_path / "half.onnx").metadata
    assert after == before | {
        "run_hash": facts["run_hash"],
        "precision": "float16",
        "exported_by": f"hemascope {facts['versions']['hemascope']}",
    }
    assert facts["bytes"]["exported"] < facts["bytes"]["run"]
    assert 0 < facts["differences"]["model.onnx"]["32 x 32"]["probability"] < 1e-2


def test_int8_takes_held_out_rows_and_its_loss_is_bounded(
    finished: Run, dirty: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "CALIBRATING", 24)
    monkeypatch.setattr(int8, "LEAST_MEASURING", 8)
    facts = export_file(finished.folder, tmp_path / "int8.onnx", "int8", data=dirty, most_loss=1.0)
    assert facts["accuracy"]["rows"] > 8
    assert Model(tmp_path / "int8.onnx").metadata["recipe"] == "tiny"
    with pytest.raises(InputError, match="with --data, the file that it was trained on"):
        export_file(finished.folder, tmp_path / "other.onnx", "int8")
    with pytest.raises(InputError, match=r"accuracy is 0\.9000 instead of 0\.9100 .* at most 0\.005; no file was kept"):
        check_loss(Loss(100, 0.91, 0.90, 0.8, 0.8), 0.005, "int8.onnx")
    check_loss(Loss(100, 0.91, 0.90, 0.8, 0.8), 0.02, "int8.onnx")


def test_an_export_that_answers_otherwise_leaves_nothing(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoilt(Source):
        def in_precision(self, precision: Precision) -> onnx.ModelProto:
            proto = super().in_precision("float32")
            for tensor in proto.graph.initializer:
                if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4 and tensor.dims[0] > 1:
                    numbers = onnx.numpy_helper.to_array(tensor)
                    tensor.CopyFrom(onnx.numpy_helper.from_array(numbers * 1.5, tensor.name))
            return proto

    source = open_source(finished.folder)
    spoilt = Spoilt(source.model, source.proto, source.folder, source.digest)
    monkeypatch.setattr(file, "open_source", lambda run: spoilt)
    with pytest.raises(InputError, match=r"differs from the run's model\.onnx .* no file was kept"):
        export_file(finished.folder, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_another_label_is_refused_however_small_the_difference() -> None:
    check_difference(Difference(1e-5, 0, 10), 1e-4, "pictures", "model.onnx")
    with pytest.raises(InputError, match="names 1 of 10 pictures otherwise"):
        check_difference(Difference(1e-5, 1, 10), 1e-4, "pictures", "model.onnx")
    with pytest.raises(InputError, match="by nan in a probability"):
        check_difference(Difference(float("nan"), 0, 10), 1e-4, "pictures", "model.onnx")


def test_nothing_is_overwritten(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "model.onnx.json").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        export_file(finished.folder, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"ends in '\.bin', expected \.onnx"):
        export_file(finished.folder, tmp_path / "model.bin")
    assert (tmp_path / "model.onnx.json").read_text() == "mine"


def test_the_hash_of_a_run_follows_its_weights_and_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    parts = {
        "model/weights.safetensors": b"weights",
        "config.yaml": b"seed: 0",
        "model/model.onnx": b"file",
    }
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    model = tmp_path / "model" / "model.onnx"
    first = run_hash(model, tmp_path)
    assert len(first) == 32
    model.write_bytes(b"exported again")
    assert run_hash(model, tmp_path) == first
    found = {first, run_hash(model, None)}
    for name in ("model/weights.safetensors", "config.yaml"):
        (tmp_path / name).write_bytes(b"other")
        found.add(run_hash(model, tmp_path))
    assert len(found) == 4
