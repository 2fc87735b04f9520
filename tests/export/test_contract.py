from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hemascope.data import Cells
from hemascope.export.contract import BATCH, as_bytes
from hemascope.export.source import open_source
from hemascope.export.submission import model_source
from hemascope.run import Run
from hemascope.runtime import load_model
from hemascope.synthetic import draw_cells


@pytest.fixture(scope="module")
def written(finished: Run, drawn: Cells, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Model of the model.py of a submission for ONNX Runtime, imported as a file."""
    folder = tmp_path_factory.mktemp("submission")
    (folder / "model.py").write_text(model_source("onnx", drawn.class_names), encoding="utf-8")
    (folder / "model.onnx").write_bytes(open_source(finished.folder).in_precision("float32").SerializeToString())
    return imported(folder / "model.py")


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("submitted_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.asarray(draw_cells(BATCH + 9, seed=12, size=96).images)


def test_labels_are_those_of_the_run_at_any_count(written: Any, finished: Run, images: np.ndarray) -> None:
    expected = load_model(finished.folder).predict(images).argmax(1)
    found = written.predict(images)
    assert found.dtype == np.int64
    assert found.shape == (len(images),)
    assert np.array_equal(found, expected)
    assert np.array_equal(written.predict(images[:1]), expected[:1])
    assert written.predict(images[:0]).shape == (0,)


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_numbers_of_any_kind_and_lists_are_taken(written: Any, images: np.ndarray, kind: type) -> None:
    expected = written.predict(images[:5])
    assert np.array_equal(written.predict(images[:5].astype(kind)), expected)
    assert np.array_equal(written.predict(images[:5].astype(kind).tolist()), expected)
    assert np.array_equal(written.predict([picture.astype(kind) for picture in images[:5]]), expected)


def test_fractions_are_rounded_to_the_nearest() -> None:
    values = np.array([-0.4, 0.49, 0.5, 254.7, 255.4], np.float32)
    pictures = np.zeros((len(values), 96, 96, 3), np.float32)
    pictures[:] = values[:, None, None, None]
    assert as_bytes(pictures)[:, 0, 0, 0].tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x[:, :50], r"shape \(50, 96, 3\), expected \(n, 96, 96, 3\)"),
        (lambda x: x[0], "expected"),
        (lambda x: x * np.float32(1.5), "values from .* in picture 0, expected 0 to 255"),
        (lambda x: x - np.float32(3), "values from -3"),
        (lambda x: np.where(np.arange(len(x))[:, None, None, None] == 66, np.nan, x), "nan in picture 66"),
        (lambda x: x > 100, "holds bool"),
    ],
)
def test_what_the_contract_does_not_allow_is_told(written: Any, images: np.ndarray, change: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        written.predict(change(np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)))


def test_pictures_from_0_to_1_are_taken_as_the_contract_says_with_a_warning(written: Any, images: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="give X times 255 if its white is 1"):
        dark = written.predict(images[:3] / 255)
    assert np.array_equal(dark, written.predict(np.round(images[:3] / 255)))
    assert len(written.predict(np.zeros((1, 96, 96, 3), np.float32))) == 1


@pytest.mark.parametrize("runtime", ["onnx", "keras"])
def test_the_text_names_the_classes_in_order_and_needs_no_package_of_ours(runtime: Any) -> None:
    text = model_source(runtime, ("basophil", "monocyte"))
    assert "    0  basophil\n    1  monocyte\n" in text
    assert "<" + "classes>" not in text
    imports = [line.split()[1] for line in text.splitlines() if line.strip().startswith(("import ", "from "))]
    assert set(imports) <= {
        "__future__",
        "json",
        "keras",
        "numpy",
        "onnxruntime",
        "os",
        "pathlib",
        "typing",
        "warnings",
    }
    compile(text, "model.py", "exec")
