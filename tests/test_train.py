from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hemascope import checkpoint
from hemascope import train as train_module  # noqa: F401  (the function of that name must not hide the module)
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.optimization import OPTIMIZERS
from hemascope.recipe import Recipe
from hemascope.split import split
from hemascope.train import Options, Trained, soft_cross_entropy, train_network

Tiny = Callable[..., Recipe]
TWO_STAGES = [
    {"name": "frozen", "epochs": 1, "learning_rate": 0.003, "freeze_backbone": True},
    {"name": "tuned", "epochs": 2, "learning_rate": 0.001},
]


@pytest.fixture(scope="module")
def cells(drawn: Cells) -> Cells:
    return split(drawn)


def trained(cells: Cells, recipe: Recipe, folder: Path, **options: Any) -> Trained:
    return train_network(cells, recipe, folder, Options(**options), lambda sentence: None)


def scores(found: Trained) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key not in ("seconds", "images_per_second")} for row in found.history]


def weights(found: Trained) -> list[np.ndarray]:
    return [value.numpy() for value in found.network.state_dict().values()]


def test_the_same_seed_gives_the_same_run_with_and_without_workers(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    steps = [{"name": "randaugment"}, {"name": "augmix"}]
    first = trained(cells, tiny(augmentation=steps), tmp_path / "a")
    second = trained(cells, tiny(augmentation=steps, workers=2), tmp_path / "b")
    other = trained(cells, tiny(augmentation=steps), tmp_path / "c", seed=1)
    assert scores(first) == scores(second)
    assert all(np.array_equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    assert scores(first) != scores(other)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_run_killed_after_any_epoch_goes_on_as_if_it_had_not_been(
    cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    start = tmp_path / "start.safetensors"
    first = trained(cells, tiny(stages=TWO_STAGES[1:]), tmp_path / "first")
    checkpoint.save_tensors(start, first.network.state_dict())
    recipe = tiny(
        stages=TWO_STAGES,
        pretrained=str(start),
        optimizer=optimizer,
        ema_decay=0.9,
        schedule="one_cycle",
        head_l2=0.001,
    )
    whole = trained(cells, recipe, tmp_path / "whole")
    assert [row["stage"] for row in whole.history] == ["frozen", "tuned", "tuned"]

    class KilledError(Exception):
        pass

    save = checkpoint.save

    def save_and_die(*args: Any) -> None:
        save(*args)
        raise KilledError

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    for _ in range(3):
        with pytest.raises(KilledError):
            trained(cells, recipe, tmp_path / "killed")
    monkeypatch.undo()
    resumed = trained(cells, recipe, tmp_path / "killed")
    assert scores(resumed) == scores(whole)
    assert resumed.stages == whole.stages
    assert all(np.array_equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))


def test_a_checkpoint_that_was_cut_short_is_not_used(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    trained(cells, tiny(), tmp_path)
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert state["tensors"] == "epoch-0002.safetensors"
    (tmp_path / "checkpoint" / ".epoch-0003.x.safetensors").write_bytes(b"half")
    again = trained(cells, tiny(), tmp_path)
    assert [row["epoch"] for row in again.history] == [1, 2]


def test_the_frozen_stage_trains_the_head_alone(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = trained(cells, tiny(stages=TWO_STAGES[1:]), tmp_path / "a")
    path = tmp_path / "start.safetensors"
    checkpoint.save_tensors(path, start.network.state_dict())
    frozen = trained(cells, tiny(stages=TWO_STAGES[:1], pretrained=str(path)), tmp_path / "b")
    before, after = start.network.state_dict(), frozen.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone"))
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])


def test_random_weights_skip_the_frozen_stage_and_take_their_own_rate(
    cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said: list[str] = []
    stages = [TWO_STAGES[0], {**TWO_STAGES[1], "random_learning_rate": 0.01}]
    found = train_network(cells, tiny(pretrained="auto", stages=stages), tmp_path, Options(), said.append)
    assert [stage["name"] for stage in found.stages] == ["tuned"]
    assert {row["learning_rate"] for row in found.history} == {0.01}
    assert sum("random" in sentence for sentence in said) == 1
    assert found.notes


def test_the_best_weights_are_restored_and_a_stage_ends_early(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    stage = {"name": "whole", "epochs": 12, "learning_rate": 0.5}
    found = trained(cells, tiny(stages=[stage], early_stopping=2, optimizer="sgd", gradient_clip=1.0), tmp_path)
    best = max(found.history, key=lambda row: (row["validation_balanced_accuracy"], -row["validation_loss"]))
    assert found.stages[0]["best_epoch"] == best["epoch"]
    assert len(found.history) <= best["epoch"] + 2
    held = cells.in_split("validation")
    with torch.inference_mode():
        logits = found.network(torch.from_numpy(np.asarray(held.images[:])).permute(0, 3, 1, 2))
    assert float((logits.argmax(1).numpy() == held.labels).mean()) == best["validation_accuracy"]


def test_the_rate_is_cut_on_a_plateau(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    stage = {"name": "whole", "epochs": 6, "learning_rate": 1e-9}
    recipe = tiny(stages=[stage], optimizer="sgd", plateau_patience=1, plateau_factor=0.5, augmentation=[])
    rates = [row["learning_rate"] for row in trained(cells, recipe, tmp_path).history]
    assert rates[0] == 1e-9
    assert rates[-1] < 1e-9


def test_the_time_given_ends_a_run(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    stage = {"name": "whole", "epochs": 500, "learning_rate": 0.001}
    found = trained(cells, tiny(stages=[stage], early_stopping=500), tmp_path, max_minutes=0.02)
    assert 1 <= len(found.history) < 100
    assert any("time given" in note for note in found.notes)


def test_a_loss_that_is_no_number_is_told(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    stage = {"name": "whole", "epochs": 3, "learning_rate": 1e30}
    with pytest.raises(InputError, match="the loss is not a number in epoch 1; lower 'learning_rate'"):
        trained(cells, tiny(stages=[stage], optimizer="sgd"), tmp_path)


@pytest.mark.parametrize(("options", "sentence"), [({"device": "tpu"}, "--device"), ({"precision": "int4"}, "--prec")])
def test_a_device_that_is_not_there_is_refused(
    cells: Cells, tiny: Tiny, tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        trained(cells, tiny(), tmp_path, **options)


def test_mixed_pictures_train_on_shares_and_resume_as_others_do(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    steps = [{"name": "mixup"}, {"name": "cutmix", "probability": 0.5}]
    whole = trained(cells, tiny(augmentation=steps), tmp_path / "whole")
    again = trained(cells, tiny(augmentation=steps, workers=2), tmp_path / "again")
    plain = trained(cells, tiny(augmentation=[]), tmp_path / "plain")
    assert scores(whole) == scores(again)
    assert scores(whole) != scores(plain)


def test_shares_of_nothing_and_all_give_the_loss_of_their_classes() -> None:
    logits = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 5
    shares = torch.nn.functional.one_hot(labels, 5).float()
    for weights in (None, torch.tensor([0.1, 2.0, 1.0, 0.0, 3.0])):
        for smoothing in (0.0, 0.1):
            expected = soft_cross_entropy(logits, labels, weights, smoothing)
            assert soft_cross_entropy(logits, shares, weights, smoothing) == pytest.approx(float(expected), rel=1e-5)
