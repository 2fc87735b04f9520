from __future__ import annotations

import numpy as np
import pytest
import torch

from hemascope.augment import FAMILIES, Draw, augment
from hemascope.data import Cells
from hemascope.recipe import Augmentation

ROWS = np.array([11, 5, 90, 2, 64, 33], np.int64)


@pytest.fixture
def batch(drawn: Cells) -> torch.Tensor:
    return torch.from_numpy(np.asarray(drawn.images[: len(ROWS)])).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_picture_in_a_batch_comes_out_as_it_would_alone(name: str, batch: torch.Tensor) -> None:
    draw = Draw(3, 1, name)
    together = FAMILIES[name](batch, ROWS, draw, 0.6)
    assert together.shape == batch.shape
    assert together.dtype == torch.uint8
    for place in range(len(ROWS)):
        alone = FAMILIES[name](batch[place : place + 1], ROWS[place : place + 1], draw, 0.6)
        assert torch.equal(alone[0], together[place])


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_picture_gets_its_own_draw_and_each_epoch_another(name: str, batch: torch.Tensor) -> None:
    same = batch[:1].expand_as(batch)
    rows = np.arange(len(ROWS), dtype=np.int64)
    first = FAMILIES[name](same, rows, Draw(0, 0, name), 0.8)
    assert len({tuple(picture.flatten().tolist()) for picture in first}) > 2
    assert not torch.equal(first, FAMILIES[name](same, rows, Draw(0, 1, name), 0.8))
    assert torch.equal(first, FAMILIES[name](same, rows, Draw(0, 0, name), 0.8))


@pytest.mark.parametrize("name", ["affine", "jitter"])
def test_magnitude_zero_changes_nothing(name: str, batch: torch.Tensor) -> None:
    assert (FAMILIES[name](batch, ROWS, Draw(0, 0, name), 0.0).int() - batch.int()).abs().max() <= 1


def test_dihedral_gives_each_of_the_eight_poses() -> None:
    picture = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
    rows = np.arange(800, dtype=np.int64)
    turned = FAMILIES["dihedral"](picture.expand(800, 3, 4, 4), rows, Draw(0, 0, "dihedral"), 1.0)
    poses, counts = np.unique(turned[:, 0].reshape(800, 16).numpy(), axis=0, return_counts=True)
    expected = {
        tuple(np.rot90(side, turn).ravel().tolist())
        for side in (picture[0, 0].numpy(), picture[0, 0].numpy()[:, ::-1])
        for turn in range(4)
    }
    assert {tuple(pose.tolist()) for pose in poses} == expected
    assert counts.min() > 60


def test_affine_turns_about_the_middle(batch: torch.Tensor) -> None:
    disc = ((torch.arange(33)[:, None] - 16) ** 2 + (torch.arange(33)[None, :] - 16) ** 2 < 64).to(torch.uint8) * 200
    pictures = disc[None, None].expand(40, 3, 33, 33)
    rows = np.arange(40, dtype=np.int64)
    moved = FAMILIES["affine"](pictures, rows, Draw(0, 0, "affine"), 0.3)
    ratio = moved.float().mean(dim=(1, 2, 3)) / pictures.float().mean(dim=(1, 2, 3))
    # Zoom by at most 1.6 ** 0.3 changes an area by at most that squared.
    assert ratio.max() < 1.6**0.6 * 1.1
    assert ratio.min() > 1 / (1.6**0.6 * 1.1)


def test_a_step_touches_its_share_of_the_pictures(batch: torch.Tensor) -> None:
    rows = np.arange(600, dtype=np.int64)
    pictures = batch[:1].expand(600, *batch.shape[1:])
    steps = [Augmentation(name="jitter", magnitude=1.0, probability=0.25)]
    moved = augment(pictures, rows, steps, seed=0, epoch=0)
    share = (moved != pictures).flatten(1).any(1).float().mean()
    assert 0.19 < share < 0.31


def test_the_generator_of_the_caller_is_left_alone(batch: torch.Tensor) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    augment(batch, ROWS, [Augmentation(name="randaugment"), Augmentation(name="augmix")], seed=0, epoch=0)
    assert torch.equal(torch.rand(3), expected)
