from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hemascope import batches as module
from hemascope.batches import Batch, Batches, Source, balanced_order, hold
from hemascope.data import Cells
from hemascope.recipe import Recipe

Tiny = Callable[..., Recipe]
MIXING = [{"name": "mixup"}, {"name": "cutmix", "probability": 0.5}]


def shown(one: Batches) -> list[Batch]:
    return list(one)


def batches(cells: Cells, recipe: Recipe, epoch: int = 0, rank: int = 0, processes: int = 1) -> Batches:
    source = Source(cells.images, streamed=False)
    device = torch.device("cpu")
    return Batches(source, cells.labels, len(cells.class_names), recipe, 3, epoch, device, rank, processes)


def test_an_epoch_shows_each_row_once_and_another_epoch_in_another_order(drawn: Cells, tiny: Tiny) -> None:
    recipe = tiny(augmentation=[])
    rows = []
    for epoch in (0, 1):
        found = [
            picture.numpy().tobytes() for pictures, _, _ in shown(batches(drawn, recipe, epoch)) for picture in pictures
        ]
        assert len(set(found)) == len(found) == 160
        rows.append(found)
    assert set(rows[0]) == set(rows[1])
    assert rows[0] != rows[1]


def test_pictures_keep_their_labels(drawn: Cells, tiny: Tiny) -> None:
    own = {np.asarray(drawn.images[row]).tobytes(): int(drawn.labels[row]) for row in range(len(drawn))}
    for pictures, labels, _ in shown(batches(drawn, tiny(augmentation=[]))):
        arrays = pictures.permute(0, 2, 3, 1).contiguous().numpy()
        assert [own[picture.tobytes()] for picture in arrays] == labels.tolist()


def test_mixed_pictures_have_shares_of_classes_as_their_target(drawn: Cells, tiny: Tiny) -> None:
    mixed = batches(drawn, tiny(augmentation=MIXING))
    plain = batches(drawn, tiny(augmentation=[]))
    for step in range(3):
        targets, labels = mixed[step].targets, plain[step].targets
        assert targets.shape == (16, len(drawn.class_names))
        assert torch.allclose(targets.sum(1), torch.ones(16))
        assert (targets.gather(1, labels[:, None]) > 0.2).all()
        assert ((targets > 0).sum(1) > 1).any()


@pytest.mark.parametrize("name", ["randaugment", "mixup"])
def test_batches_repeat_and_do_not_depend_on_what_came_before(drawn: Cells, tiny: Tiny, name: str) -> None:
    recipe = tiny(augmentation=[{"name": name}])
    first, again = batches(drawn, recipe, 2), batches(drawn, recipe, 2)
    again[0]
    assert same(first[5], again[5])


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.pictures, other.pictures) and torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("name", ["randaugment", "mixup"])
def test_threads_that_work_ahead_change_nothing(drawn: Cells, tiny: Tiny, name: str) -> None:
    recipe = tiny(augmentation=[{"name": name}])
    ahead = batches(drawn, recipe.model_copy(update={"workers": 3}))
    assert all(same(*pair) for pair in zip(batches(drawn, recipe), ahead, strict=True))
    for one in ahead:  # one that leaves early leaves no thread behind that would wait for it
        assert len(one.pictures) == 16
        break


@pytest.mark.parametrize("families", [[], [{"name": "jitter"}], MIXING])
def test_the_shares_of_three_processes_are_the_whole(drawn: Cells, tiny: Tiny, families: list[dict[str, str]]) -> None:
    recipe = tiny(augmentation=families)
    alone = batches(drawn, recipe)
    parts = [batches(drawn, recipe, rank=rank, processes=3) for rank in range(3)]
    for step in range(len(alone)):
        shares = [part[step] for part in parts]
        assert torch.equal(torch.cat([share.pictures for share in shares]), alone[step].pictures)
        assert all(torch.equal(share.targets, alone[step].targets) for share in shares)
        assert torch.equal(torch.cat([share.targets[share.share] for share in shares]), alone[step].targets)


def test_pictures_that_do_not_fit_into_memory_are_streamed_to_the_same_batches(
    drawn: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = np.memmap(tmp_path / "pictures", np.uint8, mode="w+", shape=drawn.images.shape)
    mapped[:] = drawn.images[:]
    cpu = torch.device("cpu")
    held = hold(mapped, cpu)
    assert not held.streamed
    assert not isinstance(held.pictures, np.memmap)
    monkeypatch.setattr(module, "memory_of", lambda device: mapped.nbytes)
    streamed = hold(mapped, cpu)
    assert streamed == Source(mapped, streamed=True)
    recipe = tiny(augmentation=[{"name": "jitter"}, *MIXING])
    one, other = (Batches(source, drawn.labels, 8, recipe, 3, 0, cpu) for source in (held, streamed))
    assert (one.ahead, other.ahead) == (0, 1)
    assert all(same(*pair) for pair in zip(one, other, strict=True))


def test_pictures_that_are_in_memory_already_are_not_copied(drawn: Cells) -> None:
    part = drawn.take(np.arange(20))
    assert hold(part.images, torch.device("cpu")).pictures is part.images


def test_balanced_sampling_shows_classes_equally_often_and_repeats_no_row_too_soon() -> None:
    labels = np.repeat([0, 2, 3], [70, 25, 5])
    numbers = balanced_order(labels, 0, 0)
    rows = numbers % 100
    assert len(set(numbers.tolist())) == len(numbers) == 100
    assert np.bincount(labels[rows], minlength=4).tolist() == [34, 0, 33, 33]
    often = np.bincount(rows, minlength=100)
    assert set(often[labels == 0]) == {0, 1}
    assert set(often[labels == 2]) == {1, 2}
    assert set(often[labels == 3]) == {6, 7}
    assert not np.array_equal(numbers, balanced_order(labels, 0, 1))


def test_a_row_that_comes_again_is_drawn_anew(drawn: Cells, tiny: Tiny) -> None:
    one = drawn.take(np.flatnonzero(drawn.labels < 2))
    few = one.take(np.concatenate([np.flatnonzero(one.labels == 0)[:1], np.flatnonzero(one.labels == 1)]))
    found = shown(batches(few, tiny(augmentation=[{"name": "jitter"}], sampling="balanced", batch_size=len(few))))[0]
    alike = found.pictures[found.targets == 0]
    assert len(alike) >= 2
    assert len({picture.numpy().tobytes() for picture in alike}) == len(alike)
