from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hemascope import checkpoint
from hemascope import train as train_module  # noqa: F401  (the function of that name must not hide the module)
from hemascope.batches import Batch
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.optimization import OPTIMIZERS
from hemascope.recipe import Recipe
from hemascope.split import split
from hemascope.step import Step
from hemascope.stress import seed_for, stress_score
from hemascope.train import Options, Trained, train_network

Tiny = Callable[..., Recipe]
STAGE = {"name": "whole", "epochs": 2, "learning_rate": 0.003}
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


def validation_accuracy(found: Trained, cells: Cells) -> float:
    held = cells.in_split("validation")
    with torch.inference_mode():
        logits = found.network(torch.from_numpy(np.asarray(held.images[:])).permute(0, 3, 1, 2))
    return float((logits.argmax(1).numpy() == held.labels).mean())


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
    best = max(found.history, key=lambda row: (row["validation_stress"], -row["validation_stress_loss"]))
    assert found.stages[0]["best_epoch"] == best["epoch"]
    assert len(found.history) <= best["epoch"] + 2
    assert validation_accuracy(found, cells) == best["validation_accuracy"]


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


def test_a_network_goes_on_seeing_pictures_at_the_size_of_its_last_stage(
    cells: Cells, tiny: Tiny, tmp_path: Path
) -> None:
    stages = [
        {"name": "small", "epochs": 1, "learning_rate": 0.001, "image_size": 16},
        {"name": "whole", "epochs": 7, "learning_rate": 0.003},
    ]
    recipe = tiny(stages=stages, augmentation=[])
    whole = trained(cells, recipe, tmp_path / "whole")
    assert whole.network.image_size == recipe.image_size == 32
    assert not whole.notes
    ended = trained(cells, recipe, tmp_path / "ended", max_minutes=0)
    assert ended.network.image_size == 16
    assert [stage["name"] for stage in ended.stages] == ["small"]
    assert any("looks at pictures at 16 pixels, not at 32" in note for note in ended.notes)
    # So it answers as it did when the epoch was chosen.
    assert validation_accuracy(ended, cells) == ended.history[0]["validation_accuracy"]


