"""Families of augmentation that work on a whole batch of tensors at once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, grid_sample

from hemascope.draws import Draw


def _mirror(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.flip(3)


def _upend(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.flip(2)


def _transpose(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.transpose(2, 3)


def dihedral(pictures: torch.Tensor, rows: NDArray[np.int64], draw: Draw, magnitude: float) -> torch.Tensor:
    """One of the eight turns and mirrorings of a square, each as likely; magnitude has no meaning here."""
    pose = torch.from_numpy((draw.uniform(rows, "pose")[:, 0] * 8).astype(np.int64)).to(pictures.device)
    for bit, move in ((1, _mirror), (2, _upend), (4, _transpose)):
        pictures = torch.where(((pose & bit) > 0)[:, None, None, None], move(pictures), pictures)
    return pictures


def affine(pictures: torch.Tensor, rows: NDArray[np.int64], draw: Draw, magnitude: float) -> torch.Tensor:
    """Any rotation, zoom and shift, linear in between, the border mirrored as the field of view would go on.

    At magnitude 1: rotation by up to 180 degrees, zoom by a factor between 1/1.6 and 1.6, shift by up to a quarter
    of the side.
    """
    angle, zoom, right, down = draw.signed(rows, "affine", 4).T
    angle = angle * magnitude * np.pi
    scale = np.exp(zoom * magnitude * np.log(1.6))
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    shift = 0.5 * magnitude
    theta = np.stack(
        [np.stack([cosine, -sine, right * shift], 1), np.stack([sine, cosine, down * shift], 1)], 1
    ).astype(np.float32)
    grid = affine_grid(torch.from_numpy(theta).to(pictures.device), list(pictures.shape), align_corners=False)
    moved = grid_sample(pictures.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return moved.round_().clamp_(0, 255).to(torch.uint8)


def jitter(pictures: torch.Tensor, rows: NDArray[np.int64], draw: Draw, magnitude: float) -> torch.Tensor:
    """Brightness, contrast, saturation and the gain of each channel, as a light source and a camera vary them.

    At magnitude 1: brightness, contrast and saturation by factors between 1/2 and 2, channel gains between 1/1.3
    and 1.3.
    """
    values = draw.signed(rows, "jitter", 6) * magnitude
    factors = np.exp(values[:, :3] * np.log(2.0)).astype(np.float32)
    gains = np.exp(values[:, 3:] * np.log(1.3)).astype(np.float32)
    brightness, contrast, saturation = (
        torch.from_numpy(np.ascontiguousarray(factor)).to(pictures.device)[:, None, None, None] for factor in factors.T
    )
    gain = torch.from_numpy(gains).to(pictures.device)[:, :, None, None]
    image = pictures.float() * (brightness * gain)
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = torch.lerp(mean.expand_as(image), image, contrast)
    luminance = image.mul(image.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
    image = torch.lerp(luminance.expand_as(image), image, saturation)
    return image.round_().clamp_(0, 255).to(torch.uint8)
