"""Optimisers and schedules by the names that recipes use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from timm.optim.lion import Lion
from torch import nn

from hemascope.errors import InputError
from hemascope.recipe import Recipe

Optimizer = torch.optim.Optimizer

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "lion": Lion,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, **options: torch.optim.SGD(groups, momentum=0.9, nesterov=True, **options),
    "rmsprop": torch.optim.RMSprop,
}
"""All are called with parameter groups and `lr`."""

FUSED = ("adam", "adamw", "sgd")
"""What torch can do in one kernel for all parameters, on CPUs and on GPUs."""

WARM_UP = {"one_cycle": 0.15}
"""The share of a stage in which the rate rises, where the recipe names none; others start at the top."""

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "plateau": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "one_cycle": lambda progress: 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * progress)),
}
"""The share of the stage's rate at a progress in [0, 1) after the warm-up; "plateau" is cut from outside."""


def rate_share(schedule: str, progress: float, warm_up: float | None = None) -> float:
    """The share of the stage's rate at a progress in [0, 1): up in a straight line, then as the schedule says.

    one_cycle with its own warm-up is that of Smith and Topin (2018), down to almost nothing along a cosine.
    """
    rise = WARM_UP.get(schedule, 0.0) if warm_up is None else warm_up
    if progress < rise:
        return 0.05 + 0.95 * progress / rise
    return SCHEDULES[schedule]((progress - rise) / (1 - rise))


def build_optimizer(network: nn.Module, recipe: Recipe, learning_rate: float) -> Optimizer:
    """The recipe's optimiser over the parameters that are trained; norms and biases take no weight decay.

    Raises InputError when the recipe wants it fused and it cannot be.
    """
    # Norms and biases are what has one dimension.
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.fused and recipe.optimizer not in FUSED:
        raise InputError(
            f"recipe '{recipe.name}': {recipe.optimizer} cannot be fused; leave 'fused' out, or take one of "
            f"{', '.join(FUSED)}."
        )
    there = recipe.optimizer in FUSED and trained[0].device.type in ("cpu", "cuda")
    fused = there if recipe.fused is None else recipe.fused
    return OPTIMIZERS[recipe.optimizer](groups, lr=learning_rate, **({"fused": True} if fused else {}))
