from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hemascope.augment import FAMILIES, augment
from hemascope.data import Cells
from hemascope.recipe import Augmentation, AugmentationName

ROWS = np.array([11, 5, 90, 2, 64, 33], np.int64)


@pytest.fixture
def batch(drawn: Cells) -> NDArray[np.uint8]:
    return np.asarray(drawn.images[: len(ROWS)])


def steps(*names: AugmentationName, magnitude: float = 0.6, probability: float = 1.0) -> list[Augmentation]:
    return [Augmentation(name=name, magnitude=magnitude, probability=probability) for name in names]


def as_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def test_every_name_of_a_recipe_has_a_family() -> None:
    assert set(get_args(AugmentationName)) == set(FAMILIES)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_picture_in_a_batch_comes_out_as_it_would_alone(name: AugmentationName, batch: NDArray[np.uint8]) -> None:
    tensor = as_tensor(batch)
    together = augment(batch, ROWS, steps(name), seed=3, epoch=1)
    tensors = augment(tensor, ROWS, steps(name), seed=3, epoch=1)
    assert (together.shape, together.dtype) == (batch.shape, batch.dtype)
    assert (tensors.shape, tensors.dtype) == (tensor.shape, tensor.dtype)
    for place in range(len(ROWS)):
        part = slice(place, place + 1)
        assert (augment(batch[part], ROWS[part], steps(name), seed=3, epoch=1)[0] == together[place]).all()
        assert (augment(tensor[part], ROWS[part], steps(name), seed=3, epoch=1)[0] == tensors[place]).all()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_picture_gets_its_own_draw_and_each_epoch_another(
    name: AugmentationName, batch: NDArray[np.uint8]
) -> None:
    same = np.broadcast_to(batch[:1], batch.shape)
    first = augment(same, ROWS, steps(name), seed=0, epoch=0)
    assert len({picture.tobytes() for picture in first}) > 2
    assert (first != augment(same, ROWS, steps(name), seed=0, epoch=1)).any()
    assert (first == augment(same, ROWS, steps(name), seed=0, epoch=0)).all()
    assert (same == batch[:1]).all()


def test_a_step_touches_its_share_of_the_pictures(batch: NDArray[np.uint8]) -> None:
    rows = np.arange(600, dtype=np.int64)
    pictures = np.broadcast_to(batch[:1], (600, *batch.shape[1:]))
    moved = augment(pictures, rows, steps("jitter", magnitude=1.0, probability=0.25), seed=0, epoch=0)
    share = (moved != pictures).reshape(600, -1).any(1).mean()
    assert 0.19 < share < 0.31
