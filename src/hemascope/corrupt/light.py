"""Corruptions by the light on its way: fog, dark corners, speckle and a tint that differs across the picture."""

from __future__ import annotations

import numpy as np

from hemascope.corrupt.fields import levels, pixel_grid, rise, side, smooth_noise
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

_FOG_LEVEL = 232.0


def fog(images: Images, rows: Rows, draw: Draw, *, density: float) -> Images:
    """A pale veil with clouds in it, as of a wet or dirty lens. density: the mean share of the veil, 0 to 1."""
    clouds = smooth_noise(draw, rows, "clouds", images.shape[1:3], 2, 4)
    veil = np.clip(density * (1 + 0.6 * clouds), 0, 1)[..., None]
    return levels(images + (np.float32(_FOG_LEVEL) - images) * veil)


def vignetting(images: Images, rows: Rows, draw: Draw, *, loss: float) -> Images:
    """Light that falls off towards the corners, from a middle that lies somewhat aside. loss: in the far corner."""
    height, width = images.shape[1:3]
    x, y = pixel_grid(height, width)
    aside = (0.15 * draw.signed(rows, "middle", 2)).astype(np.float32)[:, :, None, None]
    across = (x - (width - 1) / 2) / (width / 2) - aside[:, 0]
    down = (y - (height - 1) / 2) / (height / 2) - aside[:, 1]
    light = 1 - np.float32(loss) * rise(np.hypot(across, down), 0.15, 1.5)
    return levels(images * light[..., None])


def speckled_illumination(images: Images, rows: Rows, draw: Draw, *, depth: float) -> Images:
    """Bright and dark specks of light that interferes with itself. depth: of the specks, as a power of e."""
    specks = smooth_noise(draw, rows, "specks", images.shape[1:3], 13, 2)
    return levels(images * np.exp(np.float32(depth) * specks)[..., None])


def uneven_tint(images: Images, rows: Rows, draw: Draw, *, slope: float) -> Images:
    """Each colour brighter towards a side of its own. slope: from the middle to the edge, as a power of e."""
    height, width = images.shape[1:3]
    x, y = pixel_grid(height, width)
    half = side(images) / 2
    angles = (2 * np.pi * draw.uniform(rows, "angle", 3)).astype(np.float32)[:, None, None, :]
    across = ((x - (width - 1) / 2) / half)[..., None] * np.cos(angles)
    down = ((y - (height - 1) / 2) / half)[..., None] * np.sin(angles)
    return levels(images * np.exp(np.float32(slope) * (across + down)))
