"""The training loop: stages, epochs, steps, from top to bottom.

Every random number (first weights, order, augmentation, dropout) is a pure function of seed, epoch and row or step,
so that an interrupted run that goes on has the same next epochs as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from hemascope import checkpoint, draws
from hemascope.augment import compiles_first
from hemascope.average import WeightAverage
from hemascope.batches import Batches, Source, batch_size, hold, steps_of
from hemascope.compiled import Compiled
from hemascope.course import Log, Place, advance, epoch_sentence, out_of_time, stage_row, time_left, write_history
from hemascope.data import Cells
from hemascope.devices import any_process, build_fabric, precision_of, reduced
from hemascope.errors import InputError
from hemascope.loss import balanced_weights
from hemascope.machine import freed_memory_kept
from hemascope.model import CellClassifier, Constant, NeighbourVote, Network, build_model
from hemascope.optimization import Optimizer, build_optimizer, rate_share
from hemascope.pretrained import Weights
from hemascope.progress import Progress, Say, clock
from hemascope.recipe import Recipe, Stage
from hemascope.runtime import ONE_ANSWER
from hemascope.scalars import Scalars
from hemascope.step import Step
from hemascope.teacher import Teacher
from hemascope.validation import Validation

EMBEDDED_AT_ONCE = 256

OnEpoch = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Options:
    """What of a run is not the recipe's: how and where it is trained.

    micro_batch: in place of the recipe's. compiled: as in `hemascope.compiled`. tensorboard: write scalars, too.
    """

    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    max_minutes: float | None = None
    micro_batch: int | None = None
    compiled: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained network with its best weights restored, and how it came about.

    precision: in which it computed while it was trained; its weights have 32 bits in either.
    """

    network: Network
    class_names: tuple[str, ...]
    weights: Weights
    history: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    notes: list[str]
    precision: str = "float32"


