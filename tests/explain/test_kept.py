from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hemascope.data import Cells
from hemascope.drawing import typical_answers
from hemascope.explain.kept import keep_explanations
from hemascope.explain.neighbours import FILE
from hemascope.run import Run
from hemascope.runtime import HEATMAP, load_model


def test_a_run_keeps_what_explains_it(finished: Run) -> None:
    assert load_model(finished.folder).explains
    assert (finished.model / FILE).is_file()
    page = finished.report.read_text(encoding="utf-8")
    assert (finished.figures / "heat_maps_right.png").is_file()
    assert page.count("<h3>Where it looks</h3>") == 1
    assert ("Where it looked when it was wrong" in page) == (finished.figures / "heat_maps_wrong.png").is_file()


def test_a_network_without_heat_maps_loses_nothing_else(finished: Run, dirty: Cells, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    (run.model / HEATMAP).unlink()
    (run.model / FILE).unlink()
    (run.model / "weights.safetensors").write_bytes(b"no weights")
    table = pd.read_csv(finished.split, keep_default_na=False)
    split = dict(zip(table["id"], table["split"], strict=True))
    cells = dirty.take(np.isin(dirty.ids, list(split)))
    cells = replace(cells, split=np.array([split[name] for name in cells.ids.tolist()]))
    said: list[str] = []
    assert not keep_explanations(run, cells, said.append).explains
    assert len(said) == 1
    assert said[0].startswith("no heat maps: ")
    # The same rows again, as the choice is made by the seed alone.
    assert (run.model / FILE).read_bytes() == (finished.model / FILE).read_bytes()


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
