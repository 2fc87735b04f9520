"""What several corruptions draw with: smooth noise, soft edges, and lengths that grow with the picture."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

Plane = NDArray[np.float32]

REFERENCE_SIDE = 224


def side(images: Images) -> int:
    """The shorter side of the pictures in pixels: lengths are told as shares of it."""
    height, width = images.shape[1:3]
    return int(min(height, width))


def reference_scale(images: Images) -> float:
    """How many pixels of these pictures one pixel of a 224-pixel picture is."""
    return side(images) / REFERENCE_SIDE


def pixel_grid(height: int, width: int) -> tuple[Plane, Plane]:
    """Where the pixels lie, x (1, width) and y (height, 1), in pixels from the top left pixel's middle."""
    return np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]


def soft_step(inside: NDArray[np.floating[Any]]) -> Plane:
    """How much of a pixel an edge covers, when its middle lies `inside` pixels within that edge: 0 to 1.

    Hard edges would flip whole pixels where two machines differ in a last digit; soft ones hardly move.
    """
    return np.asarray(np.clip(inside + 0.5, 0.0, 1.0), np.float32)


@lru_cache(maxsize=64)
def disc(radius: float, scale: float = 1.0) -> Plane:
    """A filter that spreads light evenly over a disc: float32 (k, k), summing to 1.

    radius: in pixels of a picture, of which one of these is `scale` times as wide: the filter blurs the smaller or
    larger picture as much as the disc blurs that one. Each weight is the share of its pixel that is covered.
    """
    # Filters blur by the width of their pixels as well, which weighs the more, the smaller the disc is in pixels; so
    # the disc is sought whose variance, and not whose radius, is scaled.
    wanted = scale**2 * _variance(_covered(radius))
    low, high = 0.1, max(0.1, 1.5 * scale * radius + 1)
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if _variance(_covered(middle)) < wanted else (low, middle)
    return _covered(radius if scale == 1 else low)


def _covered(radius: float) -> Plane:
    """How much of each pixel a disc covers, as shares of the disc."""
    reach, parts = max(0, int(np.ceil(radius - 0.5))), int(np.clip(128 / radius, 8, 64))
    fine = (np.arange((2 * reach + 1) * parts) + 0.5) / parts - (reach + 0.5)
    inside = (fine[None, :] ** 2 + fine[:, None] ** 2 <= radius**2).astype(np.float32)
    weights = inside.reshape(2 * reach + 1, parts, 2 * reach + 1, parts).sum(axis=(1, 3))
    return np.asarray(weights / weights.sum(), np.float32)


def _variance(weights: Plane) -> float:
    away = np.arange(len(weights)) - len(weights) // 2
    return float((weights.sum(axis=0) * away**2).sum())


def smooth_noise(draw: Draw, rows: Rows, purpose: str, shape: tuple[int, int], cells: int, octaves: int = 1) -> Plane:
    """Smooth noise for each row, most of it within -1 to 1: float32 (n, height, width).

    cells: how many bumps lie across a picture. Each further octave has twice as many, half as high.
    """
    height, width = shape
    total = np.zeros((len(rows), height, width), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave + 1
        knots = draw.signed(rows, f"{purpose}:{octave}", count * count).astype(np.float32).reshape(-1, count, count)
        for plane, lattice in zip(total, knots, strict=True):
            plane += 0.5**octave * cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC)
    return total


def levels(values: NDArray[np.floating[Any]]) -> Images:
    """Grey levels rounded to the nearest whole one within 0 to 255: uint8 of the same shape."""
    return np.asarray(np.rint(np.clip(values, 0, 255)), np.uint8)


def rise(values: NDArray[np.floating[Any]], low: float, high: float) -> Plane:
    """0 below low, 1 above high and a smooth cubic between."""
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def clear_levels(image: Images) -> NDArray[np.float32]:
    """The levels of the empty slide, float32 (3,): what only one pixel in fifty exceeds, at least 1."""
    place = int(0.98 * (image[..., 0].size - 1))
    counts = [np.bincount(image[..., channel].reshape(-1), minlength=256) for channel in range(3)]
    found = [int(np.searchsorted(np.cumsum(count), place, side="right")) for count in counts]
    return np.maximum(np.array(found, np.float32), np.float32(1))


def darkest(pixels: NDArray[Any]) -> NDArray[Any]:
    """The lowest of the three colours of each pixel: (..., height, width)."""
    # A reduction over an axis of three is several times as slow.
    return np.asarray(np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2]))
