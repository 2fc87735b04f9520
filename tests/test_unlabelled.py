from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hemascope.corrupt import corrupt
from hemascope.data import Cells
from hemascope.run import Run
from hemascope.runtime import load_model
from hemascope.synthetic import draw_cells
from hemascope.trust import SpotCheck
from hemascope.unlabelled import look_at


@pytest.fixture(scope="module")
def fresh() -> Cells:
    return draw_cells(240, seed=21, size=32)


def test_what_is_found_stands_in_the_facts_and_on_the_page(finished: Run, fresh: Cells, tmp_path: Path) -> None:
    images = corrupt(np.asarray(fresh.images[:]), "brightness_down", 5, seed=1, rows=np.arange(240))
    cells = replace(fresh, images=images, labels=np.full(240, -1), unreadable={"<b>.png": "it is empty."})
    found = look_at(load_model(finished.folder), cells, "a model", preparation={"field": 1.0})
    assert sum(found.facts["predicted"].values()) == len(found.predicted) == 240
    assert any("differ from those of training" in sentence for sentence in found.sentences)
    page = found.write(tmp_path)
    text = page.read_text()
    for told in (
        "240</em> pictures without labels",
        "How many are right is not known",
        "differ from those of training",
    ):
        assert told in text
    assert "&lt;b&gt;.png" in text
    assert "<b>.png" not in text
    assert json.loads((tmp_path / "metrics.json").read_text())["doubted"] == found.facts["doubted"]


def test_a_spot_check_says_how_many_are_right(finished: Run, fresh: Cells, tmp_path: Path) -> None:
    found = look_at(load_model(finished.folder), fresh, "a model").with_spot_check(
        SpotCheck(59, 60, 240, 59 / 60, 0.92, 0.99)
    )
    text = found.write(tmp_path).read_text()
    assert "A person has named 60 of them" in text
    assert "Between 92.0% and 99.0% of them are named rightly" in text
    assert "is not known" not in text


def test_pictures_that_trained_the_model_are_told(finished: Run, dirty: Cells, tmp_path: Path) -> None:
    found = look_at(load_model(finished.folder), dirty, "a model")
    assert found.facts["trained_on"] > 0
    assert f"{found.facts['trained_on']} of these pictures trained the model" in found.write(tmp_path).read_text()
