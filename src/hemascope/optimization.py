"""Optimisers and schedules by the names that recipes use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from timm.optim.lion import Lion
from torch import nn

from hemascope.recipe import Recipe

Optimizer = torch.optim.Optimizer

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "lion": Lion,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True),
    "rmsprop": torch.optim.RMSprop,
}
"""All are called with parameter groups and `lr`."""

WARM_UP = 0.15
"""The share of a one-cycle stage in which the rate rises."""


def _one_cycle(progress: float) -> float:
    """Up in a straight line, then down along a cosine to almost nothing (Smith and Topin, 2018)."""
    if progress < WARM_UP:
        return 0.05 + 0.95 * progress / WARM_UP
    return 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "plateau": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "one_cycle": _one_cycle,
}
"""The share of the stage's rate at a progress in [0, 1); "plateau" is cut from outside."""


def build_optimizer(network: nn.Module, recipe: Recipe, learning_rate: float) -> Optimizer:
    """The recipe's optimiser over the parameters that are trained; norms and biases take no weight decay."""
    # Norms and biases are what has one dimension.
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[recipe.optimizer](groups, lr=learning_rate)
