from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hemascope.batches import Batches
from hemascope.data import Cells
from hemascope.recipe import Recipe

Tiny = Callable[..., Recipe]
MIXING = [{"name": "mixup"}, {"name": "cutmix", "probability": 0.5}]


def shown(one: Batches) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [one[step] for step in range(len(one))]


def batches(cells: Cells, recipe: Recipe, epoch: int = 0, device: str = "cpu") -> Batches:
    images = np.asarray(cells.images[:])
    labels = torch.from_numpy(cells.labels)
    return Batches(images, labels, len(cells.class_names), recipe, 3, epoch, 10, torch.device(device))


def test_an_epoch_shows_each_row_once_and_another_epoch_in_another_order(drawn: Cells, tiny: Tiny) -> None:
    recipe = tiny(augmentation=[])
    rows = []
    for epoch in (0, 1):
        found = [
            picture.numpy().tobytes() for pictures, _ in shown(batches(drawn, recipe, epoch)) for picture in pictures
        ]
        assert len(set(found)) == len(found) == 160
        rows.append(found)
    assert set(rows[0]) == set(rows[1])
    assert rows[0] != rows[1]


def test_pictures_keep_their_labels(drawn: Cells, tiny: Tiny) -> None:
    own = {np.asarray(drawn.images[row]).tobytes(): int(drawn.labels[row]) for row in range(len(drawn))}
    for pictures, labels in shown(batches(drawn, tiny(augmentation=[]))):
        arrays = pictures.permute(0, 2, 3, 1).contiguous().numpy()
        assert [own[picture.tobytes()] for picture in arrays] == labels.tolist()


def test_mixed_pictures_have_shares_of_classes_as_their_target(drawn: Cells, tiny: Tiny) -> None:
    mixed = batches(drawn, tiny(augmentation=MIXING))
    plain = batches(drawn, tiny(augmentation=[]))
    for step in range(3):
        _, targets = mixed[step]
        _, labels = plain[step]
        assert targets.shape == (16, len(drawn.class_names))
        assert torch.allclose(targets.sum(1), torch.ones(16))
        assert (targets.gather(1, labels[:, None]) > 0.2).all()
        assert ((targets > 0).sum(1) > 1).any()


@pytest.mark.parametrize("name", ["randaugment", "mixup"])
def test_batches_repeat_and_do_not_depend_on_what_came_before(drawn: Cells, tiny: Tiny, name: str) -> None:
    recipe = tiny(augmentation=[{"name": name}])
    first, again = batches(drawn, recipe, 2), batches(drawn, recipe, 2)
    again[0]
    assert all(torch.equal(one, other) for one, other in zip(first[5], again[5], strict=True))
