from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from hemascope.colour import ColourMatch, Colours
from hemascope.front import Front, with_front
from hemascope.resize import resize
from hemascope.run import Run
from hemascope.runtime import Model
from hemascope.synthetic import draw_cells

MATCH = ColourMatch((0.8, 1.2, 1.0), (0.05, -0.02, 0.1))


@pytest.mark.parametrize("field", [0.5, 0.62, 0.85, 1.0, 1.3])
@pytest.mark.parametrize("shape", [(32, 32), (41, 36), (20, 31), (97, 100)])
def test_the_graph_changes_pictures_as_the_function_does(
    field: float, shape: tuple[int, int], finished: Run, tmp_path: Path
) -> None:
    front = Front(32, field, MATCH if field != 0.85 else None)
    path = finished.model / "model.onnx"
    onnx.save(with_front(onnx.load(path), front), tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), np.uint8)
    within, before = Model(tmp_path / "model.onnx").answers(images), Model(path).answers(front(images))
    # A sum that lies just between two grey levels falls on either side, as the two add in different orders.
    assert np.abs(within.embedding - before.embedding).max() < (1e-4 if shape == (32, 32) else 1e-2)


def test_large_pictures_are_seen_as_when_they_are_loaded(finished: Run, tmp_path: Path) -> None:
    path = finished.model / "model.onnx"
    onnx.save(with_front(onnx.load(path), Front(32, 0.62, MATCH)), tmp_path / "model.onnx")
    large = np.asarray(draw_cells(12, seed=3, size=120).images)
    model = Model(tmp_path / "model.onnx")
    found, loaded = (model.answers(images).embedding for images in (large, resize(large, 32)))
    assert np.abs(found - loaded).max() < 1e-2 * np.abs(loaded).max()


def test_one_front_stands_before_another(finished: Run, tmp_path: Path) -> None:
    path = finished.model / "model.onnx"
    first, second = Front(32, 0.7), Front(32, 1.25, MATCH)
    onnx.save(with_front(with_front(onnx.load(path), first), second), tmp_path / "model.onnx")
    images = np.asarray(draw_cells(4, seed=3, size=32).images)
    within, before = Model(tmp_path / "model.onnx").answers(images), Model(path).answers(first(second(images)))
    assert np.abs(within.embedding - before.embedding).max() < 1e-2 * np.abs(before.embedding).max()


def test_a_field_is_the_middle_of_the_picture_or_more_than_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    square = images[:, :, 5:45]
    assert np.array_equal(Front(40, 0.5)(images), square[:, 10:30, 10:30])
    wide = Front(40, 1.5)(images)
    assert wide.shape == (2, 60, 60, 3)
    assert np.array_equal(wide[:, 10:50, 10:50], square)
    assert np.array_equal(wide[:, 0, 10:50], square[:, 0])
    assert Front(40)(images) is images


def test_matched_pictures_have_the_colours_that_were_wanted() -> None:
    wanted = Colours.of(np.asarray(draw_cells(40, seed=1, size=48).images))
    pictures = np.asarray(draw_cells(40, seed=2, size=48).images)
    other = np.clip(pictures.astype(float) * [0.9, 0.75, 0.95] + [5, 0, 10], 0, 255).astype(np.uint8)
    match = ColourMatch.between(Colours.of(other), wanted)
    found = Colours.of(match(other))
    assert np.allclose(found.mean, wanted.mean, atol=0.01)
    assert np.allclose(found.deviation, wanted.deviation, atol=0.02)
    assert not np.allclose(Colours.of(other).mean, wanted.mean, atol=0.05)
    assert Colours.from_json(wanted.as_json()) == wanted
