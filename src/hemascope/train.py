"""The training loop: stages, epochs, steps, from top to bottom.

Every random number (first weights, order, augmentation, dropout) is a pure function of seed, epoch and row or step,
so that an interrupted run that goes on has the same next epochs as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from hemascope import checkpoint, draws
from hemascope.average import WeightAverage
from hemascope.batches import Batches
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.files import replacing
from hemascope.metrics import balanced_accuracy
from hemascope.model import CellClassifier, Constant, Weights, build_model
from hemascope.optimization import SCHEDULES, Optimizer, build_optimizer
from hemascope.progress import Progress, clock
from hemascope.recipe import Recipe, Stage

Say = Callable[[str], None]
OnEpoch = Callable[[Mapping[str, Any]], None]

PRECISIONS = ("auto", "float32", "bfloat16")
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Options:
    """What of a run is not the recipe's: how and where it is trained."""

    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    max_minutes: float | None = None


@dataclass(frozen=True)
class Trained:
    """A trained network with its best weights restored, and how it came about."""

    network: nn.Module
    class_names: tuple[str, ...]
    weights: Weights
    history: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    notes: list[str]


@dataclass
class _Place:
    """Where a run stands after a whole epoch; saved with each checkpoint."""

    stage: int = 0
    epoch: int = 0  # whole epochs of this stage
    total_epochs: int = 0
    step: int = 0  # steps of this stage
    best_score: tuple[float, float] = (-1.0, -math.inf)
    best_epoch: int = 0
    since_best: int = 0
    since_cut: int = 0
    cut: float = 1.0
    seconds: float = 0.0


