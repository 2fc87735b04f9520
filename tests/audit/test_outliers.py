from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hemascope.audit.features import cell_features, picture_statistics
from hemascope.audit.outliers import MIN_ROWS, OutlierThresholds, find_outliers
from hemascope.data.cells import Cells, Images
from hemascope.data.load import load
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from plant import NON_CELLS, non_cells

COUNT = 240


def planted(cells: Cells, images: Images) -> Cells:
    labels = np.concatenate([cells.labels, np.arange(len(images)) % len(cells.class_names)])
    every = np.concatenate([np.asarray(cells.images[:]), images])
    return replace(cells, images=every, labels=labels, ids=np.arange(len(every)).astype(str), jpeg=None)


def found_in(cells: Cells, **options: Any) -> Any:
    return find_outliers(cells, picture_statistics(cells), cell_features(cells), **options)


@pytest.fixture(scope="module")
def drawn() -> Cells:
    return draw_cells(COUNT, seed=9)


def test_non_cells_of_every_kind_are_found_and_cells_are_not(drawn: Cells) -> None:
    images, kinds = non_cells(len(NON_CELLS), 3, np.asarray(drawn.images[:]))
    table = found_in(planted(drawn, images))
    flagged = table["is_outlier"].to_numpy()
    assert [kind for kind, hit in zip(kinds, flagged[COUNT:], strict=True) if not hit] == []
    assert flagged[:COUNT].mean() <= 0.02
    assert (table["outlier_reason"].str.len().gt(0) == table["is_outlier"]).all()
    assert ((table["outlier_score"] < 0.5) == table["is_outlier"]).all()
    assert table["outlier_score"].between(0, 1).all()


def test_non_cells_are_found_without_labels(drawn: Cells) -> None:
    images, _ = non_cells(len(NON_CELLS), 4, np.asarray(drawn.images[:]))
    unlabelled = planted(drawn, images)
    table = found_in(replace(unlabelled, labels=np.full(len(unlabelled), -1)))
    assert table["is_outlier"][COUNT:].all()
    assert table["is_outlier"][:COUNT].mean() <= 0.02


def test_a_picture_that_repeats_does_not_become_usual(drawn: Cells) -> None:
    junk, _ = non_cells(1, 5, np.asarray(drawn.images[:]))
    dirty = planted(drawn, np.repeat(junk, 200, axis=0))
    learn = np.arange(len(dirty)) <= COUNT
    table = found_in(dirty, learn=learn)
    assert table["is_outlier"][COUNT:].all()
    assert table["is_outlier"][:COUNT].mean() <= 0.02


def test_blank_pictures_say_so(drawn: Cells) -> None:
    images = np.stack([np.full((96, 96, 3), 77, np.uint8), np.full((96, 96, 3), 200, np.uint8)])
    images[1, ::2] += 9
    table = found_in(planted(drawn, images)).iloc[COUNT:]
    assert table["outlier_score"].tolist() == [0, 0]
    assert table["outlier_reason"].tolist() == [
        "blank: one colour",
        "blank: its pixels differ by 9 grey levels at most",
    ]


def test_the_statistic_at_fault_is_named_and_its_threshold_can_be_set(drawn: Cells) -> None:
    statistics = {name: values.copy() for name, values in picture_statistics(drawn).items()}
    middle = np.median(statistics["mean"])
    spread = 1.4826 * np.median(np.abs(statistics["mean"] - middle))
    statistics["mean"][7] = middle - 6.1 * spread
    table = find_outliers(drawn, statistics)
    assert "distance" not in table
    assert table["outlier_reason"][7] == "mean 6.1 MADs below this set's median"
    assert table["mean"][7] == pytest.approx(-6.1, abs=0.1)
    assert not find_outliers(drawn, statistics, thresholds=OutlierThresholds(mean=7))["is_outlier"][7]
    assert find_outliers(drawn, statistics, thresholds=OutlierThresholds(mean=0.5))["is_outlier"].mean() > 0.3


def test_a_set_of_equal_pictures_has_no_outliers() -> None:
    image = draw_cells(1).images[:]
    images: NDArray[np.uint8] = np.repeat(image, 40, axis=0)
    images[3, 5, 5] ^= 1
    same = Cells(images, np.zeros(40, np.int64), ("any",), np.arange(40).astype(str))
    assert not found_in(same)["is_outlier"].any()


def test_few_pictures_are_not_called_far_from_a_class(drawn: Cells) -> None:
    few = drawn.take(np.arange(MIN_ROWS - 1))
    assert "distance" not in found_in(few)
    assert len(found_in(drawn.take(np.arange(0)))) == 0
    assert "distance" in found_in(drawn.take(np.arange(MIN_ROWS)))


def test_real_cells(shared: Path) -> None:
    cells = load(shared / "data" / "pbc96" / "test.parquet")
    images, _ = non_cells(48, 12, np.asarray(cells.images[:]))
    flagged = found_in(planted(cells, images))["is_outlier"].to_numpy()
    assert flagged[len(cells) :].mean() >= 0.95
    assert flagged[: len(cells)].mean() <= 0.01


def test_bad_input_is_told(drawn: Cells) -> None:
    statistics = picture_statistics(drawn)
    with pytest.raises(InputError, match="'features' has 3 rows for 240 pictures"):
        find_outliers(drawn, statistics, np.zeros((3, 5), np.float32))
    with pytest.raises(InputError, match="threshold 'entropy' is 0"):
        OutlierThresholds(entropy=0)
