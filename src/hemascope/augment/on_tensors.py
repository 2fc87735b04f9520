"""Carries plans out with torch: uint8 (n, 3, h, w) on any device, the pictures of an operation together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d, conv2d, grid_sample, pad

from hemascope.augment import by_opencv
from hemascope.augment import plan as plans
from hemascope.augment.plan import DENSITIES, QUANTILES, TRUNCATED, Plan, nearest, sharpening_weights
from hemascope.draws import FACTORS, GOLDEN, SHIFTS

Tensor = torch.Tensor


@torch.no_grad()
def carry_out(plan: Plan, pictures: Tensor) -> None:
    """Change `pictures`, uint8 (n, 3, h, w), in place."""
    for operation in plan:
        where = on_device(operation.where, pictures.device)
        own = pictures[where]
        if isinstance(operation, plans.Blend | plans.Paste):
            others = pictures[on_device(operation.partners, pictures.device)]
            changed = (
                _blend(operation, own, others) if isinstance(operation, plans.Blend) else _paste(operation, own, others)
            )
        else:
            changed = _APPLY[type(operation)](operation, own)
        pictures[where] = changed


def on_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor on a device. A GPU fetches it in its turn: nobody waits for what it has yet to compute."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _on(values: NDArray[Any], like: Tensor) -> Tensor:
    """Parameters (k, ...) as float32 on the device of `like`."""
    return on_device(values.astype(np.float32), like.device)


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
    mode = "bilinear" if operation.smooth else "nearest"
    padding = "reflection" if operation.fill == "reflect" else "zeros"
    return _rounded(grid_sample(pictures.float(), grid, mode=mode, padding_mode=padding, align_corners=False))


def _shift(operation: plans.Shift, pictures: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    moves = on_device(operation.moves, pictures.device)[:, :, None]
    across = torch.arange(width, device=pictures.device) - moves[:, 0]
    down = torch.arange(height, device=pictures.device) - moves[:, 1]
    inside = ((down >= 0) & (down < height))[:, None, :, None] & ((across >= 0) & (across < width))[:, None, None, :]
    number = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    lines, places = down.clamp(0, height - 1)[:, :, None], across.clamp(0, width - 1)[:, None, :]
    return pictures.permute(0, 2, 3, 1)[number, lines, places].permute(0, 3, 1, 2) * inside


def _turn(operation: plans.Turn, pictures: Tensor) -> Tensor:
    pose = on_device(operation.poses, pictures.device)[:, None, None, None]
    pictures = torch.where((pose & 1) > 0, pictures.flip(3), pictures)
    pictures = torch.where((pose & 2) > 0, pictures.flip(2), pictures)
    if (operation.poses & 4).any():
        pictures = torch.where((pose & 4) > 0, pictures.transpose(2, 3), pictures)
    return pictures


def _table(operation: plans.Table, pictures: Tensor) -> Tensor:
    tables = on_device(operation.tables, pictures.device)
    return _look_up(pictures, tables if tables.ndim == 3 else tables[:, None].expand(-1, 3, -1))


def _look_up(pictures: Tensor, tables: Tensor) -> Tensor:
    """tables: (k, 3, 256)."""
    return tables.gather(2, pictures.flatten(2).long()).view_as(pictures)


def _autocontrast(operation: plans.Autocontrast, pictures: Tensor) -> Tensor:
    dark = pictures.amin((2, 3), keepdim=True).double()
    span = pictures.amax((2, 3), keepdim=True).double() - dark
    scale = torch.where(span > 0, 255 / span, 1.0)
    offset = torch.where(span > 0, -dark * scale, 0.0) + TRUNCATED
    return _rounded(pictures * scale.float() + offset.float())


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
    image = pictures.flatten(2)
    offsets = on_device(operation.offsets, pictures.device)[:, :, None]
    if (operation.means != 0).any():
        mean = image.sum(2, keepdim=True, dtype=torch.int64).double() / image.shape[2]
        offsets = offsets + on_device(operation.means, pictures.device) @ mean
    # OpenCV's arithmetic: coefficients in 1024ths, halves rounded up. Sums of whole numbers, so exact in any order.
    coefficients = _on(np.round(operation.matrices * 1024), pictures)
    summed = torch.baddbmm((offsets * 1024).round().float() + 512, coefficients, image.float())
    return (summed / 1024).floor_().clamp_(0, 255).to(torch.uint8).view_as(pictures)


def _sharpen(operation: plans.Sharpen, pictures: Tensor) -> Tensor:
    if min(pictures.shape[2:]) < 3:
        return pictures
    image = pictures.float()
    mean = avg_pool2d(image, 3, stride=1, divisor_override=1).div_(9).round_()
    own, around = (_on(weights, pictures)[:, None, None, None] for weights in sharpening_weights(operation.factors))
    inner = image[:, :, 1:-1, 1:-1]
    inner.copy_(own * inner + around * mean + operation.shift)
    return _rounded(image)


def _density(operation: plans.Density, pictures: Tensor) -> Tensor:
    density = _on(DENSITIES, pictures)[pictures.flatten(2).long()]
    return _rounded((_on(operation.matrices, pictures) @ density).neg_().exp_() * 256 - 1).view_as(pictures)


def _filter(operation: plans.Filter, pictures: Tensor) -> Tensor:
    count, channels = pictures.shape[:2]
    radius = operation.kernels.shape[1] // 2
    image = pad(pictures.float(), (radius, radius, radius, radius), mode="reflect")
    kernels = _on(operation.kernels, pictures).repeat_interleave(channels, 0)[:, None]
    return _rounded(conv2d(image.flatten(0, 1)[None], kernels, groups=count * channels)).view_as(pictures)


def _noise(operation: plans.Noise, pictures: Tensor) -> Tensor:
    numbers = _halfwords(operation.states, pictures[0].numel(), pictures.device)
    # The numbers are in the order of NumPy's pictures, channels last.
    noise = _on(QUANTILES, pictures)[numbers].view(len(pictures), *pictures.shape[2:], 3).permute(0, 3, 1, 2)
    deviations = _on(operation.deviations, pictures)[:, None].expand(-1, 3, -1)
    return _rounded(pictures + noise * deviations.gather(2, pictures.flatten(2).long()).view_as(pictures))


def _impulse(operation: plans.Impulse, pictures: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    numbers = _halfwords(operation.states, height * width, pictures.device).view(-1, 1, height, width)
    half = on_device(np.round(operation.shares * 2**15).astype(np.int64), pictures.device)
    half = half[:, None, None, None]
    return pictures.masked_fill(numbers < half, 0).masked_fill(numbers >= 2**16 - half, 255)


def _halfwords(states: NDArray[np.uint64], count: int, device: torch.device) -> Tensor:
    """`count` random numbers below 2**16 for each state, those of `draws.stream`: int64 (k, count)."""
    start = on_device(states.view(np.int64), device)
    steps = torch.arange(1, -(-count // 4) + 1, device=device) * _signed(GOLDEN)
    words = start[:, None] + steps
    for shift, factor in zip(SHIFTS, FACTORS, strict=False):
        words = (words ^ _shifted(words, shift)) * _signed(factor)
    words = words ^ _shifted(words, SHIFTS[2])
    return torch.stack([(words >> shift) & 0xFFFF for shift in (0, 16, 32, 48)], 2).flatten(1)[:, :count]


def _signed(word: np.uint64) -> int:
    """A 64-bit word as the signed number of the same bits: torch has no unsigned arithmetic."""
    return int(np.array(word, np.uint64).view(np.int64))


def _shifted(words: Tensor, places: int) -> Tensor:
    """Shifted right with zeros coming in, which torch's signed shift does not do."""
    return (words >> places) & ((1 << (64 - places)) - 1)


