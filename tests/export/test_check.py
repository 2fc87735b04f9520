from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx

from hemascope.export.check import COUNT, compare_files, difference, milliseconds, picture_files, trained_network
from hemascope.precision import with_half_weights
from hemascope.resize import central_square, resize
from hemascope.run import Run
from hemascope.runtime import Model


def test_a_difference_counts_names_and_finds_the_largest_gap() -> None:
    expected = np.array([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5]], np.float32)
    found = difference(np.array([[0.45, 0.55], [0.1, 0.9], [0.5, 0.5]], np.float32), expected)
    assert (round(found.probability, 6), found.labels, found.answers) == (0.15, 1, 3)


def test_pictures_are_read_in_both_ways_in_the_same_order() -> None:
    files = picture_files(32)
    assert {name: pictures.shape for name, pictures in files.as_stored.items()} == {
        "32 x 32": (COUNT, 32, 32, 3),
        "360 x 363": (COUNT, 363, 360, 3),
    }
    assert np.array_equal(files.as_stored["32 x 32"], files.as_loaded["32 x 32"])
    large = files.as_stored["360 x 363"]
    assert np.array_equal(resize(np.ascontiguousarray(central_square(large)), 32), files.as_loaded["360 x 363"])


def test_a_file_is_near_the_weights_that_made_it_and_not_near_others(finished: Run, tmp_path: Path) -> None:
    path = finished.model / "model.onnx"
    files = picture_files(32)
    network = trained_network(finished.folder, onnx.load(path), 32)
    assert network is not None
    found = compare_files(Model(path), network, files)
    assert set(found) == set(files.as_stored)
    assert found["32 x 32"].probability < 1e-5
    assert found["360 x 363"].probability < 1e-2
    onnx.save(with_half_weights(onnx.load(path)), tmp_path / "half.onnx")
    assert compare_files(Model(tmp_path / "half.onnx"), network, files)["32 x 32"].probability > 1e-5


def test_a_folder_without_weights_has_no_network(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    shutil.copy(finished.model / "model.onnx", tmp_path / "model")
    assert trained_network(tmp_path, onnx.load(finished.model / "model.onnx"), 32) is None


def test_times_are_told_for_one_picture_and_for_many(finished: Run) -> None:
    took = milliseconds(Model(finished.model / "model.onnx"), picture_files(32).as_stored["32 x 32"])
    assert list(took) == ["batch of 1", "batch of 64"]
    assert min(took.values()) > 0


def test_another_answer_of_two_that_are_as_likely_is_no_difference() -> None:
    expected = np.array([[0.4, 0.3996, 0.2004], [0.5, 0.3, 0.2]], np.float32)
    assert difference(expected[:, [1, 0, 2]][:1], expected[:1]).labels == 0
    assert difference(expected[:, [1, 0, 2]], expected).labels == 1
