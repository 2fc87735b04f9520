from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hemascope.data import SPLITS, Cells
from hemascope.errors import InputError
from hemascope.split import FRACTIONS, split

NAMES = ("basophil", "eosinophil", "erythroblast")


def cells_of(labels: np.ndarray, groups: np.ndarray | None = None) -> Cells:
    images = np.arange(len(labels) * 12, dtype=np.int64).reshape(len(labels), 2, 2, 3)
    hashed = (images * 2654435761 % 256).astype(np.uint8)
    return Cells(
        hashed, labels.astype(np.int64), NAMES, np.arange(len(labels)).astype(str), groups=groups, source="made.npz"
    )


def hashes_of(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint64)


def test_shares_are_kept_within_each_class() -> None:
    labels = np.repeat([0, 1, 2], [1000, 500, 50])
    found = split(cells_of(labels), hashes=hashes_of(1550))
    for label, count in ((0, 1000), (1, 500), (2, 50)):
        for name in SPLITS:
            rows = ((found.split == name) & (labels == label)).sum()
            assert abs(rows - FRACTIONS[name] * count) <= 1


def test_the_seed_decides() -> None:
    cells = cells_of(np.repeat([0, 1, 2], 100))
    first, again, other = (np.asarray(split(cells, seed=seed, hashes=hashes_of(300)).split) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_split_does_not_depend_on_how_pixels_are_hashed() -> None:
    cells = cells_of(np.repeat([0, 1, 2], 100))
    hashes = np.arange(300) // 2
    renamed = np.random.default_rng(0).permutation(150)[hashes]
    assert np.array_equal(np.asarray(split(cells, hashes=hashes).split), np.asarray(split(cells, hashes=renamed).split))


def test_copies_and_groups_stay_on_one_side() -> None:
    rng = np.random.default_rng(1)
    labels = np.sort(rng.integers(0, 3, 600))
    groups = rng.integers(0, 60, 600).astype(str)
    hashes = np.arange(600)
    hashes[1::50] = hashes[0::50]
    found = split(cells_of(labels, groups), hashes=hashes)
    assert found.split is not None
    for key in (groups, hashes):
        for value in np.unique(key):
            assert len(set(found.split[key == value].tolist())) == 1
    shares = {name: (found.split == name).mean() for name in SPLITS}
    assert shares == pytest.approx(FRACTIONS, abs=0.03)
    for label in range(3):
        assert set(found.split[labels == label].tolist()) == set(SPLITS)


def test_near_copies_come_to_the_side_of_most_or_are_held_out_and_nothing_else_moves() -> None:
    cells = cells_of(np.repeat([0, 1], 200))
    hashes = hashes_of(400)
    plain = np.asarray(split(cells, hashes=hashes).split)
    near = np.arange(400)
    training, tested = (np.flatnonzero(plain[:200] == name) for name in ("train", "test"))
    near[tested[0]] = near[training[0]]
    near[tested[1]] = near[training[1]] = near[training[2]]
    together = np.asarray(split(cells, hashes=hashes, near=near).split)
    assert together[training[0]] == "test"
    assert together[tested[1]] == "train"
    moved = [training[0], tested[1]]
    assert np.array_equal(np.flatnonzero(together != plain), np.sort(moved))


def test_a_group_goes_with_its_near_copies() -> None:
    groups = np.array([f"patient {number // 10}" for number in range(400)])
    cells = cells_of(np.tile([0, 1], 200), groups)
    plain = np.asarray(split(cells, hashes=hashes_of(400)).split)
    near = np.arange(400)
    one, other = np.flatnonzero(plain == "train")[0], np.flatnonzero(plain == "test")[0]
    near[other] = near[one]
    together = np.asarray(split(cells, hashes=hashes_of(400), near=near).split)
    for patient in np.unique(groups):
        assert len(np.unique(together[groups == patient])) == 1
    assert together[one] == together[other]


def test_a_class_of_near_copies_alone_is_refused() -> None:
    cells = cells_of(np.repeat([0, 1], [200, 20]))
    near = np.minimum(np.arange(220), 200)
    with pytest.raises(InputError, match=r"'.*' has so many near copies that none"):
        split(cells, hashes=hashes_of(220), near=near)


def test_a_few_large_groups_still_fill_every_split() -> None:
    groups = np.repeat(["a", "b", "c", "d"], 30)
    found = split(cells_of(np.tile([0, 1, 2], 40), groups), hashes=hashes_of(120))
    assert set(np.asarray(found.split).tolist()) == set(SPLITS)


def test_a_split_that_the_file_brings_is_kept_and_calibration_comes_from_its_training_rows() -> None:
    labels = np.tile([0, 1, 2], 100)
    own = np.array(["train"] * 200 + ["validation"] * 40 + ["test"] * 60)
    found = split(replace(cells_of(labels), split=own), hashes=hashes_of(300))
    assert found.split is not None
    assert (found.split[200:] == own[200:]).all()
    assert set(found.split[:200].tolist()) == {"train", "calibration"}
    assert 10 <= (found.split == "calibration").sum() <= 30


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cells: replace(cells, labels=np.zeros(30, np.int64)), "are of one class (basophil)"),
        (lambda cells: replace(cells, labels=np.array([0] * 29 + [1])), "class 'eosinophil' has 1 picture"),
        (
            lambda cells: replace(cells, labels=np.array([0] * 20 + [1] * 8 + [-1] * 2)),
            "2 of 30 pictures have no label",
        ),
        (lambda cells: replace(cells, groups=np.array(["a"] * 15 + ["b"] * 15)), "independent group"),
        (lambda cells: replace(cells, split=np.array(["test"] * 30)), "has no training rows"),
    ],
)
def test_what_cannot_be_split_is_refused(change: Callable[[Cells], Cells], sentence: str) -> None:
    cells = change(cells_of(np.repeat([0, 1], 15)))
    with pytest.raises(InputError, match=r"made\.npz") as error:
        split(cells, hashes=hashes_of(30))
    assert sentence in str(error.value)