@dataclass
class _Log:
    """What a run has to tell; saved with each checkpoint."""

    history: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def train_network(
    cells: Cells, recipe: Recipe, folder: Path, options: Options, say: Say = print, on_epoch: OnEpoch | None = None
) -> Trained:
    """Train on the rows whose split is "train", choose by those whose split is "validation".

    folder: takes `checkpoint/` and `history.csv`, which grow with each epoch; a run found there goes on. on_epoch: is
    given the row of each epoch when it is saved; what it raises ends the training.
    Raises InputError for a device or precision that cannot be had, and when the loss is no longer a number.
    """
    training, validation = cells.in_split("train"), cells.in_split("validation")
    torch.manual_seed(draws.word(options.seed, 0, 0, "weights"))
    if recipe.backbone == "none":
        return _constant(training)
    network, weights = build_model(recipe, cells.class_names)
    place, log = _Place(), _Log()
    saved = checkpoint.load(folder / "checkpoint")
    if saved is not None:
        place, log, weights = _restored(saved[1])
        network.load_state_dict(saved[0].part("network"))
        say(f"going on after epoch {place.total_epochs}")
    elif weights.random and recipe.pretrained == "auto":
        log.notes.append("ImageNet weights cannot be had: training starts from random ones, without a frozen stage.")
        say(log.notes[-1])
    stages = [stage for stage in recipe.stages if not (stage.freeze_backbone and weights.random)]

    fabric = _fabric(options)
    network = network.to(fabric.device).to(memory_format=torch.channels_last)
    images = np.ascontiguousarray(training.images[:])
    labels = torch.from_numpy(training.labels)
    held_images, held_labels = np.asarray(validation.images[:]), torch.from_numpy(validation.labels)
    class_weights = _class_weights(training.labels, len(cells.class_names), recipe)
    steps = max(len(images) // recipe.batch_size, 1)

    for number in range(place.stage, len(stages)):
        stage = stages[number]
        if number != place.stage:
            place = _Place(stage=number, total_epochs=place.total_epochs, seconds=place.seconds)
        rate = stage.random_learning_rate if weights.random and stage.random_learning_rate else stage.learning_rate
        network.image_size = stage.image_size or recipe.image_size
        network.backbone.requires_grad_(not stage.freeze_backbone)
        optimizer = build_optimizer(network, recipe, rate)
        average = WeightAverage(network, recipe.ema_decay)
        best = average.frozen()
        if saved is not None:
            checkpoint.unpack_optimizer(optimizer, saved[0], saved[1]["optimizer"])
            average.restore(saved[0].part("average"))
            best = saved[0].part("best")
            saved = None
        step = _Step(network, optimizer, average, recipe, class_weights, options.seed, fabric)

        while place.epoch < stage.epochs and place.since_best < recipe.early_stopping:
            start = time.monotonic()
            title = f"{recipe.name}, {stage.name} {place.epoch + 1}/{stage.epochs}"
            batches = Batches(
                images, labels, len(cells.class_names), recipe, options.seed, place.total_epochs, steps, fabric.device
            )
            loss_sum, right = 0.0, 0
            _train_mode(network, stage)
            with Progress(title, steps * batches.size, "images") as progress:
                for pictures, targets in DataLoader(batches, batch_size=None, num_workers=batches.workers):
                    done = place.step / (steps * stage.epochs)
                    learning_rate = rate * place.cut * SCHEDULES[recipe.schedule](done)
                    loss, correct = step(pictures, targets, learning_rate, place)
                    loss_sum, right = loss_sum + loss, right + correct
                    progress.advance(len(targets))
            seen, training_seconds = steps * batches.size, time.monotonic() - start
            if not math.isfinite(loss_sum):
                raise InputError(
                    f"recipe '{recipe.name}': the loss is not a number in epoch {place.total_epochs + 1}; lower "
                    f"'learning_rate' (now {rate:g}) or set 'gradient_clip'."
                )
            with average.in_network():
                probabilities, validation_loss = _validate(step.network, held_images, held_labels, fabric)
            score = (balanced_accuracy(probabilities, validation.labels), -validation_loss)
            if score > place.best_score:
                best = average.frozen()
            _advance(place, score, recipe, time.monotonic() - start)
            log.history.append(
                {
                    "stage": stage.name,
                    "epoch": place.total_epochs,
                    "learning_rate": learning_rate,
                    "train_loss": loss_sum / seen,
                    "train_accuracy": right / seen,
                    "validation_loss": validation_loss,
                    "validation_accuracy": float((probabilities.argmax(1) == validation.labels).mean()),
                    "validation_balanced_accuracy": score[0],
                    "seconds": round(time.monotonic() - start, 2),
                    "images_per_second": round(seen / training_seconds, 1),
                }
            )
            _save(folder, network, average, best, optimizer, place, log, weights)
            say(f"{title}: {_epoch_sentence(log.history[-1], place)}, at most {_left(place, stage)} left")
            if on_epoch is not None:
                on_epoch(log.history[-1])
            if _out_of_time(place, options):
                break
        network.load_state_dict(best, strict=False)
        log.stages.append(_stage_row(stage, place, log.history))
        if _out_of_time(place, options):
            log.notes.append(f"Training was ended after {clock(place.seconds)}: the time given was used up.")
            say(log.notes[-1])
            break
    network.image_size = recipe.image_size
    return Trained(network.cpu().eval(), cells.class_names, weights, log.history, log.stages, log.notes)


class _Step:
    """One step of the optimiser: a batch goes in, its summed loss and its right answers come out."""

    def __init__(
        self,
        network: CellClassifier,
        optimizer: Optimizer,
        average: WeightAverage,
        recipe: Recipe,
        class_weights: torch.Tensor | None,
        seed: int,
        fabric: Fabric,
    ) -> None:
        self.plain, self.average, self.recipe, self.seed, self.fabric = network, average, recipe, seed, fabric
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.class_weights = None if class_weights is None else class_weights.to(fabric.device)

    def __call__(
        self, pictures: torch.Tensor, targets: torch.Tensor, learning_rate: float, place: _Place
    ) -> tuple[float, int]:
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        targets = targets.to(self.fabric.device)
        # Dropout draws from torch's own generator: seeded for the step, it does not depend on what came before.
        torch.manual_seed(draws.word(self.seed, place.total_epochs, place.step, "dropout"))
        logits = self.network(pictures.to(self.fabric.device))
        loss = soft_cross_entropy(logits.float(), targets, self.class_weights, recipe.label_smoothing)
        total = loss
        for weight in self.plain.penalised_weights() if recipe.head_l2 else ():
            total = total + recipe.head_l2 * weight.square().sum()
        self.fabric.backward(total)
        if recipe.gradient_clip:
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=recipe.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        place.step += 1
        self.average.update(place.step)
        mostly = targets if targets.ndim == 1 else targets.argmax(1)
        return float(loss.detach()) * len(targets), int((logits.argmax(1) == mostly).sum())


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None, label_smoothing: float
) -> torch.Tensor:
    """Cross entropy with classes (n,) or with shares of classes (n, classes), whose rows sum to 1, as targets.

    Both are weighted means: shares of 0 and 1 give what their classes give, which torch's own does not.
    """
    if targets.ndim == 1 or class_weights is None:
        return cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing)
    total = cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing)
    return total / (targets @ class_weights).sum()


def _train_mode(network: CellClassifier, stage: Stage) -> None:
    network.train()
    if stage.freeze_backbone:
        # Frozen is frozen: the running means of its norms stay too.
        network.backbone.eval()


