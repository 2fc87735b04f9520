"""Augmentation: every picture gets a draw of its own, and a draw is a pure function of seed, epoch and row.

A family turns draws into a plan, which knows no pixels (`plan`). On NumPy arrays it is carried out by compiled loops
where Numba is installed (`by_numba`), else by OpenCV (`by_opencv`), and on tensors by torch on their device
(`on_tensors`): to the same grey levels. `augment` is the front door of all of it.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from hemascope.augment import colour, cover, geometry, mixing, quality
from hemascope.augment import randaugment as policies
from hemascope.augment.plan import Plan, placed
from hemascope.draws import Draw
from hemascope.machine import cores, quick_turns
from hemascope.recipe import Augmentation

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "MIXING", "Draw", "Family", "augment", "compiled", "compiles_first", "label_weights", "plan_of"]

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
    "brightness": Family(colour.brightness, "by a factor of 1/2 to 2"),
    "contrast": Family(colour.contrast, "about the mean grey by a factor of 1/2 to 2"),
    "saturation": Family(colour.saturation, "by a factor of 1/2 to 2"),
    "hue": Family(colour.hue, "turned by up to 30 degrees of the colour circle"),
    "channel-shift": Family(colour.channel_shift, "each channel by up to 40 grey levels"),
    "channel-shuffle": Family(
        colour.channel_shuffle, "the channels in another order; less: that share of it in the sum"
    ),
    "stain": Family(
        colour.stain, "the amount of each stain by a factor of 1/1.65 to 1.65, its colour vector by up to 0.22"
    ),
    "white-balance": Family(colour.white_balance, "red and blue by up to 20% against green"),
    "grey": Family(colour.grey, "no colour is left; less: that share of grey in the sum"),
    "jitter": Family(
        colour.jitter, "brightness, contrast and saturation by 1/2 to 2, the gain of each channel by 1/1.3 to 1.3"
    ),
    "solarise": Family(colour.solarise, "levels above a threshold anywhere are inverted; less: above a higher one"),
    "posterise": Family(colour.posterise, "up to four of eight bits are cut off"),
    "equalise": Family(colour.equalise, "up to the equalised picture alone; less: up to that share of it in the sum"),
    "sharpness": Family(quality.sharpness, "from smoothed over 3 x 3 pixels to four times as sharp"),
    "gaussian-blur": Family(quality.gaussian_blur, "by up to 2.5% of the side as the standard deviation"),
    "motion-blur": Family(quality.motion_blur, "along up to 12% of the side, in any direction"),
    "defocus-blur": Family(quality.defocus_blur, "to a disc of up to 3.5% of the side as the radius"),
    "gaussian-noise": Family(quality.gaussian_noise, "a standard deviation of up to 40 grey levels"),
    "shot-noise": Family(quality.shot_noise, "a standard deviation of up to 40 grey levels in white, less in the dark"),
    "speckle-noise": Family(quality.speckle_noise, "a standard deviation of up to 0.3 of each level"),
    "impulse-noise": Family(quality.impulse_noise, "up to 8% of the pixels are black or white"),
    "jpeg": Family(quality.jpeg, "a quality from 95 down to 10"),
    "pixelate": Family(quality.pixelate, "pixels of up to four times the side"),
    "cutout": Family(cover.cutout, "a square of up to half the side"),
    "grid-mask": Family(cover.grid_mask, "a quarter of the picture is covered"),
    "bubbles": Family(cover.bubbles, "up to four bubbles of up to 18% of the side as the radius"),
    "deposits": Family(cover.deposits, "up to eight grains of up to 7% of the side as the radius"),
    "mixup": Family(mixing.mixup, "up to half of another picture, and of its label"),
    "cutmix": Family(mixing.cutmix, "up to half the area from another picture, and that share of its label"),
}
"""The sentence says what magnitude 1 is; a smaller one is in proportion, and a draw goes up to it."""

MIXING = ("mixup", "cutmix")

FEWEST_PIXELS = 2**18
"""That are worth a thread: 16 pictures of 128 x 128."""
SMALL = 128
"""Pictures of a smaller side get two threads at most: so little is done at a time that more wait for each other."""

_Numbered = tuple[int, Augmentation]


def plan_of(
    rows: NDArray[np.int64], steps: Iterable[_Numbered], shape: tuple[int, int], *, seed: int, epoch: int
) -> Plan:
    """What `augment` does to pictures of `shape` (height, width) in these rows; the steps with their places."""
    plan: Plan = []
    for place, step in steps:
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
    and epoch it decides the draw. threads: that share an array; 0: as many as there are cores, where the pictures are
    large and many enough to gain by it.
    """
    if isinstance(pictures, np.ndarray):
        return _on_cpu(pictures, rows, steps, seed, epoch, threads or _worth(pictures))
    import torch

    from hemascope.augment import on_tensors

    changed = pictures.round().clamp(0, 255).to(torch.uint8) if pictures.is_floating_point() else pictures.clone()
    height, width = pictures.shape[2:]
    on_tensors.carry_out(plan_of(rows, enumerate(steps), (height, width), seed=seed, epoch=epoch), changed)
    return changed.to(pictures.dtype)


