"""Families that change colours and grey levels, each pixel on its own."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from hemascope.augment.plan import Colour, Density, Equalise, Floats, Indices, Mix, Plan, Table
from hemascope.draws import Draw

Shape = tuple[int, int]

LUMA = np.array([0.299, 0.587, 0.114])

STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical densities in red, green and blue of haematoxylin, eosin and what they leave (Ruifrok & Johnston, 2001)."""

_GREY = np.broadcast_to(LUMA, (3, 3))
_LEVELS = np.arange(256)
_ORDERS = np.array(list(permutations(range(3)))[1:])


def brightness(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    factor = _factors(draw.signed(rows, "factor") * magnitude, 2.0)
    return [_linear(factor * np.eye(3))]


def contrast(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    factor = _factors(draw.signed(rows, "factor") * magnitude, 2.0)
    return [_linear(factor * np.eye(3), (1 - factor) * _GREY)]


def saturation(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    factor = _factors(draw.signed(rows, "factor") * magnitude, 2.0)
    return [_linear(factor * np.eye(3) + (1 - factor) * _GREY)]


def hue(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Colours turned about the grey axis; their luma stays."""
    angle = (draw.signed(rows, "angle")[:, 0] * magnitude * np.deg2rad(30.0))[:, None, None]
    # Rodrigues' rotation about (1, 1, 1), then as much grey as keeps the luma of each colour.
    axis = np.full(3, 3**-0.5)
    cross = np.cross(np.eye(3), axis)
    turned = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
    return [_linear(turned + (LUMA - LUMA @ turned)[:, None, :])]


def channel_shift(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    offsets = draw.signed(rows, "channels", 3) * magnitude * 40.0
    return [_linear(np.broadcast_to(np.eye(3), (len(rows), 3, 3)), offsets=offsets)]


def channel_shuffle(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    order = _ORDERS[(draw.uniform(rows, "order")[:, 0] * len(_ORDERS)).astype(np.int64)]
    return [_linear((1 - magnitude) * np.eye(3) + magnitude * np.eye(3)[order])]


def white_balance(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Red and blue gained or damped against green, as by a lamp of another colour."""
    gains = np.ones((len(rows), 3))
    gains[:, [0, 2]] += draw.signed(rows, "gains", 2) * magnitude * 0.2
    return [_linear(gains[:, :, None] * np.eye(3))]


def grey(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    mixed = (1 - magnitude) * np.eye(3) + magnitude * _GREY
    return [_linear(np.broadcast_to(mixed, (len(rows), 3, 3)))]


def jitter(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Brightness, contrast, saturation and the gain of each channel, as a light source and a camera vary them."""
    values = draw.signed(rows, "jitter", 6) * magnitude
    brightness, contrast, saturation = (_factors(values[:, [column]], 2.0) for column in range(3))
    gained = np.exp(values[:, 3:] * np.log(1.3))[:, :, None] * brightness * np.eye(3)
    blend = saturation * np.eye(3) + (1 - saturation) * _GREY
    return [_linear(blend @ (contrast * gained), blend @ ((1 - contrast) * _GREY @ gained))]


def stain(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """More or less of each stain, of slightly other stains: densities are unmixed, scaled and mixed again.

    As Tellez et al. (2018) augment; what does not absorb light stays white.
    """
    values = draw.signed(rows, "stains", 12) * magnitude
    amounts = np.exp(0.5 * values[:, :3])
    vectors = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    moved = np.maximum(vectors + 0.22 * values[:, 3:].reshape(-1, 3, 3), 0.0)
    moved /= np.maximum(np.linalg.norm(moved, axis=2, keepdims=True), 1e-6)
    unmix = np.linalg.inv(vectors.T)
    return [Density(np.arange(len(rows)), moved.swapaxes(1, 2) @ (amounts[:, :, None] * unmix))]


def solarise(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    threshold = 255 * (1 - draw.uniform(rows, "threshold") * magnitude)
    return [_tables(np.where(threshold < _LEVELS, 255 - _LEVELS, _LEVELS))]


def posterise(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    cut = (draw.uniform(rows, "bits") * (round(4 * magnitude) + 1)).astype(np.int64)
    # The middle of the levels that become one, so that the picture as a whole is not darkened.
    return [_tables((_LEVELS >> cut << cut) + (1 << cut) // 2)]


def equalise(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    share = draw.uniform(rows, "share") * magnitude
    where = np.arange(len(rows))
    return [Mix(where, np.concatenate([1 - share, share], 1), [Equalise(where)])]


def _factors(values: Floats, largest: float) -> Floats:
    """(n, 1) numbers in [-1, 1] as factors between 1 / largest and largest: (n, 1, 1)."""
    return np.asarray(largest ** values[:, :, None])


def _linear(matrices: Floats, means: Floats | None = None, offsets: Floats | None = None) -> Colour:
    count = len(matrices)
    return Colour(
        np.arange(count),
        matrices,
        np.zeros((count, 3, 3)) if means is None else means,
        np.zeros((count, 3)) if offsets is None else offsets,
    )


def _tables(levels: NDArray[np.int64]) -> Table:
    return Table(np.arange(len(levels)), levels.astype(np.uint8))
