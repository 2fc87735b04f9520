"""What a stain does to light: optical density over the glass behind the cell, and the parts that take the stain."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images

Floats = NDArray[np.float32]

# What passes for stained: below these densities there is only glass, plasma or a red cell.
_NUCLEUS_DENSITY = 0.35
_CYTOPLASM_DENSITY = 0.22
_LIGHT: Floats = np.log(np.arange(256, dtype=np.float32) + 1)
_SMOOTH: Floats = np.array([0.25, 0.5, 0.25], np.float32)


def stained(images: Images) -> Floats:
    """Density of pictures uint8 (n, side, side, 3), slightly smoothed: float32 (n, 3, side, side).

    The channels are the density in red, where nuclei are dark; what green has more, as eosin; the density in blue.
    """
    count = len(images)
    sample = images[:, 1::3, 1::3].reshape(count, -1, 3)
    glass = np.partition(sample, int(0.95 * sample.shape[1]), axis=1)[:, int(0.95 * sample.shape[1])]
    found = np.empty(images.shape, np.float32)
    # Whole rows at a time: over three channels alone a loop takes five times as long.
    clear = np.tile(_LIGHT[glass], (1, images.shape[2]))
    for image, row, density in zip(images, clear, found, strict=True):
        flat = density.reshape(len(image), -1)
        np.subtract(row, cv2.LUT(image.reshape(len(image), -1), _LIGHT), out=flat)
        np.maximum(flat, 0, out=flat)
        density[..., 1] -= density[..., 0]
        cv2.sepFilter2D(density, -1, _SMOOTH, _SMOOTH, density, borderType=cv2.BORDER_REPLICATE)
    return found.transpose(0, 3, 1, 2)


def compartments(level: Floats) -> tuple[Floats, Floats]:
    """Two masks (n, side, side) of 0 and 1, from what `stained` gives: nucleus and cytoplasm."""
    red = level[:, 0]
    nucleus = red > np.maximum(_otsu(red), _NUCLEUS_DENSITY)[:, None, None]
    cytoplasm = (red + 0.6 * level[:, 1] > _CYTOPLASM_DENSITY) & ~nucleus & (radius(*red.shape[1:]) < 1)
    return nucleus.astype(np.float32), cytoplasm.astype(np.float32)


def _otsu(values: Floats, bins: int = 64, top: float = 3.0) -> NDArray[np.float64]:
    """The threshold (n,) that parts each picture's values best in two. Otsu, 1979."""
    count = len(values)
    place = np.minimum(values[:, 1::3, 1::3].reshape(count, -1) * (bins / top), bins - 1).astype(np.int64)
    place += bins * np.arange(count)[:, None]
    histogram = np.bincount(place.reshape(-1), minlength=bins * count).reshape(count, bins).astype(np.float64)
    below, total = histogram.cumsum(1), histogram.sum(1, keepdims=True)
    moment = (histogram * np.arange(bins)).cumsum(1)
    between = (moment[:, -1:] * below / total - moment) ** 2 / np.maximum(below * (total - below), 1)
    return np.asarray((between.argmax(1) + 1) * (top / bins))


def filtered(level: Floats, taps: tuple[int, ...], step: int) -> Floats:
    """Binomial smoothing of the last two axes, edges repeated, keeping every step-th place."""
    rows, columns = (_binomial(side, taps, step) for side in level.shape[2:])
    return np.asarray(rows @ (level @ columns.T))


@lru_cache(maxsize=32)
def _binomial(side: int, taps: tuple[int, ...], step: int) -> Floats:
    weights = np.zeros((side, side), np.float32)
    for offset, tap in enumerate(taps, -((len(taps) - 1) // 2)):
        np.add.at(weights, (np.arange(side), np.clip(np.arange(side) + offset, 0, side - 1)), tap / sum(taps))
    return weights[::step]


@lru_cache(maxsize=16)
def radius(height: int, width: int) -> NDArray[Any]:
    """Each pixel's distance from the centre, 1 in the middle of the nearest edge."""
    y, x = (2 * np.arange(side) / max(side - 1, 1) - 1 for side in (height, width))
    return np.hypot(y[:, None], x[None, :])
