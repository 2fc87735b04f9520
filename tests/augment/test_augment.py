"""The front door: what holds for every family and both ways of carrying a plan out."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hemascope.augment import FAMILIES, MIXING, _worth, augment, compiled, label_weights
from hemascope.data import Cells
from hemascope.recipe import Augmentation, AugmentationName
from hemascope.synthetic import draw_cells

Pictures = NDArray[np.uint8]

ROWS = np.array([11, 5, 90, 2, 64, 33], np.int64)
MANY = np.arange(64, dtype=np.int64)
ALONE = sorted(set(FAMILIES) - set(MIXING))
SAME_FOR_ALL = ("grey",)
"""Families whose magnitude leaves nothing to draw."""
CHAINED = ("randaugment", "augmix", "augmix-plain")


@pytest.fixture(scope="module")
def batch(drawn: Cells) -> Pictures:
    return np.asarray(drawn.images[: len(ROWS)])


@pytest.fixture(scope="module", params=["cells", "random"])
def many(request: pytest.FixtureRequest) -> Pictures:
    """64 pictures, of cells and wider than high, or of noise."""
    if request.param == "cells":
        return np.ascontiguousarray(np.asarray(draw_cells(len(MANY), seed=9, size=64).images[:])[:, 6:58])
    return np.random.default_rng(2).integers(0, 256, (len(MANY), 48, 48, 3), dtype=np.uint8)


def steps(*names: AugmentationName, magnitude: float = 0.6, probability: float = 1.0) -> list[Augmentation]:
    return [Augmentation(name=name, magnitude=magnitude, probability=probability) for name in names]


def as_tensor(pictures: Pictures) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def as_array(pictures: torch.Tensor) -> Pictures:
    return pictures.permute(0, 2, 3, 1).numpy()


def test_every_name_of_a_recipe_has_a_family_and_says_what_its_magnitude_is() -> None:
    assert set(get_args(AugmentationName)) == set(FAMILIES)
    assert all(family.magnitude for family in FAMILIES.values())


@pytest.mark.parametrize("magnitude", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_arrays_and_tensors_come_out_in_the_same_grey_levels(
    name: AugmentationName, magnitude: float, many: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = steps(name, magnitude=magnitude)
    assert compiled()
    by_numba = augment(many, MANY, chosen, seed=1, epoch=2).astype(int)
    monkeypatch.setattr("hemascope.augment.compiled", lambda: False)
    by_opencv = augment(many, MANY, chosen, seed=1, epoch=2).astype(int)
    by_torch = as_array(augment(as_tensor(many), MANY, chosen, seed=1, epoch=2)).astype(int)
    for one, other in ((by_numba, by_opencv), (by_opencv, by_torch), (by_numba, by_torch)):
        apart = np.abs(one - other)
        if name in CHAINED:
            # One level apart before solarise, posterise or equalise can be many after it: rare pixels.
            assert (apart > 1).mean() < 0.001
        else:
            assert apart.max() <= 1


@pytest.mark.parametrize("name", ALONE)
def test_a_picture_in_a_batch_comes_out_as_it_would_alone(name: AugmentationName, batch: Pictures) -> None:
    tensor = as_tensor(batch)
    together = augment(batch, ROWS, steps(name), seed=3, epoch=1)
    tensors = augment(tensor, ROWS, steps(name), seed=3, epoch=1)
    assert (together.shape, together.dtype) == (batch.shape, batch.dtype)
    assert (tensors.shape, tensors.dtype) == (tensor.shape, tensor.dtype)
    for place in range(len(ROWS)):
        part = slice(place, place + 1)
        assert (augment(batch[part], ROWS[part], steps(name), seed=3, epoch=1)[0] == together[place]).all()
        assert (augment(tensor[part], ROWS[part], steps(name), seed=3, epoch=1)[0] == tensors[place]).all()


@pytest.mark.parametrize("name", sorted(set(ALONE) - set(SAME_FOR_ALL)))
def test_each_picture_gets_its_own_draw_and_each_epoch_another(name: AugmentationName, batch: Pictures) -> None:
    same = np.broadcast_to(batch[:1], batch.shape)
    chosen = steps(name, magnitude=1.0)
    first = augment(same, ROWS, chosen, seed=0, epoch=0)
    assert len({picture.tobytes() for picture in first}) > 2
    assert (first != augment(same, ROWS, chosen, seed=0, epoch=1)).any()
    assert (first != augment(same, ROWS, chosen, seed=1, epoch=0)).any()
    assert (first == augment(same, ROWS, chosen, seed=0, epoch=0)).all()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_pictures_given_are_left_alone_and_most_of_a_cell_stays(name: AugmentationName, batch: Pictures) -> None:
    before = batch.copy()
    changed = augment(batch, ROWS, steps(name, magnitude=0.25), seed=0, epoch=0)
    assert (batch == before).all()
    assert changed.std() > 10


def test_a_step_touches_its_share_of_the_pictures(batch: Pictures) -> None:
    rows = np.arange(600, dtype=np.int64)
    pictures = np.broadcast_to(batch[:1], (600, *batch.shape[1:]))
    moved = augment(pictures, rows, steps("jitter", magnitude=1.0, probability=0.25), seed=0, epoch=0)
    share = (moved != pictures).reshape(600, -1).any(1).mean()
    assert 0.19 < share < 0.31
    unmoved = augment(pictures, rows, steps("jitter", magnitude=1.0, probability=0.0), seed=0, epoch=0)
    assert (unmoved == pictures).all()


@pytest.mark.parametrize(
    ("shape", "most"), [((512, 96, 96, 3), 2), ((20, 96, 96, 3), 1), ((4, 256, 256, 3), 1), ((64, 256, 256, 3), 16)]
)
def test_few_or_small_pictures_are_shared_among_few_threads(
    shape: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "24")
    assert _worth(np.zeros(shape, np.uint8)) == most


def test_the_number_of_threads_changes_nothing(many: Pictures) -> None:
    chosen = steps("randaugment", "mixup", "augmix", "stain", probability=0.7)
    one = augment(many, MANY, chosen, seed=4, epoch=0, threads=1)
    for threads in (2, 3, 200):
        assert (augment(many, MANY, chosen, seed=4, epoch=0, threads=threads) == one).all()


def test_two_steps_of_one_family_draw_apart(batch: Pictures) -> None:
    once = augment(batch, ROWS, steps("shift"), seed=0, epoch=0)
    twice = augment(batch, ROWS, steps("shift", "shift"), seed=0, epoch=0)
    again = augment(once, ROWS, steps("shift"), seed=0, epoch=0)
    assert (twice != again).any()


def test_float_pictures_come_back_as_floats_in_whole_grey_levels(batch: Pictures) -> None:
    tensor = as_tensor(batch)
    chosen = steps("randaugment", "augmix")
    expected = augment(tensor, ROWS, chosen, seed=0, epoch=0)
    for dtype in (torch.float32, torch.float64, torch.float16):
        found = augment(tensor.to(dtype), ROWS, chosen, seed=0, epoch=0)
        assert found.dtype == dtype
        assert torch.equal(found.to(torch.uint8), expected)


def test_no_pictures_no_steps_and_tensors_in_any_memory_order(batch: Pictures) -> None:
    nothing = augment(batch[:0], ROWS[:0], steps("randaugment", "augmix", "bubbles", "cutmix"), seed=0, epoch=0)
    assert nothing.shape == (0, *batch.shape[1:])
    assert (augment(batch, ROWS, [], seed=0, epoch=0) == batch).all()
    chosen = steps("randaugment", "augmix", "gaussian-noise", "jpeg", "motion-blur")
    last = torch.from_numpy(batch).permute(0, 3, 1, 2)
    first = augment(last.contiguous(), ROWS, chosen, seed=0, epoch=0)
    assert torch.equal(augment(last, ROWS, chosen, seed=0, epoch=0), first)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (17, 40)])
def test_any_size_of_picture_is_taken(name: AugmentationName, shape: tuple[int, int]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, *shape, 3), dtype=np.uint8)
    rows = np.arange(4, dtype=np.int64)
    chosen = steps(name, magnitude=1.0)
    assert augment(pictures, rows, chosen, seed=0, epoch=0).shape == pictures.shape
    assert augment(as_tensor(pictures), rows, chosen, seed=0, epoch=0).shape == (4, 3, *shape)


def test_the_generators_of_the_caller_are_left_alone(batch: Pictures) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    augment(as_tensor(batch), ROWS, steps(*FAMILIES), seed=0, epoch=0)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("numba", ["there", "missing", "told to compile nothing"])
def test_arrays_are_augmented_without_torch_and_without_numba(numba: str) -> None:
    code = (
        "import sys, numpy as np\n"
        + ("sys.modules['numba'] = None\n" if numba == "missing" else "")
        + "from hemascope.augment import FAMILIES, augment, compiled\n"
        "from hemascope.recipe import Augmentation\n"
        "steps = [Augmentation(name=name) for name in FAMILIES]\n"
        "augment(np.zeros((3, 32, 32, 3), np.uint8), np.arange(3), steps, seed=0, epoch=0)\n"
        "assert 'torch' not in sys.modules\n"
        f"assert compiled() is {numba == 'there'}\n"
    )
    told = {"NUMBA_DISABLE_JIT": "1"} if numba.startswith("told") else {}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | told)


def test_labels_are_mixed_only_where_pictures_are() -> None:
    rows = np.arange(40, dtype=np.int64)
    assert label_weights(rows, steps("randaugment", "jitter"), (8, 8), seed=0, epoch=0) is None
    weights = label_weights(rows, steps("jitter", "mixup", probability=0.5), (8, 8), seed=0, epoch=0)
    assert weights is not None
    assert 10 < (weights.diagonal() == 1).sum() < 30