def _paint(operation: plans.Paint, pictures: Tensor) -> Tensor:
    image = pictures.float()
    colours = image.mean((2, 3)) if operation.colours is None else _on(operation.colours, pictures)
    cover = on_device(operation.covers, pictures.device)[:, None].float() / 255
    return _rounded(image + (colours[:, :, None, None] - image) * cover)


def _jpeg(operation: plans.Jpeg, pictures: Tensor) -> Tensor:
    # By the library that OpenCV has, on the CPU: an imitation of it would be another compression.
    arrays = np.ascontiguousarray(pictures.permute(0, 2, 3, 1).cpu().numpy())
    by_opencv.carry_out([operation._replace(where=np.arange(len(arrays)))], arrays)
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).to(pictures.device)


def _pixelate(operation: plans.Pixelate, pictures: Tensor) -> Tensor:
    changed = torch.empty_like(pictures)
    height, width = pictures.shape[2:]
    for rows, columns in np.unique(operation.sides, axis=0).tolist():
        own = on_device(np.flatnonzero((operation.sides == (rows, columns)).all(1)), pictures.device)
        down, across = _on(_areas(height, rows), pictures), _on(_areas(width, columns), pictures)
        coarse = _rounded(down @ (pictures[own].float() @ across.T))
        lines, places = (torch.from_numpy(nearest(*sides)) for sides in ((height, rows), (width, columns)))
        changed[own] = coarse[:, :, lines][:, :, :, places]
    return changed


def _areas(side: int, count: int) -> NDArray[np.float64]:
    """The share of each of `side` pixels in each of `count` larger ones: (count, side)."""
    edges = np.arange(count + 1) * side / count
    covered = np.minimum(edges[1:, None], np.arange(1, side + 1)) - np.maximum(edges[:-1, None], np.arange(side))
    return np.asarray(np.maximum(covered, 0) * count / side)


def _mix(operation: plans.Mix, pictures: Tensor) -> Tensor:
    width = operation.weights.shape[1] - 1
    copies = pictures.repeat_interleave(width, 0)
    carry_out(operation.plan, copies)
    weights = _on(operation.weights, pictures)[:, :, None, None, None]
    total = pictures * weights[:, 0]
    for chain in range(width):
        total.addcmul_(copies[chain::width].float(), weights[:, chain + 1])
    return _rounded(total)


_APPLY: Mapping[type[Any], Callable[[Any, Tensor], Tensor]] = {
    plans.Warp: _warp,
    plans.Shift: _shift,
    plans.Turn: _turn,
    plans.Table: _table,
    plans.Autocontrast: _autocontrast,
    plans.Equalise: _equalise,
    plans.Colour: _colour,
    plans.Density: _density,
    plans.Sharpen: _sharpen,
    plans.Filter: _filter,
    plans.Noise: _noise,
    plans.Impulse: _impulse,
    plans.Paint: _paint,
    plans.Jpeg: _jpeg,
    plans.Pixelate: _pixelate,
    plans.Mix: _mix,
}


def _blend(operation: plans.Blend, pictures: Tensor, others: Tensor) -> Tensor:
    share = _on(operation.shares, pictures)[:, None, None, None]
    return _rounded(pictures * (1 - share) + others * share)


def _paste(operation: plans.Paste, pictures: Tensor, others: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    boxes = on_device(operation.boxes, pictures.device)
    top, bottom, left, right = boxes.T[:, :, None, None, None]
    down = torch.arange(height, device=pictures.device)[:, None]
    across = torch.arange(width, device=pictures.device)
    return torch.where((down >= top) & (down < bottom) & (across >= left) & (across < right), others, pictures)
