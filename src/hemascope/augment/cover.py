"""Families that lay something over a part of the picture: cutout, a grid, air bubbles, deposits of stain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hemascope.augment.plan import Floats, Indices, Paint, Plan
from hemascope.draws import Draw

Shape = tuple[int, int]

MOST_BUBBLES, MOST_DEPOSITS = 4, 8


def cutout(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """A square of the picture's mean colour (DeVries & Taylor, 2017)."""
    size, top, left = draw.uniform(rows, "square", 3).T[:, :, None, None]
    half = size * magnitude * 0.25 * min(shape)
    x, y = _pixels(shape)
    inside = (np.abs(x - left * shape[1]) <= half) & (np.abs(y - top * shape[0]) <= half)
    return [Paint(np.arange(len(rows)), inside * np.uint8(255), None)]


def grid_mask(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Squares of the picture's mean colour on a grid (Chen et al., 2020)."""
    period, right, down = draw.uniform(rows, "grid", 3).T[:, :, None, None]
    period = (1 / 8 + period * (1 / 3 - 1 / 8)) * min(shape)
    x, y = _pixels(shape)
    inside = ((x / period + right) % 1 < 0.5 * magnitude) & ((y / period + down) % 1 < 0.5 * magnitude)
    return [Paint(np.arange(len(rows)), inside * np.uint8(255), None)]


def bubbles(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Bubbles of air in the mounting medium: a dark rim, a paler inside and a bright spot."""
    values = draw.uniform(rows, "bubbles", 1 + 4 * MOST_BUBBLES)
    count = np.ceil(values[:, 0] * magnitude * MOST_BUBBLES)
    rim, inside, spot = (np.zeros((len(rows), *shape)) for _ in range(3))
    x, y = _pixels(shape)
    for number in range(int(count.max(initial=0))):
        top, left, size, light = values[:, 1 + 4 * number : 5 + 4 * number].T[:, :, None, None]
        shown = (count > number)[:, None, None]
        radius = (0.05 + 0.13 * size * magnitude) * min(shape)
        away = np.hypot(x - left * shape[1], y - top * shape[0])
        angle = light * 2 * np.pi
        off = np.hypot(
            x - left * shape[1] - 0.5 * radius * np.cos(angle), y - top * shape[0] - 0.5 * radius * np.sin(angle)
        )
        width = 0.18 * radius + 0.5
        rim = np.maximum(rim, shown * np.clip(1 - np.abs(away - radius) / width, 0, 1))
        inside = np.maximum(inside, shown * np.clip(radius - away + 0.5, 0, 1))
        spot = np.maximum(spot, shown * np.clip(1 - off / (0.4 * radius), 0, 1))
    return [
        _paint(0.3 * inside, np.array([235.0, 230.0, 235.0])),
        _paint((0.35 + 0.35 * magnitude) * rim, np.array([70.0, 60.0, 80.0])),
        _paint(0.8 * spot, np.array([250.0, 250.0, 250.0])),
    ]


def deposits(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Precipitate of stain: small dark grains of uneven outline, anywhere on the slide."""
    values = draw.uniform(rows, "deposits", 3 + 5 * MOST_DEPOSITS)
    count = np.ceil(values[:, 0] * magnitude * MOST_DEPOSITS)
    cover = np.zeros((len(rows), *shape))
    x, y = _pixels(shape)
    for number in range(int(count.max(initial=0))):
        top, left, size, phase, waves = values[:, 3 + 5 * number : 8 + 5 * number].T[:, :, None, None]
        right, down = x - left * shape[1], y - top * shape[0]
        uneven = 1 + 0.25 * np.sin((2 + np.floor(waves * 3)) * np.arctan2(down, right) + 2 * np.pi * phase)
        radius = (0.008 + 0.045 * size**2 * magnitude) * min(shape) * uneven
        grain = np.clip(radius - np.hypot(right, down) + 0.5, 0, 1)
        cover = np.maximum(cover, (count > number)[:, None, None] * grain)
    colours = np.array([60.0, 25.0, 85.0]) + values[:, 1:2] * np.array([45.0, 25.0, 40.0])
    return [Paint(np.arange(len(rows)), _as_cover(0.9 * cover), colours)]


def _pixels(shape: Shape) -> tuple[Floats, Floats]:
    """The middles of the pixels, right (1, 1, w) and down (1, h, 1)."""
    right, down = (np.arange(side, dtype=np.float64) + 0.5 for side in (shape[1], shape[0]))
    return right[None, None, :], down[None, :, None]


def _paint(cover: Floats, colour: Floats) -> Paint:
    return Paint(np.arange(len(cover)), _as_cover(cover), np.broadcast_to(colour, (len(cover), 3)))


def _as_cover(cover: Floats) -> NDArray[np.uint8]:
    return np.round(255 * cover).astype(np.uint8)
