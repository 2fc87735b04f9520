"""Corruptions by exposure and stain: every pixel's colour changes by a rule of its own picture."""

from __future__ import annotations

import cv2
import numpy as np

from hemascope.corrupt.fields import levels
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

_LEVELS = np.arange(256.0)


def brightness(images: Images, rows: Rows, draw: Draw, *, factor: float) -> Images:
    """Every level times the factor."""
    return levels(_LEVELS * factor)[images]


def contrast(images: Images, rows: Rows, draw: Draw, *, factor: float) -> Images:
    """Every level's distance from the picture's mean luma (ITU-R 601) times the factor."""
    middles = np.array([np.rint(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()) for image in images])
    tables = levels(middles[:, None] + factor * (_LEVELS[None, :] - middles[:, None]))
    return np.stack([cv2.LUT(image, table) for image, table in zip(images, tables, strict=True)])


def saturate(images: Images, rows: Rows, draw: Draw, *, added: float) -> Images:
    """`added` to the saturation of every pixel in HSV, which runs from 0 to 1; grey counts as a red there."""
    pixels = images.astype(np.float32)
    value = pixels.max(axis=-1, keepdims=True)
    chroma = value - pixels.min(axis=-1, keepdims=True)
    wanted = np.minimum(chroma + np.float32(added) * value, value)
    # Grey has no hue of its own; HSV gives it that of red, so its green and blue fall and its red stays.
    distance = np.where(chroma > 0, value - pixels, np.array([0, 1, 1], np.float32))
    return levels(value - distance * (wanted / np.maximum(chroma, 1)))
