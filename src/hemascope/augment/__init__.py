"""Augmentation: every picture gets a draw of its own, and a draw is a pure function of seed, epoch and row.

A family turns draws into a plan, which knows no pixels (`plan`). OpenCV carries it out on NumPy arrays (`on_cpu`),
torch on tensors and their device (`on_tensors`), to the same grey levels. `augment` is the front door of all of it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from hemascope.augment import colour, geometry
from hemascope.augment import randaugment as policies
from hemascope.augment.plan import Plan, placed
from hemascope.draws import Draw
from hemascope.recipe import Augmentation

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "Draw", "Family", "augment", "plan_of"]

Pictures = TypeVar("Pictures", NDArray[np.uint8], "torch.Tensor")


@dataclass(frozen=True)
class Family:
    """What a name in a recipe's `augmentation` stands for."""

    plan: Callable[[NDArray[np.int64], Draw, float, tuple[int, int]], Plan]
    """(rows (n,), draw, magnitude, (height, width)) -> what is done to a batch of those rows."""
    magnitude: str
    """What magnitude 1 is; smaller ones are in proportion."""


FAMILIES: Mapping[str, Family] = {
    "randaugment": Family(policies.randaugment, "two of 14 operations at level 30 of 30"),
    "augmix": Family(policies.augmix, "three chains of one to three of 13 operations at severity 10 of 10"),
    "augmix-plain": Family(policies.augmix_plain, "as augmix, of the nine operations of its paper"),
    "dihedral": Family(geometry.dihedral, "has no meaning: each of the eight poses of a square is as likely"),
    "affine": Family(
        geometry.affine, "rotation by up to 180 degrees, zoom by 1/1.6 to 1.6 and shift by up to a quarter of the side"
    ),
    "rotate": Family(geometry.rotate, "by up to 180 degrees"),
    "zoom": Family(geometry.zoom, "by 1/1.6 to 1.6"),
    "shift": Family(geometry.shift, "by up to a quarter of the side"),
    "shear": Family(geometry.shear, "along one axis by up to 0.3 pixels a pixel"),
    "jitter": Family(
        colour.jitter, "brightness, contrast and saturation by 1/2 to 2, the gain of each channel by 1/1.3 to 1.3"
    ),
}


def plan_of(
    rows: NDArray[np.int64], steps: Sequence[Augmentation], shape: tuple[int, int], *, seed: int, epoch: int
) -> Plan:
    """What `augment` does to pictures of `shape` (height, width) that stand in these rows."""
    plan: Plan = []
    for place, step in enumerate(steps):
        draw = Draw(seed, epoch, f"{place}:{step.name}")
        family = FAMILIES[step.name].plan
        if step.probability >= 1:
            plan += family(rows, draw, step.magnitude, shape)
        else:
            touched = np.flatnonzero(draw.uniform(rows, "touched")[:, 0] < step.probability)
            if len(touched):
                plan += placed(family(rows[touched], draw, step.magnitude, shape), touched)
    return plan


def augment(
    pictures: Pictures,
    rows: NDArray[np.int64],
    steps: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    threads: int = 0,
) -> Pictures:
    """Apply `steps` in order and return new pictures of the type, shape and dtype of `pictures`.

    pictures: a NumPy array uint8 (n, h, w, 3), or a tensor (n, 3, h, w) on any device, uint8 or float in 0 to 255,
    which is rounded to whole grey levels. rows: int64 (n,), the number of each picture in the training set; with seed
    and epoch it decides the draw. threads: that share an array; 0: as many as there are cores.
    """
    if isinstance(pictures, np.ndarray):
        return _on_cpu(pictures, rows, steps, seed, epoch, threads or _cores())
    import torch

    from hemascope.augment import on_tensors

    changed = pictures.round().clamp(0, 255).to(torch.uint8) if pictures.is_floating_point() else pictures.clone()
    height, width = pictures.shape[2:]
    on_tensors.carry_out(plan_of(rows, steps, (height, width), seed=seed, epoch=epoch), changed)
    return changed.to(pictures.dtype)


def _on_cpu(
    pictures: NDArray[np.uint8],
    rows: NDArray[np.int64],
    steps: Sequence[Augmentation],
    seed: int,
    epoch: int,
    threads: int,
) -> NDArray[np.uint8]:
    from hemascope.augment import on_cpu

    changed = np.array(pictures, order="C")
    height, width = changed.shape[1:3]

    def work(part: slice) -> None:
        on_cpu.carry_out(plan_of(rows[part], steps, (height, width), seed=seed, epoch=epoch), changed[part])

    bounds = np.linspace(0, len(rows), threads + 1).astype(int)
    parts = [slice(low, high) for low, high in itertools.pairwise(bounds) if high > low]
    if len(parts) > 1:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(work, parts))
    else:
        for part in parts:
            work(part)
    return changed


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
