from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hemascope.colour import ColourMatch
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.export import export_submission, submission
from hemascope.export.source import Precision, open_source
from hemascope.front import Front, with_front
from hemascope.run import Run
from hemascope.tail import with_head

KERAS = "HEMASCOPE_KERAS_PYTHON"
"""Names the Python of an environment with TensorFlow 2.17, Keras 3.4 and NumPy."""


@pytest.fixture(autouse=True)
def fewer_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "DRAWN", 16)


def test_the_zip_is_flat_and_was_asked_without_hemascope(finished: Run, tmp_path: Path) -> None:
    facts = export_submission(finished.folder, tmp_path / "submission.zip")
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert archive.namelist() == ["model.py", "model.onnx"]
    assert facts["differences"]["model.onnx"]["probability"] < 1e-5
    assert facts["differences"]["model.onnx"]["labels"] == 0
    assert facts["pictures"] == 16
    assert facts["apart"]["most_memory_mib"] < submission.MOST_MEMORY
    assert "onnxruntime" in facts["apart"]["versions"]
    assert json.loads((tmp_path / "submission.zip.json").read_text()) == facts


def test_half_weights_and_further_cells(finished: Run, drawn: Cells, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds pictures of \(32, 32, 3\), expected \(96, 96, 3\)"):
        export_submission(finished.folder, tmp_path / "submission.zip", precision="float16", data=drawn)
    assert list(tmp_path.iterdir()) == []
    facts = export_submission(finished.folder, tmp_path / "submission.zip", precision="float16")
    assert facts["files"]["model.onnx"] < facts["bytes"]["run"]


def spoilt(name: str, found: dict[str, bytes]) -> dict[str, bytes]:
    """The weights of a submission with those of one convolution made larger."""
    model = onnx.load_from_string(found[name])
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] > 1)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
    return {name: model.SerializeToString()}


def test_a_submission_that_answers_otherwise_leaves_no_zip(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = submission._onnx_weights
    monkeypatch.setattr(submission, "_onnx_weights", lambda *of: spoilt("model.onnx", weights(*of)))
    with pytest.raises(InputError, match=r"the unpacked submission differs from the run's model\.onnx by"):
        export_submission(finished.folder, tmp_path / "submission.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_the_runtime_or_none_at_all_is_told(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"could not be asked with it .*TensorFlow 2\.17 with Keras 3"):
        export_submission(finished.folder, tmp_path / "submission.zip", "keras", python=sys.executable)
    with pytest.raises(InputError, match="could not be proved with it"):
        export_submission(finished.folder, tmp_path / "submission.zip", python=tmp_path / "python")
    monkeypatch.setattr(submission, "MOST_MEMORY", 1)
    with pytest.raises(InputError, match="MiB, expected at most 1; no zip was kept"):
        export_submission(finished.folder, tmp_path / "submission.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("runtime", "precision"), [("onnx", "int8"), ("keras", "float16")])
def test_precisions_that_a_submission_has_not_are_refused(
    finished: Run, tmp_path: Path, runtime: submission.Runtime, precision: Precision
) -> None:
    with pytest.raises(InputError, match=f"a submission for {runtime} has no precision {precision}"):
        export_submission(finished.folder, tmp_path / "submission.zip", runtime, precision=precision)


def test_a_classical_model_is_refused(finished: Run, tmp_path: Path) -> None:
    proto = open_source(finished.folder).proto
    proto.metadata_props.add(key="features", value="cell-1")
    onnx.save(proto, tmp_path / "classical.onnx")
    with pytest.raises(InputError, match="is a classical model"):
        export_submission(tmp_path / "classical.onnx", tmp_path / "submission.zip")


@pytest.fixture
def keras() -> str:
    if not (python := os.environ.get(KERAS)):
        pytest.skip(f"{KERAS} names no Python of an environment with TensorFlow 2.17 and Keras 3.4")
    return python


def test_keras_takes_a_refitted_run_with_colours_field_and_a_new_class(
    finished: Run, keras: str, tmp_path: Path
) -> None:
    model = with_front(
        onnx.load(finished.model / "model.onnx"), Front(32, 1.25, ColourMatch((0.8, 1.2, 1), (0.1, 0, 0)))
    )
    width = open_source(finished.folder).model.answers(np.zeros((1, 32, 32, 3), np.uint8)).embedding.shape[1]
    model = with_head(model, 0.9, np.random.default_rng(0).normal(0, 0.1, (width, 9)), np.zeros(9), 1e-6)
    stated = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(
        model, stated | {"class_names": json.dumps([*json.loads(stated["class_names"]), "blast"])}
    )
    onnx.save(model, tmp_path / "model.onnx")
    facts = export_submission(tmp_path / "model.onnx", tmp_path / "submission.zip", "keras", python=keras)
    assert facts["class_names"][-1] == "blast"
    assert facts["differences"]["model.onnx"]["labels"] == 0


@pytest.mark.parametrize("run", ["small", "finished"])
def test_the_keras_network_answers_as_the_run(
    run: str, keras: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source: Run | str = request.getfixturevalue(run) if run == "finished" else run
    facts = export_submission(
        source if isinstance(source, str) else source.folder, tmp_path / "submission.zip", "keras", python=keras
    )
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert archive.namelist() == ["model.py", "network.json", "network.npz"]
        with np.load(archive.open("network.npz"), allow_pickle=False) as arrays:
            assert all(array.dtype == np.float32 for array in arrays.values())
    assert facts["differences"]["model.onnx"] == {"probability": pytest.approx(0, abs=1e-4), "labels": 0, "answers": 16}
    assert facts["apart"]["versions"]["keras"].startswith("3.")
