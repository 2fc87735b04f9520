from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hemascope.data import Cells
from hemascope.recipe import Recipe
from hemascope.search import SHARES, learning_curve, suffices

Tiny = Callable[..., Recipe]


def test_the_learning_curve_uses_growing_parts_of_the_same_rows(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    table = learning_curve(dirty, tiny(backbone="none", stages=[]), tmp_path / "curve", say=lambda sentence: None)
    assert table["share"].tolist() == list(SHARES)
    assert table["rows"].is_monotonic_increasing
    splits = [pd.read_csv(tmp_path / "curve" / f"share-{round(share * 100):03d}" / "split.csv") for share in SHARES]
    training = [set(split.loc[split["split"] == "train", "id"]) for split in splits]
    assert all(small < large for small, large in itertools.pairwise(training))
    held = [set(split.loc[split["split"] == "validation", "id"]) for split in splits]
    assert all(part == held[0] for part in held)
    assert (tmp_path / "curve" / "learning_curve.png").is_file()


@pytest.mark.parametrize(
    ("half", "whole", "sentence"),
    [(0.95, 0.953, "would bring little"), (0.94, 0.95, "within what chance"), (0.80, 0.90, "do not suffice yet")],
)
def test_whether_the_data_suffice(half: float, whole: float, sentence: str) -> None:
    scores = [0.5, 0.7, half, whole]
    table = pd.DataFrame(
        {
            "validation_accuracy": scores,
            "validation_accuracy_low": [score - 0.015 for score in scores],
            "validation_accuracy_high": [score + 0.015 for score in scores],
        }
    )
    assert sentence in suffices(table)