def label_weights(
    rows: NDArray[np.int64], steps: Sequence[Augmentation], shape: tuple[int, int], *, seed: int, epoch: int
) -> NDArray[np.float64] | None:
    """The share of each label of a batch in each picture that `augment` gives: float64 (n, n), rows summing to 1.

    None when no step mixes pictures.
    """
    mixing_steps = [(place, step) for place, step in enumerate(steps) if step.name in MIXING]
    if not mixing_steps:
        return None
    return mixing.label_weights(plan_of(rows, mixing_steps, shape, seed=seed, epoch=epoch), len(rows), shape)


def _on_cpu(
    pictures: NDArray[np.uint8],
    rows: NDArray[np.int64],
    steps: Sequence[Augmentation],
    seed: int,
    epoch: int,
    threads: int,
) -> NDArray[np.uint8]:
    changed = np.array(pictures, order="C")
    if not steps:
        return changed
    if compiled():
        from hemascope.augment.by_numba import carry_out
    else:
        from hemascope.augment.by_opencv import carry_out
    shape = (changed.shape[1], changed.shape[2])
    threads = max(1, min(threads, len(changed)))
    bounds = np.linspace(0, len(changed), threads + 1).astype(int).tolist()

    def share(numbered: Sequence[_Numbered], low: int, high: int) -> None:
        # Step by step: while one thread plans, which takes Python's lock, the other changes pixels.
        for step in numbered:
            carry_out(plan_of(rows[low:high], [step], shape, seed=seed, epoch=epoch), changed[low:high])

    with quick_turns() if threads > 1 else nullcontext():
        for mixes, group in itertools.groupby(enumerate(steps), lambda numbered: numbered[1].name in MIXING):
            numbered = list(group)
            first, *others = [(0, len(changed))] if mixes else itertools.pairwise(bounds)
            waiting = [_pool(os.getpid(), len(others)).submit(share, numbered, *part) for part in others]
            share(numbered, *first)
            for done in waiting:
                done.result()
    return changed


@functools.cache
def compiled() -> bool:
    """Whether compiled loops change arrays: Numba is there, fits Python and NumPy, and is not told to stay idle."""
    try:
        from numba import config
    except ImportError:
        return False
    return not getattr(config, "DISABLE_JIT", False)


def compiles_first() -> bool:
    """Whether loops have yet to be compiled, which takes a quarter of a minute: no earlier process has left them."""
    if not compiled():
        return False
    from hemascope.augment import kernels

    return not kernels.kept()


def _worth(pictures: NDArray[np.uint8]) -> int:
    """How many threads are worth their while."""
    most = 2 if min(pictures.shape[1:3]) < SMALL else cores()
    return max(1, min(most, cores(), pictures[..., 0].size // FEWEST_PIXELS))


@functools.cache
def _pool(process: int, others: int) -> ThreadPoolExecutor:
    """What works beside the thread that calls. Threads are not inherited by a fork: each process has its own."""
    return ThreadPoolExecutor(others, "augment")