@freed_memory_kept()
def train_network(
    cells: Cells, recipe: Recipe, folder: Path, options: Options, say: Say = print, on_epoch: OnEpoch | None = None
) -> Trained:
    """Train on the rows whose split is "train", choose by those whose split is "validation".

    folder: takes `checkpoint/` and `history.csv`, which grow with each epoch; a run found there goes on. on_epoch: is
    given the row of each epoch when it is saved; what it raises ends the training. Under torchrun or srun all
    processes call this with the same arguments; the first one writes and speaks.
    Raises InputError for a device or precision that cannot be had, when the loss is no longer a number, when memory
    does not suffice for one picture, and when a checkpoint cannot be written.
    """
    training, validation = cells.in_split("train"), cells.in_split("validation")
    torch.manual_seed(draws.word(options.seed, 0, 0, "weights"))
    if recipe.backbone == "none":
        return _constant(training)
    network, weights = build_model(recipe, cells.class_names)
    fabric = build_fabric(options.device, options.precision, network)
    fabric.launch()
    leads = fabric.global_rank == 0
    say = say if leads else lambda sentence: None
    place, log = Place(), Log()
    leading: Mapping[str, torch.Tensor] = {}  # the weights of the leading stage
    saved = checkpoint.load(folder / "checkpoint")
    if saved is not None:
        place, log, weights = _restored(saved[1])
        network.load_state_dict(saved[0].part("network"))
        say(f"going on after epoch {place.total_epochs}")
    elif weights.random and recipe.pretrained == "auto":
        log.notes.append("ImageNet weights cannot be had: training starts from random ones, without a frozen stage.")
        say(log.notes[-1])
    if any_process(fabric, fabric.broadcast(place.total_epochs) != place.total_epochs):
        raise InputError(f"{folder}: the processes find different epochs there; name a folder that all nodes share.")
    precision = precision_of(fabric)
    if options.precision == "auto" and precision == "bfloat16" and fabric.device.type == "cpu":
        say("computing in bfloat16, for which this CPU has instructions; --precision float32 would take longer")
    if recipe.augmentation and fabric.device.type == "cpu" and compiles_first():
        say("compiling the augmentation, which takes a quarter of a minute once on a machine")
    stages = [stage for stage in recipe.stages if not (stage.freeze_backbone and weights.random)]
    scalars = Scalars(folder / "tensorboard", place.total_epochs) if options.tensorboard and leads else None

    network = network.to(fabric.device)
    if recipe.channels_last:
        network = network.to(memory_format=torch.channels_last)
    teacher = Teacher(recipe, fabric) if recipe.teacher else None
    source = hold(training.images, fabric.device)
    with fabric.rank_zero_first(local=True):
        held_out = Validation(validation, _selection(recipe, log, say))
    classes = len(cells.class_names)
    weighted = recipe.class_weights == "balanced" and recipe.sampling == "natural"
    class_weights = balanced_weights(training.labels, classes) if weighted else None
    size, steps = batch_size(len(training), recipe), steps_of(len(training), recipe)
    if size < fabric.world_size:
        raise InputError(f"a batch of {size} cannot be shared by {fabric.world_size} processes; raise 'batch_size'.")

    for number in range(place.stage, len(stages)):
        stage = stages[number]
        if number != place.stage:
            place = place.next_stage()
        rate = stage.random_learning_rate if weights.random and stage.random_learning_rate else stage.learning_rate
        network.image_size = recipe.side_in(stage)
        network.backbone.requires_grad_(not stage.freeze_backbone)
        optimizer = build_optimizer(network, recipe, rate)
        average = WeightAverage(network, recipe.ema_decay)
        best = average.frozen()
        if saved is not None:
            checkpoint.unpack_optimizer(optimizer, saved[0], saved[1]["optimizer"])
            average.restore(saved[0].part("average"))
            best, leading = saved[0].part("best"), saved[0].part("leading")
            saved = None
        micro_batch = min(options.micro_batch or place.micro_batch or recipe.micro_batch or size, size)
        compiled = Compiled(network, say, graphs=micro_batch == size) if options.compiled else None
        step = Step(
            network, optimizer, average, recipe, class_weights, options.seed, fabric, micro_batch, say, compiled
        )

        while place.epoch < stage.epochs and place.since_best < recipe.early_stopping:
            start = time.monotonic()
            title = f"{recipe.name}, {stage.name} {place.epoch + 1}/{stage.epochs}"
            batches = Batches(
                source, training.labels, classes, recipe.in_stage(stage), options.seed, place.total_epochs,
                fabric.device, fabric.global_rank, fabric.world_size,
            )  # fmt: skip
            sums = torch.zeros(2, dtype=torch.float64, device=fabric.device)  # losses, right answers
            _train_mode(step.network, network, stage)
            with Progress(title, steps * size, "images", shown=leads) as progress:
                for batch in batches:
                    learning_rate = rate * place.cut
                    learning_rate *= rate_share(recipe.schedule, place.step / (steps * stage.epochs), recipe.warm_up)
                    taught = batch if teacher is None else teacher.joined(batch)
                    sums += torch.stack(step(taught, learning_rate, place.total_epochs, place.step))
                    place.step += 1
                    progress.advance(size)
            if fabric.world_size > 1:
                sums = reduced(fabric, sums, "sum")
                _average_buffers(network, average, fabric)
            loss, accuracy = (sums / (steps * size)).tolist()
            training_seconds = time.monotonic() - start
            with average.in_network():
                measures = held_out.measures(step.network, fabric)
            if not all(map(math.isfinite, (loss, *measures.values()))):
                raise InputError(
                    f"recipe '{recipe.name}': the loss is not a number in epoch {place.total_epochs + 1}; lower "
                    f"'learning_rate' (now {rate:g}) or set 'gradient_clip'."
                )
            score = held_out.score(measures)
            if score > place.best_score:
                best = average.frozen()
            advance(place, score, recipe, time.monotonic() - start)
            place.micro_batch = step.micro_batch if step.micro_batch < micro_batch else place.micro_batch
            log.history.append(
                {
                    "stage": stage.name,
                    "epoch": place.total_epochs,
                    "learning_rate": learning_rate,
                    "train_loss": loss,
                    "train_accuracy": accuracy,
                    **measures,
                    "seconds": round(time.monotonic() - start, 2),
                    "images_per_second": round(steps * size / training_seconds, 1),
                }
            )
            if leads:
                _save(folder, network, average, best, leading, optimizer, place, log, weights)
            if scalars is not None:
                scalars.add(log.history[-1])
            say(
                f"{title}: {epoch_sentence(log.history[-1], place, len(stages))}{time_left(place, stages, log.history)}"
            )
            if on_epoch is not None:
                on_epoch(log.history[-1])
            if any_process(fabric, out_of_time(place, options.max_minutes, log.history)):
                break
        network.load_state_dict(best, strict=False)
        log.stages.append(stage_row(stage, place, log.history))
        if place.best_score >= place.leading_score:
            leading, place.leading_score, place.leading_stage = best, place.best_score, number
        if any_process(fabric, out_of_time(place, options.max_minutes, log.history)):
            if number + 1 < len(stages) or (place.epoch < stage.epochs and place.since_best < recipe.early_stopping):
                told = "another epoch would not have fitted into the time given"
                log.notes.append(f"Training was ended after {clock(place.seconds)}: {told}.")
                say(log.notes[-1])
            break
    if scalars is not None:
        scalars.close()
    if place.leading_stage != place.stage:
        first, last = stages[place.leading_stage], stages[place.stage]
        network.load_state_dict(leading, strict=False)
        network.image_size = recipe.side_in(first)
        log.notes.append(f"'{last.name}' did not reach what '{first.name}' had, whose weights are kept.")
        say(log.notes[-1])
    # It goes on seeing pictures at the size that its weights have learnt from: at another it would know few of them.
    if network.image_size != recipe.image_size:
        sides = f"{network.image_size} pixels, not at {recipe.image_size}"
        log.notes.append(f"The network looks at pictures at {sides}, as in the stage that its weights come from.")
        say(log.notes[-1])
    if isinstance(network.head, NeighbourVote):
        network.head.remember(*_embedded(network, source, training.labels, fabric.device))
    # Channels together in memory leave their trace in an exported graph, which no other runtime then rebuilds.
    network = network.cpu().to(memory_format=torch.contiguous_format).eval()
    return Trained(network, cells.class_names, weights, log.history, log.stages, log.notes, precision)


