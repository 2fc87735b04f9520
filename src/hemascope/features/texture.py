"""Texture: what a turn of the cell leaves of its densities, at four scales, in rings and in nucleus and cytoplasm."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hemascope.features.stain import Floats, filtered, radius

_LEVELS = 4
_RINGS = (0.25, 0.5, 0.75, 1.0)


def texture(level: Floats, nucleus: Floats, cytoplasm: Floats) -> Floats:
    """Four invariant measures of each density at four scales, each half as fine as the one before: float32 (n, 386).

    level: float32 (n, 3, side, side). nucleus, cytoplasm: masks (n, side, side). The measures do not change when the
    cell is turned or mirrored: the density, the size of its gradient and the two eigenvalues of its Hessian, which tell
    blobs, ridges and flat areas apart. Each is averaged over four rings around the centre, and over nucleus and
    cytoplasm, with its standard deviation there. Freeman and Adelson, The design and use of steerable filters, 1991,
    and Schmid and Mohr, Local grayvalue invariants for image retrieval, 1997, for such invariants.
    """
    count = len(level)
    found = [np.stack([nucleus.mean((1, 2)), cytoplasm.mean((1, 2))], 1)]
    masks = np.stack([nucleus, cytoplasm], 1)
    for scale in range(_LEVELS):
        if scale:
            level, masks = _halved(level), _halved(masks)
        measures = _invariants(level).reshape(count, -1, (level.shape[2] - 2) * (level.shape[3] - 2))
        inner = masks[:, :, 1:-1, 1:-1].reshape(count, 2, -1)
        weights = inner / (inner.sum(2, keepdims=True) + 1)
        mean = measures @ weights.transpose(0, 2, 1)
        square = (measures * measures) @ weights.transpose(0, 2, 1)
        deviation = np.sqrt(np.maximum(square - mean * mean, 0))
        ring = measures @ _rings(level.shape[2], level.shape[3])
        found.append(np.concatenate([ring, mean, deviation], 2).reshape(count, -1))
    return np.concatenate(found, 1)


def _halved(level: Floats) -> Floats:
    # An even number of taps lies evenly about each pair of pixels, so that a mirrored picture gives a mirrored half.
    return filtered(level, (1, 5, 10, 10, 5, 1), 2)


def _invariants(level: Floats) -> Floats:
    """(n, channels, height, width) -> (n, 4 channels, height - 2, width - 2): what a turn of the picture leaves."""
    here, up, down = level[:, :, 1:-1, 1:-1], level[:, :, :-2, 1:-1], level[:, :, 2:, 1:-1]
    left, right = level[:, :, 1:-1, :-2], level[:, :, 1:-1, 2:]
    gradient = 0.5 * np.sqrt((right - left) ** 2 + (down - up) ** 2)
    across, along = right + left - 2 * here, up + down - 2 * here
    twist = 0.25 * (level[:, :, 2:, 2:] + level[:, :, :-2, :-2] - level[:, :, 2:, :-2] - level[:, :, :-2, 2:])
    half = 0.5 * (across + along)
    gap = np.sqrt(0.25 * (across - along) ** 2 + twist**2)
    return np.concatenate([here, gradient, half + gap, half - gap], 1)


@lru_cache(maxsize=16)
def _rings(height: int, width: int) -> Floats:
    """(interior pixels, rings): the weights that average over each ring around the centre."""
    ring = np.searchsorted(_RINGS, radius(height, width)[1:-1, 1:-1].reshape(-1), side="right")
    weights = (ring[:, None] == np.arange(len(_RINGS))).astype(np.float32)
    return np.asarray(weights / weights.sum(0, keepdims=True), np.float32)
