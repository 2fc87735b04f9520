from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hemascope.augment import FAMILIES
from hemascope.data import Cells
from hemascope.drawing import preview, typical_answers
from hemascope.prepare import prepare
from hemascope.recipe import Recipe
from hemascope.run import Run

Tiny = Callable[..., Recipe]


def quiet(sentence: str) -> None:
    pass


def test_the_report_of_a_run_shows_where_it_looks(finished: Run) -> None:
    page = finished.report.read_text(encoding="utf-8")
    assert (finished.figures / "heat_maps_right.png").is_file()
    assert page.count("<h3>Where it looks</h3>") == 1
    assert ("Where it looked when it was wrong" in page) == (finished.figures / "heat_maps_wrong.png").is_file()


def test_a_typical_answer_is_the_right_one_of_middling_confidence() -> None:
    table = pd.DataFrame(
        {
            "id": list("abcdef"),
            "label": ["x", "x", "x", "y", "x", "y"],
            "predicted": ["x", "x", "x", "x", "x", "x"],
            "confidence": [0.9, 0.5, 0.7, 0.8, 0.95, 0.6],
            "correct": [True, True, True, False, True, False],
            "left_out": [False, False, False, False, True, False],
            "p_x": 0.5,
            "p_y": 0.5,
        }
    )
    (only,) = typical_answers(table)
    assert only == {"row": 2, "id": "c", "label": "x", "predicted": "x", "confidence": 0.7}


def test_the_preview_shows_pictures_and_their_variants(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    prepared = prepare(dirty, seed=0, say=quiet)
    path = preview(prepared, tiny(augmentation=[{"name": "stain"}]), tmp_path / "preview.png")
    plain = preview(prepared, tiny(augmentation=[]), tmp_path / "plain.png")
    with Image.open(path) as image, Image.open(plain) as other:
        assert image.size == other.size
        assert np.abs(np.asarray(image).astype(int) - np.asarray(other)).mean() > 0.5


def test_the_preview_shows_each_family_by_itself_and_then_all(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    prepared = prepare(dirty, seed=0, say=quiet)
    for count in (2, 5, 14):
        families = [{"name": name, "probability": 0.1} for name in FAMILIES][-count:]
        path = preview(prepared, tiny(augmentation=families), tmp_path / f"{count}.png")
        with Image.open(path) as image:
            assert all(str(family["name"]) in image.info["Description"] for family in families)
            assert image.info["Description"].endswith("together.")
