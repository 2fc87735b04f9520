"""Augmentation: every picture gets a draw of its own, and a draw is a pure function of seed, epoch and row.

`augment` applies the families of a recipe to a batch. Each family in FAMILIES takes the batch (uint8 (n, 3, h, w)),
the row number of each picture (int64 (n,)), a `Draw` and a magnitude in [0, 1], and returns a new batch of the same
shape and dtype; one picture in a batch comes out as it would alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hemascope.augment import families, reference
from hemascope.draws import Draw
from hemascope.recipe import Augmentation

__all__ = ["FAMILIES", "Draw", "augment"]

Family = Callable[[torch.Tensor, NDArray[np.int64], Draw, float], torch.Tensor]

FAMILIES: Mapping[str, Family] = {
    "dihedral": families.dihedral,
    "affine": families.affine,
    "jitter": families.jitter,
    "randaugment": reference.randaugment,
    "augmix": reference.augmix,
}


def augment(
    pictures: torch.Tensor, rows: NDArray[np.int64], steps: Sequence[Augmentation], *, seed: int, epoch: int
) -> torch.Tensor:
    """Apply `steps` in order: uint8 (n, 3, h, w) -> uint8 (n, 3, h, w).

    rows: int64 (n,), the number of each picture in the training set; with seed and epoch it decides the draw.
    A step touches each picture with its probability.
    """
    for place, step in enumerate(steps):
        draw = Draw(seed, epoch, f"{place}:{step.name}")
        touched = np.flatnonzero(draw.uniform(rows, "touched")[:, 0] < step.probability)
        if len(touched) == len(rows):
            pictures = FAMILIES[step.name](pictures, rows, draw, step.magnitude)
        elif len(touched):
            chosen = torch.from_numpy(touched).to(pictures.device)
            pictures = pictures.clone()
            pictures[chosen] = FAMILIES[step.name](pictures[chosen], rows[touched], draw, step.magnitude)
    return pictures
