from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.audit.copies import JPEG_TOLERANCE, copy_groups, find_copies, leaks
from hemascope.data.cells import Cells
from hemascope.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "pbc96"


def pictures(count: int, seed: int = 0, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def cells(images: NDArray[np.uint8], labels: Any, source: str = "a.npz", **known: Any) -> Cells:
    ids = np.array([f"{source}#{row}" for row in range(len(images))], dtype=str)
    return Cells(images, np.asarray(labels, np.int64), ("red", "green", "blue"), ids, source=source, **known)


def test_groups_are_numbered_as_they_appear() -> None:
    groups = copy_groups(np.array(["c", "a", "c", "b", "a"]))
    assert groups.dtype == np.int64
    assert groups.tolist() == [0, 1, 0, 2, 1]
    assert copy_groups(np.array([], dtype=str)).tolist() == []


def test_every_verdict_and_its_reason() -> None:
    images = pictures(4)[[0, 1, 0, 2, 1, 3, *[2] * 11]]
    found = find_copies(cells(images, [0, 1, 0, 2, 2, 0, *[0, 1, 2] * 3, 0, 1]))
    assert (
        found.verdict.tolist()
        == ["keep", "copy_other_label", "copy", "not_a_cell", "copy_other_label", "keep"] + ["not_a_cell"] * 11
    )
    assert found.copies.tolist() == [2, 2, 2, 12, 2, 1] + [12] * 11
    assert found.counts() == {"keep": 2, "copy": 1, "copy_other_label": 2, "not_a_cell": 12}
    assert np.flatnonzero(found.keep).tolist() == [0, 5]
    assert found.reason[:6].tolist() == [
        "",
        "the same pixels as a.npz#4, labelled blue there and green here",
        "the same pixels as a.npz#0",
        "stands 12 times under 3 labels: not a cell",
        "the same pixels as a.npz#1, labelled green there and blue here",
        "",
    ]


@pytest.mark.parametrize(
    ("labels", "verdict"),
    [
        ([0] * 12, "copy"),
        ([0, 1] * 6, "copy_other_label"),
        ([0, 1, 2] * 3, "copy_other_label"),
        ([0, 1, 2] * 4, "not_a_cell"),
        ([-1] * 12, "not_a_cell"),
        ([-1] * 9, "copy"),
    ],
)
def test_what_repeats_is_no_cell_only_when_often_and_under_many_labels(labels: list[int], verdict: str) -> None:
    # Three further cells make the set one of three classes.
    images = np.concatenate([np.repeat(pictures(1), len(labels), 0), pictures(3, seed=1)])
    found = find_copies(cells(images, [*labels, 0, 1, 2]))
    assert found.verdict[len(labels) - 1] == verdict
    assert found.keep[: len(labels)].sum() == (verdict == "copy")
    assert found.keep[len(labels) :].all()


def test_two_labels_are_many_in_a_set_of_two_classes() -> None:
    found = find_copies(cells(np.repeat(pictures(1), 10, 0), [0, 1] * 5))
    assert set(found.verdict) == {"not_a_cell"}


def test_a_labelled_row_and_a_held_out_row_stay_before_the_first() -> None:
    images = np.repeat(pictures(1), 3, 0)
    assert find_copies(cells(images, [-1, 2, -1])).keep.tolist() == [False, True, False]
    split = np.array(["train", "test", "validation"])
    assert find_copies(cells(images, [1, 1, 1], split=split)).keep.tolist() == [False, True, False]


def test_no_rows_and_one_row() -> None:
    assert len(find_copies(cells(pictures(0), [])).verdict) == 0
    assert find_copies(cells(pictures(1), [0])).verdict.tolist() == ["keep"]


def test_hashes_must_be_as_many_as_images() -> None:
    with pytest.raises(InputError, match="got 2 hashes for 3 images"):
        find_copies(cells(pictures(3), [0, 1, 2]), np.array(["a", "b"]))


def test_a_decoders_grey_level_is_forgiven_in_jpeg_only() -> None:
    smooth = np.asarray(Image.fromarray(pictures(1, side=4)[0]).resize((32, 32)))
    coded = io.BytesIO()
    Image.fromarray(smooth).save(coded, "JPEG", quality=90)
    decoded = np.asarray(Image.open(coded))
    noise = np.random.default_rng(1).integers(-JPEG_TOLERANCE, JPEG_TOLERANCE + 1, decoded.shape)
    near = np.clip(decoded.astype(int) + noise, 0, 255).astype(np.uint8)
    far = near.copy()
    far[3, 4, 1] = decoded[3, 4, 1] + (3 if decoded[3, 4, 1] < 200 else -3)
    images = np.stack([decoded, near, far])
    assert find_copies(cells(images, [0, 0, 0])).counts()["copy"] == 0
    found = find_copies(cells(images, [0, 0, 0], jpeg=np.array([True, False, False])))
    assert found.verdict.tolist() == ["keep", "copy", "keep"]
    assert found.reason[1] == "the same pixels within 2 grey levels as a.npz#0"
    across = leaks(cells(images[1:], [0, 0]), cells(images[:1], [0], "b.npz", jpeg=np.array([True])))
    assert across["row"].tolist() == [0]


def test_many_jpeg_near_twins_need_more_than_one_pass_but_no_pairs() -> None:
    base = pictures(1, side=16)[0].clip(2, 253)
    wobble = np.random.default_rng(2).integers(0, 2, (300, 16, 16, 3), dtype=np.uint8)
    images = np.concatenate([base + wobble, pictures(50, seed=3, side=16)])
    found = find_copies(cells(images, [0] * 350, jpeg=np.ones(350, bool)))
    assert found.counts()["copy"] == 299
    assert len(np.unique(found.group)) == 51


def test_leaks_between_two_files() -> None:
    training, test = pictures(5), pictures(3, seed=1)
    test[[0, 2]] = training[[3, 1]]
    found = leaks(cells(training, [0, 1, 2, 0, 1]), cells(test, [2, 0, 1], "b.npz"))
    assert found["row"].tolist() == [1, 3]
    assert found["other_row"].tolist() == [2, 0]
    assert found["other_id"].tolist() == ["b.npz#2", "b.npz#0"]
    assert found["other_label"].tolist() == [False, True]
    assert found["where"].tolist() == ["a.npz and b.npz"] * 2
    assert found["reason"].tolist() == [
        "the same pixels as b.npz#2",
        "the same pixels as b.npz#0, labelled blue there and red here",
    ]


def test_leaks_compare_class_names_and_allow_other_sizes() -> None:
    images = pictures(2)
    one = cells(images, [0, 1])
    same_names_in_another_order = Cells(images, np.array([1, 2]), ("blue", "red", "green"), one.ids, source="b.npz")
    assert not leaks(one, same_names_in_another_order)["other_label"].any()
    assert len(leaks(one, cells(pictures(2, side=9), [0, 1], jpeg=np.ones(2, bool)))) == 0


def test_leaks_between_the_splits_of_one_file() -> None:
    images = pictures(4)[[0, 1, 0, 0, 2, 3, 1]]
    split = np.array(["train", "train", "validation", "test", "train", "test", "train"])
    found = leaks(cells(images, [0, 1, 0, 2, 0, 0, 1], split=split))
    assert found[["row", "other_row", "where"]].to_numpy().tolist() == [
        [0, 3, "train and test"],
        [2, 3, "validation and test"],
    ]
    assert found["other_label"].tolist() == [True, True]
    assert len(leaks(cells(images, [0] * 7))) == 0
    with pytest.raises(InputError, match="a split named 'dev'"):
        leaks(cells(images, [0] * 7, split=np.array(["train"] * 6 + ["dev"])))


def test_leaks_of_near_copies_between_splits() -> None:
    split = np.array(["train", "test", "test", "train"])
    found = leaks(cells(pictures(4), [0, 1, 2, 0], split=split), groups=np.array([0, 1, 0, 2]))
    assert found[["row", "other_row"]].to_numpy().tolist() == [[0, 2]]
    assert found["reason"].tolist() == ["the same cell as a.npz#2, labelled blue there and red here"]


def test_a_picture_that_repeats_costs_no_pairs() -> None:
    images = np.repeat(pictures(1), 60_000, 0)
    start = time.process_time()
    found = find_copies(cells(images, [0, 1, 2] * 20_000))
    between = leaks(cells(images, [0] * 60_000), cells(images, [0] * 60_000))
    assert found.counts()["not_a_cell"] == len(between) == 60_000
    assert time.process_time() - start < 8


@pytest.mark.skipif(not REAL.is_dir(), reason="the real cells are not here")
def test_real_cells_with_two_pictures_that_are_none() -> None:
    """The rows whose coded bytes repeat and 300 others: decoding all 13,671 takes too long here."""
    table = pa.concat_tables([pq.read_table(REAL / f"{name}.parquet") for name in ("train", "test")])
    coded = np.array([hashlib.md5(row["bytes"]).hexdigest() for row in table["image"].to_pylist()])
    labels, training_rows = table["label"].to_numpy().astype(np.int64), 11_959
    _, number, times = np.unique(coded, return_inverse=True, return_counts=True)
    some = np.union1d(np.flatnonzero(times[number] > 1), np.arange(11_900, 12_200))
    opened = [Image.open(io.BytesIO(table["image"][int(row)]["bytes"].as_py())) for row in some]
    images, tags = np.stack([np.asarray(image, np.uint8) for image in opened]), labels[some]
    here = some < training_rows
    others = np.repeat(pictures(2, side=96), (1_600, 200), axis=0)
    names = tuple("abcdefgh")
    training = Cells(
        np.concatenate([images[here], others]),
        np.concatenate([tags[here], np.arange(1_800) % 8]),
        names,
        np.arange(here.sum() + 1_800).astype(str),
    )
    counts = find_copies(training).counts()
    assert (counts["copy"], counts["copy_other_label"], counts["not_a_cell"]) == (8, 0, 1_800)
    found = leaks(training, Cells(images[~here], tags[~here], names, np.arange((~here).sum()).astype(str)))
    assert len(found) == 5
    assert found["other_label"].sum() == 1
