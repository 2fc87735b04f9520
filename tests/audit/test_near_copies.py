from __future__ import annotations

import io
import runpy
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.audit.near_copies import near_copies, near_copy_groups
from hemascope.data.cells import Cells
from hemascope.synthetic import draw_cells

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "pbc96"
plant = runpy.run_path(str(ROOT / "bench" / "plant_near_copies.py"))["plant"]


def cells(images: NDArray[np.uint8], labels: list[int] | None = None, source: str = "a.npz") -> Cells:
    names = np.array([f"{source}#{row}" for row in range(len(images))], dtype=str)
    tags = np.zeros(len(images), np.int64) if labels is None else np.array(labels)
    return Cells(images, tags, ("red", "blue"), names, source=source)


@pytest.fixture(scope="module")
def drawn() -> NDArray[np.uint8]:
    return np.asarray(draw_cells(80, seed=3).images)


def test_planted_near_copies_are_found_and_described(drawn: NDArray[np.uint8]) -> None:
    images, pairs, kinds = plant(drawn, 70, seed=1)
    found = near_copies(cells(images))
    assert found.columns.tolist() == ["row", "other_row", "id", "other_id", "similarity", "transform", "other_label"]
    got = dict(zip(zip(found["row"], found["other_row"], strict=True), found["transform"], strict=True))
    planted = {(int(row), int(other)): kind for (row, other), kind in zip(pairs, kinds, strict=True)}
    assert len(got.keys() & planted.keys()) > 68
    assert not got.keys() - planted.keys()
    assert found["similarity"].between(0.96, 1).all()
    assert found["id"][0] == f"a.npz#{found['row'][0]}"
    for pair, words in got.items():
        for kind in ("turned", "mirrored"):
            if planted[pair] == kind:
                assert words.startswith(kind)
        if planted[pair] == "shifted":
            assert words.startswith("moved by")


def test_the_same_table_every_time(drawn: NDArray[np.uint8]) -> None:
    images, *_ = plant(drawn[:40], 20, seed=2)
    first, second = near_copies(cells(images)), near_copies(cells(images))
    assert first.equals(second)


def test_exact_copies_count_once_and_are_no_near_copies(drawn: NDArray[np.uint8]) -> None:
    images = drawn[[0, 0, 1, 2, 3, 4, 5, 6]]
    images = np.concatenate([images, images[:1, ::-1], images[:1, ::-1]])
    found = near_copies(cells(images))
    assert found[["row", "other_row"]].to_numpy().tolist() == [[0, 8]]


def test_against_another_set_of_another_size(drawn: NDArray[np.uint8]) -> None:
    turned = np.rot90(drawn[10:20], 1, (1, 2))
    smaller = np.stack([np.asarray(Image.fromarray(one).resize((80, 80))) for one in turned])
    found = near_copies(cells(drawn), against=cells(smaller, [1] * 10, source="b.npz"))
    assert found["row"].tolist() == list(range(10, 20))
    assert found["other_row"].tolist() == list(range(10))
    assert found["other_id"].tolist() == [f"b.npz#{row}" for row in range(10)]
    assert found["other_label"].all()
    assert set(found["transform"]) == {"turned by 270 degrees"}
    exact = near_copies(cells(drawn), against=cells(drawn[:30], source="b.npz"))
    assert exact.empty


def test_near_copy_groups_join_exact_ones(drawn: NDArray[np.uint8]) -> None:
    images = np.concatenate([drawn[:4], drawn[:1], drawn[:1, ::-1], np.rot90(drawn[:1], 1, (1, 2))])
    found = near_copies(cells(images))
    groups = near_copy_groups(np.array([0, 1, 2, 3, 0, 4, 5]), found)
    assert groups.tolist() == [0, 1, 2, 3, 0, 0, 0]
    assert near_copy_groups(np.array([0, 1, 1]), found.iloc[:0]).tolist() == [0, 1, 1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_very_few_rows(drawn: NDArray[np.uint8], count: int) -> None:
    assert near_copies(cells(drawn[:count])).empty
    assert near_copies(cells(drawn[:count]), against=cells(drawn[5:6])).empty
    assert near_copies(cells(drawn[5:6]), against=cells(drawn[:count])).empty


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (30, 20)])
def test_very_small_and_oblong_pictures(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, *shape, 3), dtype=np.uint8)
    assert near_copies(cells(images)).empty


def test_blank_pictures_are_not_each_others_copies() -> None:
    images = np.repeat(np.arange(0, 240, 8, dtype=np.uint8), 32 * 32 * 3).reshape(-1, 32, 32, 3)
    assert near_copies(cells(images)).empty


@pytest.mark.skipif(not REAL.is_dir(), reason="the real cells are not here")
def test_real_cells() -> None:
    coded = pq.read_table(REAL / "test.parquet")["image"].to_pylist()[:300]
    images = np.stack([np.asarray(Image.open(io.BytesIO(one["bytes"]))) for one in coded])
    images, pairs, _ = plant(images, 60, seed=4)
    found = near_copies(cells(images))
    got = set(zip(found["row"], found["other_row"], strict=True))
    planted = {(int(row), int(other)) for row, other in pairs}
    assert len(got & planted) >= 0.98 * len(planted)
    assert not got - planted


def test_small_round_cells_that_many_changes_make_alike_are_no_copies() -> None:
    assert near_copies(draw_cells(1200, seed=1)).empty