@torch.inference_mode()
def _validate(
    network: nn.Module, images: NDArray[np.uint8], labels: torch.Tensor, fabric: Fabric
) -> tuple[NDArray[np.float64], float]:
    network.eval()
    outputs = []
    for start in range(0, len(images), EVALUATION_BATCH):
        pictures = torch.from_numpy(images[start : start + EVALUATION_BATCH]).permute(0, 3, 1, 2).to(fabric.device)
        outputs.append(network(pictures).double().cpu())
    logits = torch.cat(outputs)
    return logits.softmax(1).numpy(), float(cross_entropy(logits, labels))


def _advance(place: _Place, score: tuple[float, float], recipe: Recipe, seconds: float) -> None:
    place.epoch += 1
    place.total_epochs += 1
    place.seconds += seconds
    if score > place.best_score:
        place.best_score, place.best_epoch, place.since_best, place.since_cut = score, place.total_epochs, 0, 0
        return
    place.since_best += 1
    place.since_cut += 1
    if recipe.schedule == "plateau" and place.since_cut >= recipe.plateau_patience:
        place.cut *= recipe.plateau_factor
        place.since_cut = 0


def _save(
    folder: Path,
    network: nn.Module,
    average: WeightAverage,
    best: Mapping[str, torch.Tensor],
    optimizer: Optimizer,
    place: _Place,
    log: _Log,
    weights: Weights,
) -> None:
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    if average.decay:
        tensors |= {f"average/{name}": value for name, value in average.values.items()}
    packed, numbers = checkpoint.pack_optimizer(optimizer)
    state = {"place": asdict(place), **asdict(log), "weights": weights.origin, "optimizer": numbers}
    checkpoint.save(folder / "checkpoint", place.total_epochs, tensors | packed, state)
    write_history(folder / "history.csv", log.history)


def _restored(state: Mapping[str, Any]) -> tuple[_Place, _Log, Weights]:
    place = _Place(**{**state["place"], "best_score": tuple(state["place"]["best_score"])})
    return place, _Log(state["history"], state["stages"], state["notes"]), Weights(state["weights"])


def _stage_row(stage: Stage, place: _Place, history: list[dict[str, Any]]) -> dict[str, Any]:
    best = next((row for row in history if row["epoch"] == place.best_epoch), {})
    return {
        "name": stage.name,
        "epochs": place.epoch,
        "best_epoch": place.best_epoch,
        "validation_accuracy": best.get("validation_accuracy"),
        "validation_balanced_accuracy": best.get("validation_balanced_accuracy"),
    }


def _epoch_sentence(row: Mapping[str, Any], place: _Place) -> str:
    best = " (best so far)" if place.since_best == 0 else ""
    return (
        f"loss {row['train_loss']:.4f}, validation accuracy {row['validation_accuracy']:.4f}{best}, "
        f"{row['images_per_second']:,.0f} images/s"
    )


def _left(place: _Place, stage: Stage) -> str:
    return clock((stage.epochs - place.epoch) * place.seconds / place.total_epochs)


def _out_of_time(place: _Place, options: Options) -> bool:
    """Whether another epoch as long as those so far would end after the time given."""
    per_epoch = place.seconds / max(place.total_epochs, 1)
    return options.max_minutes is not None and place.seconds + per_epoch > options.max_minutes * 60


def _class_weights(labels: NDArray[np.int64], classes: int, recipe: Recipe) -> torch.Tensor | None:
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(labels, minlength=classes)
    balanced = np.where(counts > 0, counts.sum() / np.maximum(counts, 1) / (counts > 0).sum(), 0.0)
    return torch.from_numpy(balanced.astype(np.float32))


def _constant(training: Cells) -> Trained:
    counts = np.bincount(training.labels, minlength=len(training.class_names))
    network = Constant(np.log(np.maximum(counts, 0.5) / counts.sum()).astype(np.float32))
    return Trained(network.eval(), training.class_names, Weights("random"), [], [], [])


def _fabric(options: Options) -> Fabric:
    cuda = torch.cuda.is_available()
    if options.device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{options.device}', expected auto, cpu or cuda.")
    if options.device == "cuda" and not cuda:
        raise InputError("--device is cuda, but torch sees no GPU here; use --device cpu, or see hemascope doctor.")
    if options.precision not in PRECISIONS:
        raise InputError(f"--precision is '{options.precision}', expected {', '.join(PRECISIONS)}.")
    on_gpu = cuda and options.device != "cpu"
    low = options.precision == "bfloat16" or (options.precision == "auto" and on_gpu)
    return Fabric(accelerator="cuda" if on_gpu else "cpu", devices=1, precision="bf16-mixed" if low else "32-true")


def describe_device(options: Options) -> str:
    """What a run with these options computes on, in words. Raises InputError when it cannot be had."""
    device = _fabric(options).device
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "cpu"


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """Write the table of epochs, a row each."""
    import pandas as pd

    with replacing(path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
