from __future__ import annotations

from dataclasses import replace

import numpy as np

from hemascope.data import Cells
from hemascope.prepare import prepare
from hemascope.synthetic import draw_cells


def quiet(sentence: str) -> None:
    pass


def test_classes_that_do_not_occur_are_no_answers(drawn: Cells) -> None:
    some = drawn.take(drawn.labels < 3)
    prepared = prepare(some, seed=0, say=quiet)
    assert prepared.cells.class_names == drawn.class_names[:3]


def test_notes_of_reading_are_said_once(dirty: Cells) -> None:
    said: list[str] = []
    prepare(replace(dirty, notes=("resized from 50 to 32 pixels",)), seed=0, say=said.append)
    assert said.count("resized from 50 to 32 pixels") == 1
    assert any("removed" in sentence and "stay" in sentence for sentence in said)


def test_near_copies_stay_on_one_side() -> None:
    cells = draw_cells(200, seed=9)
    turned = np.rot90(np.asarray(cells.images[:40]), 1, (1, 2))
    both = Cells(
        np.concatenate([np.asarray(cells.images), turned]),
        np.concatenate([cells.labels, cells.labels[:40]]),
        cells.class_names,
        np.arange(240).astype(str),
        source="turned.npz",
    )
    said: list[str] = []
    prepared = prepare(both, seed=0, say=said.append)
    assert "leaks: no picture stands on two sides; 40 pairs of near copies stay on one side each" in said
    assert prepared.cells.split is not None
    assert np.array_equal(prepared.cells.split[:40], prepared.cells.split[200:])
    own = replace(both, split=np.array(["train"] * 200 + ["test"] * 40))
    prepare(own, seed=0, say=said.append)
    assert any("40 pairs of near copies, 40 of them across its splits" in sentence for sentence in said)
