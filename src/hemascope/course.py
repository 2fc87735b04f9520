"""How far a training has come and what it has to tell: kept with each checkpoint, said after each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hemascope.files import replacing
from hemascope.progress import clock
from hemascope.recipe import Recipe, Stage


@dataclass
class Place:
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
    micro_batch: int | None = None  # where memory did not suffice for the one asked for
    leading_stage: int = 0  # of those that have ended, the one with the best epoch
    leading_score: tuple[float, float] = (-1.0, 0.0)

    def next_stage(self) -> Place:
        """The beginning of the stage that follows."""
        return Place(
            self.stage + 1,
            total_epochs=self.total_epochs,
            seconds=self.seconds,
            micro_batch=self.micro_batch,
            leading_stage=self.leading_stage,
            leading_score=self.leading_score,
        )


@dataclass
class Log:
    """What a run has to tell; saved with each checkpoint."""

    history: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def advance(place: Place, score: tuple[float, float], recipe: Recipe, seconds: float) -> None:
    """Count an epoch that took so many seconds and reached a score; a plateau of scores cuts the rate."""
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


def stage_row(stage: Stage, place: Place, history: list[dict[str, Any]]) -> dict[str, Any]:
    """What the table of stages says of one that has ended."""
    best = next((row for row in history if row["epoch"] == place.best_epoch), {})
    return {
        "name": stage.name,
        "epochs": place.epoch,
        "best_epoch": place.best_epoch,
        "validation_accuracy": best.get("validation_accuracy"),
        "validation_balanced_accuracy": best.get("validation_balanced_accuracy"),
        **({"validation_stress": best["validation_stress"]} if "validation_stress" in best else {}),
    }


def epoch_sentence(row: Mapping[str, Any], place: Place, stages: int) -> str:
    """What is said of an epoch, of a training with so many stages."""
    best = "best of this stage" if stages > 1 else "best so far"
    best = f" ({best})" if place.since_best == 0 else f" ({best}: {place.best_score[0]:.4f})"
    stress = f", under corruption {row['validation_stress']:.4f}" if "validation_stress" in row else ""
    return (
        f"loss {row['train_loss']:.4f}, validation accuracy {row['validation_accuracy']:.4f}{stress}{best}, "
        f"{row['images_per_second']:,.0f} images/s"
    )


def time_left(place: Place, stages: Sequence[Stage], history: list[dict[str, Any]]) -> str:
    """The end of the sentence on an epoch: how long the stage may still take."""
    epochs = stages[place.stage].epochs - place.epoch
    if not epochs:
        return ""
    left = clock(epochs * _seconds_per_epoch(place, history))
    return f", at most {left} left" + ("" if place.stage + 1 == len(stages) else " of this stage")


def _seconds_per_epoch(place: Place, history: list[dict[str, Any]]) -> float:
    """How long an epoch of this stage has taken so far; stages differ in the size of their pictures."""
    own = history[len(history) - place.epoch :]
    return float(sum(row["seconds"] for row in own)) / max(len(own), 1)


def out_of_time(place: Place, max_minutes: float | None, history: list[dict[str, Any]]) -> bool:
    """Whether another epoch as long as those so far would end after the time given."""
    if max_minutes is None:
        return False
    return place.seconds + _seconds_per_epoch(place, history) > max_minutes * 60


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """Write the table of epochs, a row each."""
    import pandas as pd

    with replacing(path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
