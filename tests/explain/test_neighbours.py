# mypy: disable-error-code="arg-type"
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.explain import known_cells, load_known_cells, nearest_training_cells
from hemascope.explain.neighbours import FILE, distance, reference_rows
from hemascope.models import model_folder
from hemascope.resize import resize
from hemascope.run import Run
from hemascope.runtime import load_model

RNG = np.random.default_rng(0)
KNOWN = RNG.normal(size=(300, 16)).astype(np.float32)
LABELS = RNG.integers(0, 3, 300)
ASKED = RNG.normal(size=(20, 16)).astype(np.float32)
NAMES = ("basophil", "monocyte", "platelet")
IDS = np.array([f"training_set.npz#{row}" for row in range(300)])


@pytest.mark.parametrize("k", [1, 5, 300])
def test_they_are_those_of_a_search_by_cosine(k: int) -> None:
    distances, rows = NearestNeighbors(n_neighbors=k, metric="cosine").fit(KNOWN).kneighbors(ASKED)
    found = nearest_training_cells(ASKED, KNOWN, LABELS, k)
    assert (found.rows == rows).all()
    assert (found.labels == LABELS[rows]).all()
    assert np.allclose(found.cosine, 1 - distances, atol=1e-5)


def test_the_table_travels_in_half_precision_and_finds_the_same(tmp_path: Path) -> None:
    table = known_cells(KNOWN * 40, LABELS, IDS, NAMES)
    table.save(tmp_path / "model" / "neighbours.npz")
    with np.load(tmp_path / "model" / "neighbours.npz", allow_pickle=False) as raw:
        assert raw["embeddings"].dtype == np.float16
    read = load_known_cells(tmp_path / "model" / "neighbours.npz")
    assert (read.class_names, read.ids.tolist(), read.labels.tolist()) == (NAMES, IDS.tolist(), LABELS.tolist())
    exact, found = nearest_training_cells(ASKED, KNOWN, LABELS, 4), read.nearest(ASKED, 4)
    assert (exact.rows == found.rows).mean() > 0.95
    assert np.abs(exact.cosine - found.cosine).max() < 2e-3


def test_what_they_are_is_told_in_words() -> None:
    table = known_cells(KNOWN, LABELS, IDS, NAMES)
    told = table.sentence(np.array([1, 1, 0]), np.float32([0.987, 0.9, 0.8]))
    assert told == "The 3 nearest training cells are 2 monocyte, 1 basophil; the distance of the nearest is 0.013."


def test_bad_input_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shape \(20, 4\)"):
        nearest_training_cells(ASKED[:, :4], KNOWN, LABELS, 3)
    for k in (0, 301):
        with pytest.raises(InputError, match="ask for 1 to 300"):
            nearest_training_cells(ASKED, KNOWN, LABELS, k)
    with pytest.raises(InputError, match="give one of each for each cell"):
        known_cells(KNOWN, LABELS[:-1], IDS, NAMES)
    with pytest.raises(InputError, match="there is no table"):
        load_known_cells(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="is no table of training cells"):
        load_known_cells(tmp_path / "bad.npz")


def test_as_many_cells_of_each_class_stand_for_all() -> None:
    labels = np.repeat([0, 1, 3], [500, 40, 900])
    rows = reference_rows(labels, 240, seed=3)
    assert np.bincount(labels[rows]).tolist() == [100, 40, 0, 100]
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, reference_rows(labels, 240, seed=3))
    assert not np.array_equal(rows, reference_rows(labels, 240, seed=4))
    assert reference_rows(labels, 5000).tolist() == list(range(1440))
    assert len(reference_rows(labels[:0])) == 0


def test_a_run_keeps_small_pictures_of_its_training_rows_alone(finished: Run, dirty: Cells) -> None:
    table = load_known_cells(finished.model / FILE)
    split = pd.read_csv(finished.split, keep_default_na=False)
    trained = split.loc[split["split"] == "train", "id"].tolist()
    assert table.ids.tolist() == trained
    assert table.thumbnails is not None
    assert table.thumbnails.shape == (len(trained), 48, 48, 3)
    place = {name: row for row, name in enumerate(dirty.ids.tolist())}
    rows = np.array([place[name] for name in trained[:8]])
    images = np.asarray(dirty.images[rows])
    assert np.array_equal(table.thumbnails[:8], resize(images, 48))
    assert [table.class_names[label] for label in table.labels[:8]] == [
        dirty.class_names[label] for label in dirty.labels[rows]
    ]
    # Each is the nearest of itself, to the model that answers.
    found = table.nearest(load_model(finished.folder).answers(images).embedding, 5)
    assert found.rows[:, 0].tolist() == list(range(8))
    assert [distance(cosine) for cosine in found.cosine[:, 0]] == pytest.approx([0] * 8, abs=2e-3)
    with np.load(finished.model / FILE, allow_pickle=False) as raw:
        assert {raw[name].dtype.kind for name in raw.files} == {"f", "i", "U", "u"}


def test_small_pictures_come_back_and_must_fit(tmp_path: Path) -> None:
    pictures = RNG.integers(0, 256, (300, 48, 48, 3)).astype(np.uint8)
    replace(known_cells(KNOWN, LABELS, IDS, NAMES), thumbnails=pictures).save(tmp_path / FILE)
    assert np.array_equal(load_known_cells(tmp_path / FILE).thumbnails, pictures)
    with pytest.raises(InputError, match="one of 48 x 48 pixels for each, or none"):
        replace(known_cells(KNOWN, LABELS, IDS, NAMES), thumbnails=pictures[:7])


def test_the_shipped_model_keeps_no_pictures() -> None:
    assert not list(model_folder("small").parent.rglob(FILE))
