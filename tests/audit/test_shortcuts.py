from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hemascope.audit.shortcuts import BACKGROUND, background_measures, find_shortcuts
from hemascope.data.cells import Cells
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from plant import brighten_background

COUNT = 400


@pytest.fixture(scope="module")
def drawn() -> Cells:
    """Drawn cells under one lamp: each picture is scaled so that its glass is as bright as any other's."""
    cells = draw_cells(COUNT, seed=4)
    images = np.asarray(cells.images[:]).astype(np.float32)
    glass = np.percentile(images, 90, axis=(1, 2), keepdims=True)
    noise = np.random.default_rng(0).normal(0, 2, (COUNT, 1, 1, 3))
    return replace(cells, images=np.clip(images * 220 / glass + noise, 0, 255).astype(np.uint8))


def shortcuts(cells: Cells, **options: Any) -> Any:
    return find_shortcuts(cells, background_measures(cells), **options)


def test_cells_as_they_are_hold_no_shortcut(drawn: Cells) -> None:
    table = shortcuts(drawn)
    assert set(table["candidate"]) == set(BACKGROUND)
    assert not table["is_shortcut"].any()
    assert table["gain"].is_monotonic_decreasing
    assert (table["chance"] == 1 / 8).all()
    assert (table["auc_low"] <= table["auc"]).all()
    assert (table["auc"] <= table["auc_high"]).all()
    assert table["balanced_accuracy"].between(table["balanced_accuracy_low"], table["balanced_accuracy_high"]).all()


@pytest.mark.parametrize("label", range(0, 8, 3))
def test_a_brightened_background_ranks_first_and_is_named(drawn: Cells, label: int) -> None:
    images = brighten_background(np.asarray(drawn.images[:]), drawn.labels == label, 6)
    first = shortcuts(replace(drawn, images=images)).iloc[0]
    name = drawn.class_names[label]
    assert (first["candidate"], first["class_name"]) == ("background colour", name)
    assert first["is_shortcut"]
    assert first["finding"].startswith(f"background colour alone tells {name} from the other classes with AUC 0.9")
    assert ": background " in first["finding"]


def test_a_frame_and_a_blurred_background_are_found(drawn: Cells) -> None:
    rows = np.flatnonzero(drawn.labels == 5)
    for depth in (1, 6):
        framed = np.asarray(drawn.images[:]).copy()
        for side in (np.s_[:, :depth], np.s_[:, -depth:], np.s_[:, :, :depth], np.s_[:, :, -depth:]):
            part = framed[rows]
            part[side] = 30
            framed[rows] = part
        first = shortcuts(replace(drawn, images=framed)).iloc[0]
        assert (first["candidate"], first["class_name"], first["is_shortcut"]) == ("border", drawn.class_names[5], True)
    soft = np.asarray(drawn.images[:]).copy()
    for row in rows:
        soft[row] = np.asarray(Image.fromarray(soft[row]).resize((40, 40)).resize((96, 96)))
    told = shortcuts(replace(drawn, images=soft)).set_index("candidate").loc["background sharpness"]
    assert (told["class_name"], told["is_shortcut"]) == (drawn.class_names[5], True)


def test_the_file_gives_the_label_away(drawn: Cells) -> None:
    generator = np.random.default_rng(1)
    sizes = generator.normal(9000, 500, COUNT)
    sizes[drawn.labels == 2] -= 4000
    sizes[::50] = np.nan
    modes = np.where(drawn.labels == 6, "L", "RGB")
    facts = {"file size": sizes, "mode": modes, "JPEG quality": np.full(COUNT, 75)}
    table = shortcuts(drawn, facts=facts).set_index("candidate")
    assert table.loc["file size", ["class_name", "is_shortcut"]].tolist() == [drawn.class_names[2], True]
    assert table.loc["mode", ["class_name", "is_shortcut"]].tolist() == [drawn.class_names[6], True]
    assert f"tells {drawn.class_names[6]} from the other classes with AUC 1.00" in table.loc["mode", "finding"]
    assert "mode is mostly L there and RGB elsewhere" in table.loc["mode", "finding"]
    assert table.loc["JPEG quality", "gain"] == 0


def test_a_copy_on_the_other_side_proves_nothing(drawn: Cells) -> None:
    rows = np.repeat(np.arange(80), 8)
    repeated = drawn.take(rows)
    facts = {"file size": np.random.default_rng(2).permutation(80)[rows]}
    loose = shortcuts(repeated, facts=facts).set_index("candidate")
    kept = shortcuts(repeated, facts=facts, groups=rows).set_index("candidate")
    assert loose.loc["file size", "gain"] > 0.6
    assert kept.loc["file size", "gain"] < 0.4


def test_nothing_to_tell_apart_gives_an_empty_table(drawn: Cells) -> None:
    for labels in (np.full(COUNT, -1), np.zeros(COUNT, np.int64)):
        table = shortcuts(replace(drawn, labels=labels))
        assert len(table) == 0
        assert "finding" in table


def test_rows_that_disagree_are_told(drawn: Cells) -> None:
    with pytest.raises(InputError, match="'file size' has 3 values for 400 pictures"):
        shortcuts(drawn, facts={"file size": np.arange(3)})
