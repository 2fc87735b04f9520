"""Families of what optics, cameras and files take from a picture: blur, sharpness, noise, JPEG, coarse pixels."""

from __future__ import annotations

import numpy as np

from hemascope.augment.plan import Filter, Floats, Impulse, Indices, Jpeg, Noise, Pixelate, Plan, Sharpen
from hemascope.draws import Draw

Shape = tuple[int, int]

_LEVELS = np.arange(256, dtype=np.float64)


def sharpness(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    value = draw.signed(rows, "factor")[:, 0] * magnitude
    return [Sharpen(np.arange(len(rows)), 1 + np.where(value > 0, 3 * value, value), 0.0)]


def gaussian_blur(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    largest = 0.025 * min(shape)
    sigma = np.maximum(draw.uniform(rows, "sigma") * magnitude * largest, 1e-3)[:, :, None]
    x, y = _offsets(3 * magnitude * largest, shape)
    return [_filter(np.exp(-(x**2 + y**2) / (2 * sigma**2)))]


def motion_blur(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    longest = 0.12 * min(shape)
    length, angle = (values[:, None, None] for values in draw.uniform(rows, "motion", 2).T)
    length, angle = length * magnitude * longest, angle * np.pi
    x, y = _offsets((1 + magnitude * longest) / 2, shape)
    along = np.abs(x * np.cos(angle) + y * np.sin(angle))
    across = np.abs(y * np.cos(angle) - x * np.sin(angle))
    return [_filter(np.clip((length + 1) / 2 - along, 0, 1) * np.clip(1 - across, 0, 1))]


def defocus_blur(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """A point becomes a disc, as in front of a lens that is out of focus."""
    largest = 0.035 * min(shape)
    radius = draw.uniform(rows, "radius")[:, :, None] * magnitude * largest
    x, y = _offsets(magnitude * largest, shape)
    return [_filter(np.clip(radius + 0.5 - np.hypot(x, y), 0, 1))]


def gaussian_noise(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    return [_noise(rows, draw, magnitude * 40.0 * np.ones(256))]


def shot_noise(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Of counted light: the variance grows with the brightness (the normal limit of Poisson's distribution)."""
    return [_noise(rows, draw, magnitude * 40.0 * (_LEVELS / 255) ** 0.5)]


def speckle_noise(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Of an uneven gain: the deviation grows with the brightness."""
    return [_noise(rows, draw, magnitude * 0.3 * _LEVELS)]


def impulse_noise(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Salt and pepper: single pixels black or white."""
    share = draw.uniform(rows, "strength")[:, 0] * magnitude * 0.08
    return [Impulse(np.arange(len(rows)), draw.states(rows, "pixels"), share)]


def jpeg(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    loss = draw.uniform(rows, "quality")[:, 0] * magnitude
    return [Jpeg(np.arange(len(rows)), np.round(95 - 85 * loss).astype(np.int64))]


def pixelate(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    factor = 1 + 3 * draw.uniform(rows, "factor") * magnitude
    return [Pixelate(np.arange(len(rows)), np.maximum(np.round(np.array(shape) / factor), 1).astype(np.int64))]


def _noise(rows: Indices, draw: Draw, deviations: Floats) -> Noise:
    strength = draw.uniform(rows, "strength")
    return Noise(np.arange(len(rows)), draw.states(rows, "pixels"), strength * deviations)


def _offsets(reach: float, shape: Shape) -> tuple[Floats, Floats]:
    """Where a kernel's pixels lie from its middle, right (1, 1, side) and down (1, side, 1).

    The kernel depends on the largest `reach` of a family, not on the batch: a picture comes out the same in any.
    """
    radius = min(max(int(np.ceil(reach)), 1), min(shape) - 1)
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    return offsets[None, None, :], offsets[None, :, None]


def _filter(kernels: Floats) -> Filter:
    return Filter(np.arange(len(kernels)), kernels / kernels.sum(axis=(1, 2), keepdims=True))
