"""RandAugment and AugMix as torchvision has them, called for one picture at a time so that each gets its own draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

from hemascope.draws import Draw


def randaugment(pictures: torch.Tensor, rows: NDArray[np.int64], draw: Draw, magnitude: float) -> torch.Tensor:
    """Two random operations of RandAugment (Cubuk et al., 2020); magnitude 1 is its level 30."""
    return _each(pictures, rows, draw, v2.RandAugment(num_ops=2, magnitude=round(30 * magnitude)))


def augmix(pictures: torch.Tensor, rows: NDArray[np.int64], draw: Draw, magnitude: float) -> torch.Tensor:
    """AugMix (Hendrycks et al., 2020) with three chains of one to three operations; magnitude 1 is severity 10."""
    return _each(pictures, rows, draw, v2.AugMix(severity=max(1, round(10 * magnitude))))


def _each(
    pictures: torch.Tensor, rows: NDArray[np.int64], draw: Draw, transform: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    # torchvision draws from torch's global generator: it is seeded anew for each picture and put back afterwards.
    with torch.random.fork_rng(devices=[]):
        out = []
        for picture, seed in zip(pictures.cpu(), draw.seeds(rows), strict=True):
            torch.default_generator.manual_seed(seed)
            out.append(transform(picture))
    return torch.stack(out).to(pictures.device)
