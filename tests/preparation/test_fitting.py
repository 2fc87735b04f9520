from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hemascope.colour import Colours
from hemascope.data import Cells, Images, load
from hemascope.preparation.asked import Asked
from hemascope.preparation.cells import PreparedPictures, prepared_pictures
from hemascope.preparation.fitting import (
    LEAST,
    LEAST_FALL,
    Preparation,
    field_by_colour,
    prepared_for,
    strangeness,
    why_no_judge,
)
from hemascope.preparation.square import at_scale
from hemascope.resize import resize
from hemascope.run import Run
from hemascope.runtime import Model, load_model

BOTH = Asked(cell=True, stain=True)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("small")


@pytest.fixture(scope="module")
def real(shared: Path, model: Model) -> Cells:
    cells = load(shared / "data" / "pbc96" / "test.parquet").with_classes(model.class_names)
    cells = cells.take(np.arange(0, len(cells), 60))
    return replace(cells, images=np.asarray(cells.images[:]))


def given(images: Images) -> Callable[[int], Images]:
    return lambda count: images[:count]


def right(model: Model, images: Images, cells: Cells) -> float:
    return float((model.predict(images).argmax(1) == cells.labels).mean())


def test_pictures_like_those_of_training_stay_as_they_are(model: Model, real: Cells) -> None:
    preparation = prepared_for(model, BOTH, given(real.images[:]))
    assert not preparation.changes
    assert preparation.side(96) == 96
    assert np.array_equal(preparation(real.images[:], 96), real.images[:])


@pytest.mark.parametrize(("scale", "least", "most"), [(2.0, 0.4, 0.64), (0.7, 1.12, 1.6)])
def test_another_scale_is_found_and_undone(model: Model, real: Cells, scale: float, least: float, most: float) -> None:
    there = at_scale(real.images[:], scale)
    preparation = prepared_for(model, Asked(cell=True), given(there))
    assert least <= preparation.field <= most
    assert "scale:" in preparation.notes[0]
    seen = preparation(resize(there, preparation.side(96)), 96)
    assert strangeness(model, seen) < strangeness(model, there) - LEAST_FALL
    assert right(model, seen, real) >= right(model, there, real)
    by_colour = field_by_colour(model, there)
    assert by_colour is not None
    assert (by_colour < 1) == (scale > 1)


def test_a_far_stain_is_brought_to_that_of_training(model: Model, real: Cells) -> None:
    density = -np.log((real.images[:].astype(np.float32) + 1) / 256)
    there = np.clip(np.exp(-density * np.array([2.2, 0.6, 2.0], np.float32)) * 256 - 1, 0, 255).astype(np.uint8)
    preparation = prepared_for(model, Asked(stain=True), given(there))
    assert preparation.field == 1
    assert preparation.colours is not None
    assert model.colours is not None
    found = Colours.of(preparation(there, 96))
    assert found.mean == pytest.approx(model.colours.mean, abs=0.05)
    assert right(model, preparation(there, 96), real) > right(model, there, real)
    # Scale and stain are looked for together.
    both = prepared_for(model, BOTH, given(at_scale(there, 1.6)))
    assert both.field < 0.8
    assert both.colours is not None
    assert len(both.notes) == 2


def test_few_pictures_are_left_alone_and_that_is_said(model: Model) -> None:
    images = np.random.default_rng(0).integers(0, 256, (LEAST - 1, 96, 96, 3), dtype=np.uint8)
    preparation = prepared_for(model, replace(BOTH, crop=50), given(images))
    assert preparation == Preparation(50, notes=preparation.notes)
    assert preparation.notes == ("scale and stain: as they are; 19 of the pictures can be read, 20 are needed to tell",)
    assert prepared_for(model, Asked(40), given(images[:0])) == Preparation(40)


def test_prepared_cells_are_read_where_they_are_looked_at(model: Model, real: Cells) -> None:
    there = replace(real, images=at_scale(real.images[:], 2.0))
    asked: list[int] = []

    def again(size: int) -> Cells:
        asked.append(size)
        return replace(there, images=resize(there.images[:], size))

    preparation, shown = prepared_pictures(model, there, Asked(cell=True), again)
    assert asked == [preparation.side(96)]
    assert isinstance(shown, PreparedPictures)
    assert shown.shape == there.images.shape
    whole = np.asarray(shown)
    assert np.array_equal(shown[np.array([3, 1])], whole[[3, 1]])
    assert np.array_equal(shown[2], whole[2])
    # Without the source they are resized, which for pictures of this size is the same.
    assert np.array_equal(np.asarray(prepared_pictures(model, there, Asked(cell=True))[1]), whole)


def test_a_poor_or_refitted_model_changes_nothing(
    model: Model, finished: Run, drawn: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not why_no_judge(model)
    poor = load_model(finished.folder)
    small = at_scale(np.asarray(drawn.images[:64]), 0.5)
    assert "of its calibration cells rightly" in why_no_judge(poor)
    assert not prepared_for(poor, BOTH, given(small)).changes
    monkeypatch.setitem(model.metadata, "refit", "{}")
    assert "fitted again" in why_no_judge(model)
    assert not prepared_for(model, BOTH, given(small)).changes