def test_a_stage_that_spoils_what_the_one_before_had_is_not_kept(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    stages = [
        {"name": "small", "epochs": 4, "learning_rate": 0.003, "image_size": 16},
        {"name": "wild", "epochs": 2, "learning_rate": 1.0},
    ]
    recipe = tiny(stages=stages, augmentation=[], optimizer="adamw")
    found = trained(cells, recipe, tmp_path / "whole")
    reached = [row["validation_stress"] for row in found.history]
    assert max(reached[:4]) > max(reached[4:])
    assert found.network.image_size == 16
    assert "'wild' did not reach what 'small' had" in found.notes[0]
    best = max(found.history, key=lambda row: row["validation_stress"])
    assert validation_accuracy(found, cells) == best["validation_accuracy"]

    def stop(row: Mapping[str, Any]) -> None:
        if row["stage"] == "wild":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(cells, recipe, tmp_path / "stopped", Options(), lambda sentence: None, stop)
    again = trained(cells, recipe, tmp_path / "stopped")
    assert again.notes == found.notes
    assert all(np.array_equal(one, other) for one, other in zip(weights(again), weights(found), strict=True))


def test_a_trained_network_lies_in_memory_as_other_runtimes_have_it(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    found = trained(cells, tiny(channels_last=True), tmp_path)
    assert all(value.is_contiguous() for value in found.network.state_dict().values())


def test_a_loss_that_is_no_number_is_told(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    stage = {"name": "whole", "epochs": 3, "learning_rate": 1e30}
    for clip in (0, 1):
        with pytest.raises(InputError, match="the loss is not a number in epoch 1; lower 'learning_rate'"):
            trained(cells, tiny(stages=[stage], optimizer="sgd", gradient_clip=clip), tmp_path)


def test_weights_that_turn_into_no_numbers_in_the_last_step_are_not_saved(
    cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Step.__call__

    def spoil(self: Step, batch: Batch, rate: float, epoch: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = call(self, batch, rate, epoch, number)
        if number == 13:  # the last one of the second epoch
            with torch.no_grad():
                next(self.plain.head.parameters()).fill_(torch.nan)
        return found

    monkeypatch.setattr(Step, "__call__", spoil)
    with pytest.raises(InputError, match="the loss is not a number in epoch 2"):
        trained(cells, tiny(), tmp_path)
    saved = checkpoint.load(tmp_path / "checkpoint")
    assert saved is not None
    assert saved[1]["tensors"] == "epoch-0001.safetensors"
    assert all(value.isfinite().all() for value in saved[0].part("network").values())


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


def test_the_best_epoch_is_that_of_the_score_the_recipe_names(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    clean = trained(cells, tiny(select_by="clean"), tmp_path / "clean")
    assert "validation_stress" not in clean.history[0]
    best = max(clean.history, key=lambda row: (row["validation_balanced_accuracy"], -row["validation_loss"]))
    assert clean.stages[0]["best_epoch"] == best["epoch"]


def test_the_validation_stress_is_the_stress_score_of_the_report(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    found = trained(cells, tiny(), tmp_path)

    class Classifier:
        class_names = cells.class_names

        def predict(self, images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return np.asarray(found.network(torch.tensor(images).permute(0, 3, 1, 2)).softmax(1).numpy())

    told = stress_score(Classifier(), cells.in_split("validation"), seed_for("validation"))
    best = next(row for row in found.history if row["epoch"] == found.stages[0]["best_epoch"])
    assert best["validation_stress"] == pytest.approx(told["stress_score"])


def test_a_full_disk_keeps_the_last_whole_epoch(
    cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(cells, tiny(), tmp_path / "whole")
    fsync = os.fsync
    written: list[int] = []

    def full(file: int) -> None:
        written.append(file)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"full: epoch 2 cannot be written \(No space left on device\); what was whole before is kept"
    ):
        trained(cells, tiny(), tmp_path / "full")
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "full" / "checkpoint").iterdir()) == [
        "epoch-0001.safetensors",
        "state.json",
    ]
    resumed = trained(cells, tiny(), tmp_path / "full")
    assert scores(resumed) == scores(whole)


def test_a_run_that_chose_by_the_clean_score_goes_on_so(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    whole = trained(cells, tiny(select_by="clean"), tmp_path / "whole")
    trained(cells, tiny(select_by="clean", stages=[{**STAGE, "epochs": 1}]), tmp_path / "old")
    said: list[str] = []
    resumed = train_network(cells, tiny(), tmp_path / "old", Options(), said.append)
    assert scores(resumed) == scores(whole)
    assert sum("goes on so" in sentence for sentence in said) == 1


def test_the_layout_in_memory_is_the_recipe_s(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    wide: list[tuple[bool, bool]] = []

    def keep(layer: torch.nn.Module, inputs: object) -> None:
        if isinstance(layer, torch.nn.Conv2d) and layer.training and min(layer.weight.shape[1:3]) > 1:
            weight = layer.weight
            wide.append((weight.is_contiguous(memory_format=torch.channels_last), weight.is_contiguous()))

    watch = torch.nn.modules.module.register_module_forward_pre_hook(keep)
    try:
        last = trained(cells, tiny(), tmp_path / "last")
        assert set(wide) == {(True, False)}
        wide.clear()
        first = trained(cells, tiny(channels_last=False), tmp_path / "first")
        assert set(wide) == {(False, True)}
    finally:
        watch.remove()
    # What is exported is told in one layout, whatever trained it.
    assert all(weight.is_contiguous() for weight in last.network.parameters())
    assert first.history[0]["train_loss"] == pytest.approx(last.history[0]["train_loss"], abs=1e-3)


@pytest.mark.parametrize(("steps", "first"), [([{"name": "dihedral"}], True), ([], False)])
def test_that_loops_are_compiled_first_is_said_where_a_recipe_augments(
    steps: list[dict[str, str]], first: bool, cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["hemascope.train"], "compiles_first", lambda: True)
    said: list[str] = []
    train_network(cells, tiny(augmentation=steps), tmp_path, Options(), said.append)
    assert any("compiling the augmentation" in sentence for sentence in said) is first


def test_balanced_sampling_leaves_class_weights_off(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    fields = {"sampling": "balanced", "augmentation": []}
    one = trained(cells, tiny(**fields), tmp_path / "one")
    other = trained(cells, tiny(**fields, class_weights="none"), tmp_path / "other")
    assert scores(one) == scores(other)
    natural = trained(cells, tiny(augmentation=[], class_weights="none"), tmp_path / "natural")
    assert scores(natural) != scores(one)


def test_scalars_are_written_for_tensorboard(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    found = trained(cells, tiny(), tmp_path, tensorboard=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    stress = [(event.step, event.value) for event in events.Scalars("validation/stress")]
    assert stress == [(row["epoch"], pytest.approx(row["validation_stress"])) for row in found.history]
    assert {"train/loss", "pace/images_per_second"} <= set(events.Tags()["scalars"])