def _selection(recipe: Recipe, log: Log, say: Say) -> str:
    """The recipe's `select_by`; a run goes on as it began, and those of old chose by the clean score."""
    if recipe.select_by == "stress" and log.history and "validation_stress" not in log.history[0]:
        say("This run has chosen its best epoch by the clean validation score so far, and goes on so.")
        return "clean"
    return recipe.select_by


@torch.inference_mode()
def _embedded(
    network: CellClassifier, source: Source, labels: NDArray[np.int64], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings of all training cells as they are, and their classes."""
    network.eval()
    found = []
    with Progress("embedding the training cells", len(labels), "images") as progress:
        for start in range(0, len(labels), EMBEDDED_AT_ONCE):
            pictures = source.pictures[start : start + EMBEDDED_AT_ONCE]
            if not isinstance(pictures, torch.Tensor):
                pictures = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).to(device)
            found.append(network.embedding(pictures).float())
            progress.advance(len(pictures))
    return torch.cat(found).clone(), torch.from_numpy(labels).to(device)


def _train_mode(module: nn.Module, network: CellClassifier, stage: Stage) -> None:
    module.train()
    if stage.freeze_backbone:
        # Frozen is frozen: the running means of its norms stay too.
        network.backbone.eval()


@torch.no_grad()
def _average_buffers(network: nn.Module, average: WeightAverage, fabric: Fabric) -> None:
    """Give all processes the mean of their running statistics, each of which saw a share of the rows."""
    names = [name for name, value in network.named_buffers() if value.is_floating_point()]
    own = dict(network.named_buffers())
    for value in [*(own[name] for name in names), *(average.values[name] for name in names if name in average.values)]:
        value.copy_(reduced(fabric, value, "mean"))


def _save(
    folder: Path,
    network: nn.Module,
    average: WeightAverage,
    best: Mapping[str, torch.Tensor],
    leading: Mapping[str, torch.Tensor],
    optimizer: Optimizer,
    place: Place,
    log: Log,
    weights: Weights,
) -> None:
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    tensors |= {f"leading/{name}": value for name, value in leading.items()}
    if average.decay:
        tensors |= {f"average/{name}": value for name, value in average.values.items()}
    packed, numbers = checkpoint.pack_optimizer(optimizer)
    state = {"place": asdict(place), **asdict(log), "weights": weights.origin, "optimizer": numbers}
    try:
        checkpoint.save(folder / "checkpoint", place.total_epochs, tensors | packed, state)
        write_history(folder / "history.csv", log.history)
    except OSError as error:
        raise InputError(
            f"{folder}: epoch {place.total_epochs} cannot be written ({error.strerror or error}); what was whole "
            "before is kept: make room there and go on by --resume."
        ) from error


def _restored(state: Mapping[str, Any]) -> tuple[Place, Log, Weights]:
    scores = {name: tuple(value) for name, value in state["place"].items() if name.endswith("_score")}
    place = Place(**{**state["place"], **scores})
    return place, Log(state["history"], state["stages"], state["notes"]), Weights(state["weights"])


def _constant(training: Cells) -> Trained:
    counts = np.bincount(training.labels, minlength=len(training.class_names))
    network = Constant(np.log(np.maximum(counts, 0.5) / counts.sum()).astype(np.float32))
    return Trained(network.eval(), training.class_names, Weights(ONE_ANSWER), [], [], [])
