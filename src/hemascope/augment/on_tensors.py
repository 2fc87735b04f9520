"""Carries plans out with torch: uint8 (n, 3, h, w) on any device, the pictures of an operation together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import conv2d, grid_sample

from hemascope.augment import plan as plans
from hemascope.augment.plan import Plan

Tensor = torch.Tensor


@torch.no_grad()
def carry_out(plan: Plan, pictures: Tensor) -> None:
    """Change `pictures`, uint8 (n, 3, h, w), in place."""
    for operation in plan:
        where = torch.from_numpy(operation.where).to(pictures.device)
        pictures[where] = _APPLY[type(operation)](operation, pictures[where])


def _on(values: NDArray[Any], like: Tensor) -> Tensor:
    """Parameters (k, ...) as float32 on the device of `like`."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(like.device)


def _rounded(pictures: Tensor) -> Tensor:
    return pictures.round_().clamp_(0, 255).to(torch.uint8)


def _warp(operation: plans.Warp, pictures: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    matrices = operation.matrices.copy()
    # From whole numbers at the centres of pixels to -1 and 1 at the edges of the picture.
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    half = np.array([width / 2, height / 2])
    matrices[:, :, 2] += matrices[:, :, :2] @ middle - middle
    theta = _on(matrices / half[None, :, None], pictures)
    rows = torch.arange(height, device=pictures.device, dtype=torch.float32) - middle[1]
    columns = torch.arange(width, device=pictures.device, dtype=torch.float32) - middle[0]
    grid = (
        theta[:, None, None, :, 0] * columns[None, None, :, None]
        + theta[:, None, None, :, 1] * rows[None, :, None, None]
        + theta[:, None, None, :, 2]
    )
    image = pictures.float()
    outside = background(pictures)[:, :, None, None].float() if operation.fill == "background" else None
    if outside is not None:
        image = image - outside
    mode = "bilinear" if operation.smooth else "nearest"
    padding = "reflection" if operation.fill == "reflect" else "zeros"
    image = grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=False)
    return _rounded(image if outside is None else image + outside)


def background(pictures: Tensor) -> Tensor:
    """The median colour of each picture's frame, three pixels wide: uint8 (n, 3)."""
    parts = (pictures[:, :, :3], pictures[:, :, -3:], pictures[:, :, 3:-3, :3], pictures[:, :, 3:-3, -3:])
    return torch.cat([part.flatten(2) for part in parts], 2).median(2).values


def _turn(operation: plans.Turn, pictures: Tensor) -> Tensor:
    pose = torch.from_numpy(operation.poses).to(pictures.device)[:, None, None, None]
    pictures = torch.where((pose & 1) > 0, pictures.flip(3), pictures)
    pictures = torch.where((pose & 2) > 0, pictures.flip(2), pictures)
    if (operation.poses & 4).any():
        pictures = torch.where((pose & 4) > 0, pictures.transpose(2, 3), pictures)
    return pictures


def _table(operation: plans.Table, pictures: Tensor) -> Tensor:
    tables = torch.from_numpy(operation.tables).to(pictures.device)
    return _look_up(pictures, tables if tables.ndim == 3 else tables[:, None].expand(-1, 3, -1))


def _look_up(pictures: Tensor, tables: Tensor) -> Tensor:
    """tables: (k, 3, 256)."""
    return tables.gather(2, pictures.flatten(2).long()).view_as(pictures)


def _autocontrast(operation: plans.Autocontrast, pictures: Tensor) -> Tensor:
    image = pictures.float()
    dark, bright = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    flat = bright == dark
    span = torch.where(flat, 255.0, bright - dark)
    stretched = (image - torch.where(flat, 0.0, dark)) * 255 / span
    return stretched.add_(1e-4).clamp_(0, 255).to(torch.uint8)


def _equalise(operation: plans.Equalise, pictures: Tensor) -> Tensor:
    levels = pictures.flatten(2).long()
    counts = torch.zeros((*levels.shape[:2], 256), dtype=torch.int64, device=pictures.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    brightest = levels.amax(2, keepdim=True)
    # Pillow's rule: the pixels of the brightest level do not count.
    step = (levels.shape[2] - counts.gather(2, brightest)) // 255
    before = counts.cumsum(2) - counts
    tables = ((before + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    tables = torch.where(step > 0, tables, torch.arange(256, device=pictures.device))
    return tables.to(torch.uint8).gather(2, levels).view_as(pictures)


def _colour(operation: plans.Colour, pictures: Tensor) -> Tensor:
    image = pictures.flatten(2).float()
    offsets = _on(operation.offsets, pictures)[:, :, None]
    if operation.means.any():
        offsets = offsets + _on(operation.means, pictures) @ image.mean(2, keepdim=True)
    return _rounded(torch.baddbmm(offsets, _on(operation.matrices, pictures), image)).view_as(pictures)


def _sharpen(operation: plans.Sharpen, pictures: Tensor) -> Tensor:
    if min(pictures.shape[2:]) < 3:
        return pictures
    image = pictures.float()
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]], device=pictures.device) / 13
    flat = image.flatten(0, 1)[:, None]
    smoothed = conv2d(flat, kernel[None, None]).round_()
    factor = _on(operation.factors, pictures)[:, None, None, None]
    inner = image[:, :, 1:-1, 1:-1]
    smoothed = smoothed.view_as(inner)
    inner.copy_(smoothed + factor * (inner - smoothed) + operation.shift)
    return _rounded(image)


def _mix(operation: plans.Mix, pictures: Tensor) -> Tensor:
    width = operation.weights.shape[1] - 1
    copies = pictures.repeat(width, 1, 1, 1)
    carry_out(operation.plan, copies)
    weights = _on(operation.weights.T, pictures)[:, :, None, None, None]
    total = pictures * weights[0]
    for chain, copy in enumerate(copies.chunk(width)):
        total.addcmul_(copy.float(), weights[chain + 1])
    return _rounded(total)


_APPLY: Mapping[type[Any], Callable[[Any, Tensor], Tensor]] = {
    plans.Warp: _warp,
    plans.Turn: _turn,
    plans.Table: _table,
    plans.Autocontrast: _autocontrast,
    plans.Equalise: _equalise,
    plans.Colour: _colour,
    plans.Sharpen: _sharpen,
    plans.Mix: _mix,
}
