"""Families that lay something over a part of the picture: cutout, a grid, air bubbles, deposits of stain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.augment.plan import Floats, Indices, Paint, Plan
from hemascope.draws import Draw

Shape = tuple[int, int]
Singles = NDArray[np.float32]

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
    at, number = np.nonzero(np.arange(MOST_BUBBLES) < magnitude * MOST_BUBBLES * values[:, :1])
    drawn = values[:, 1:].reshape(-1, MOST_BUBBLES, 4)[at, number]
    top, left, size, light = drawn.T[:, :, None, None].astype(np.float32)
    largest = (0.05 + 0.13 * magnitude) * min(shape)
    pieces = _pieces(at, top, left, 1.18 * largest + 0.5, shape)
    radius = (0.05 + 0.13 * size * magnitude) * min(shape)
    away = _length(pieces.right, pieces.down)
    angle = light * 2 * np.pi
    off = _length(pieces.right - 0.5 * radius * np.cos(angle), pieces.down - 0.5 * radius * np.sin(angle))
    rim = np.clip(1 - np.abs(away - radius) / (0.18 * radius + 0.5), 0, 1)
    inside = np.clip(radius - away + 0.5, 0, 1)
    spot = np.clip(1 - off / (0.4 * radius), 0, 1)
    layers = _laid(pieces, np.stack([0.3 * inside, (0.35 + 0.35 * magnitude) * rim, 0.8 * spot]), len(rows), shape)
    colours = np.array([[235.0, 230.0, 235.0], [70.0, 60.0, 80.0], [250.0, 250.0, 250.0]])
    return [
        Paint(np.arange(len(rows)), layer, np.broadcast_to(colour, (len(rows), 3)))
        for layer, colour in zip(layers, colours, strict=True)
    ]


def deposits(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Precipitate of stain: small dark grains of uneven outline, anywhere on the slide."""
    values = draw.uniform(rows, "deposits", 3 + 5 * MOST_DEPOSITS)
    at, number = np.nonzero(np.arange(MOST_DEPOSITS) < magnitude * MOST_DEPOSITS * values[:, :1])
    grains = values[:, 3:].reshape(-1, MOST_DEPOSITS, 5)
    top, left, size, phase, waves = grains[at, number].T[:, :, None, None].astype(np.float32)
    pieces = _pieces(at, top, left, 1.25 * (0.008 + 0.045 * magnitude) * min(shape) + 0.5, shape)
    around = np.arctan2(pieces.down, pieces.right)
    uneven = 1 + 0.25 * np.sin((2 + np.floor(waves * 3)) * around + 2 * np.pi * phase)
    radius = (0.008 + 0.045 * size**2 * magnitude) * min(shape) * uneven
    grain = np.clip(radius - _length(pieces.right, pieces.down) + 0.5, 0, 1)
    colours = np.array([60.0, 25.0, 85.0]) + values[:, 1:2] * np.array([45.0, 25.0, 40.0])
    (layer,) = _laid(pieces, 0.9 * grain[None], len(rows), shape)
    return [Paint(np.arange(len(rows)), layer, colours)]


class _Pieces(NamedTuple):
    """Small things, each in a square window around its middle, as most of a picture is left free.

    at: int (k,), the picture of each. top, left: int (k,), the first pixel of its window, which may lie outside.
    right: float32 (k, 1, side), and down: (k, side, 1), how far the middles of the pixels lie from its own.
    """

    at: Indices
    top: Indices
    left: Indices
    right: Singles
    down: Singles


def _pieces(at: Indices, top: Singles, left: Singles, reach: float, shape: Shape) -> _Pieces:
    """top, left: (k, 1, 1), shares of the sides. reach: the pixels from a middle beyond which nothing is seen."""
    far = int(np.ceil(reach))
    first_row, down = _window(top[:, 0, 0] * shape[0], far)
    first_column, right = _window(left[:, 0, 0] * shape[1], far)
    return _Pieces(at, first_row, first_column, right[:, None, :], down[:, :, None])


def _window(middles: Singles, far: int) -> tuple[Indices, Singles]:
    """The first of 2 far + 1 pixels around each middle (k,), and how far from it their middles lie, (k, 2 far + 1)."""
    first = np.floor(middles) - np.float32(far)
    away = first[:, None] + (np.arange(2 * far + 1, dtype=np.float32) + np.float32(0.5)) - middles[:, None]
    return first.astype(np.int64), away


def _length(right: Singles, down: Singles) -> Singles:
    """What np.hypot gives, in a quarter of its time, where squares cannot overflow."""
    return np.sqrt(right * right + down * down)


def _laid(pieces: _Pieces, covers: Singles, pictures: int, shape: Shape) -> NDArray[np.uint8]:
    """Layers of pieces (layers, k, side, side), covers in [0, 1], on empty pictures: uint8 (layers, n, h, w).

    In a layer the thicker lies over the thinner.
    """
    found = np.zeros((len(covers), pictures, *shape), np.uint8)
    side, (height, width) = covers.shape[2], shape
    places = zip(
        pieces.at.tolist(), pieces.top.tolist(), pieces.left.tolist(), _as_cover(covers).swapaxes(0, 1), strict=True
    )
    for at, top, left, cover in places:
        rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
        there = found[:, at, rows, columns]
        seen = cover[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        np.maximum(there, seen, out=there)
    return found


def _pixels(shape: Shape) -> tuple[Floats, Floats]:
    """The middles of the pixels, right (1, 1, w) and down (1, h, 1)."""
    right, down = (np.arange(side, dtype=np.float64) + 0.5 for side in (shape[1], shape[0]))
    return right[None, None, :], down[None, :, None]


def _as_cover(cover: Singles) -> NDArray[np.uint8]:
    return (255 * cover + np.float32(0.5)).astype(np.uint8)
