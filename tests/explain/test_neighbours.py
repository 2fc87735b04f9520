# mypy: disable-error-code="arg-type"
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from hemascope.errors import InputError
from hemascope.explain import known_cells, load_known_cells, nearest_training_cells

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
    assert told == "The 3 nearest training cells are 2 monocyte, 1 basophil; the nearest has cosine 0.99."


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
