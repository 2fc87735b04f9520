from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hemascope.data import Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.resize import resize
from hemascope.run import Run
from hemascope.runtime import Model, load_model, training_hashes
from hemascope.synthetic import draw_cells


def test_a_run_and_its_file_are_the_same_model(finished: Run, drawn: Cells) -> None:
    images = np.asarray(drawn.images[:70])
    by_folder, by_file = load_model(finished.folder), load_model(finished.model / "model.onnx")
    probabilities = by_folder.predict(images)
    assert probabilities.shape == (70, 8)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert np.array_equal(probabilities, by_file.predict(images))
    assert load_model(by_file) is by_file


def test_pictures_of_another_size_are_resized(finished: Run) -> None:
    model = load_model(finished.folder)
    images = np.asarray(draw_cells(16, seed=2, size=48).images)
    assert np.abs(model.predict(images) - model.predict(resize(images, model.image_size))).max() < 1e-3
    assert model.predict(images[:0]).shape == (0, 8)


def test_a_run_knows_what_trained_it(finished: Run, dirty: Cells) -> None:
    known = training_hashes(finished.folder)
    assert known is not None
    assert known == training_hashes(finished.model / "model.onnx")
    assert known < set(pixel_hashes(dirty).tolist())


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(InputError, match=r"Smal: there is no such file; did you mean small\?"):
        load_model("Smal")
    with pytest.raises(InputError, match="has no finished model"):
        load_model(tmp_path)
    (tmp_path / "bad.onnx").write_bytes(b"not onnx")
    with pytest.raises(InputError, match="is not an ONNX model"):
        load_model(tmp_path / "bad.onnx")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    ])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "x.onnx")
    with pytest.raises(InputError, match="names no classes"):
        Model(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    "code",
    [
        "import hemascope; hemascope.load; hemascope.clean; hemascope.evaluate; hemascope.predict; hemascope.split",
        "import sys; sys.argv = ['hemascope', 'predict', '--help']\nfrom hemascope.cli import main\n"
        "try: main()\nexcept SystemExit: pass",
        "import hemascope.runtime, hemascope.report, hemascope.figures",
    ],
)
def test_no_torch_is_imported_for_what_the_base_install_does(code: str) -> None:
    check = f"{code}\nimport sys; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)
