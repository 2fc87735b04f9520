from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hemascope.clean import clean, mean_pixels
from hemascope.data import Cells, load
from hemascope.synthetic import planted


def test_just_what_was_planted_goes_and_each_row_has_its_reason(dirty: Cells) -> None:
    truth = planted(400, seed=6)
    cells, removed = clean(dirty)
    assert set(removed["id"]) == set(dirty.ids[truth.non_cells | truth.copies])
    assert len(cells) + len(removed) == len(dirty)
    assert removed["reason"].str.len().min() > 10
    assert clean(cells).removed.empty


def test_pictures_that_could_not_be_read_are_listed(drawn: Cells) -> None:
    broken = replace(drawn, unreadable={"basophil/bad.jpg": "the file is empty"})
    removed = clean(broken).removed
    assert removed.to_dict("records") == [
        {"id": "basophil/bad.jpg", "label": "", "verdict": "unreadable", "reason": "the file is empty"}
    ]


def test_mean_pixels(drawn: Cells) -> None:
    means = mean_pixels(drawn)
    assert np.allclose(means, np.asarray(drawn.images).mean(axis=(1, 2, 3)) / 255)


def test_the_challenge_file_keeps_11_951_of_its_13_759_rows(shared: Path, challenge: Path) -> None:
    cells = load(challenge / "training_set.npz")
    kept, removed = clean(cells)
    assert len(cells) == 13_759
    assert len(kept) == 11_951
    assert removed["verdict"].value_counts().to_dict() == {"not_a_cell": 1800, "copy": 8}
    reasons = removed.loc[removed["verdict"] == "not_a_cell", "reason"].value_counts()
    assert reasons.tolist() == [1600, 200]
    means, counts = np.unique(mean_pixels(cells.take(np.isin(cells.ids, removed["id"]))), return_counts=True)
    assert means[counts >= 200].tolist() == pytest.approx([0.43207592933006533, 0.6524119746278141], abs=1e-12)
