"""Corruptions by exposure and stain: every pixel's colour changes by a rule of its own picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt.fields import clear_levels, darkest, levels
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

_LEVELS = np.arange(256.0)

# Optical density of (azure, eosin) in red, green and blue: the Giemsa vectors of G. Landini's colour deconvolution.
_GIEMSA = ((0.834750, 0.513556, 0.196330), (0.092789, 0.954111, 0.283111))

# Other laboratories: what the two dyes look like there, how strong each is, and the colour of the empty slide.
_LABORATORIES = (
    # blue: an alkaline buffer, much azure
    (((0.86, 0.48, 0.15), (0.25, 0.85, 0.45)), (1.25, 0.75), (236.0, 240.0, 246.0)),
    # red: an acid buffer, much eosin
    (((0.74, 0.62, 0.26), (0.06, 0.95, 0.42)), (0.85, 1.45), (250.0, 236.0, 232.0)),
    # purple: haematoxylin and eosin, vectors of Ruifrok and Johnston (2001)
    (((0.650, 0.704, 0.286), (0.072, 0.990, 0.105)), (1.05, 1.1), (243.0, 240.0, 245.0)),
    # green and brown: an old stain under a warm lamp
    (((0.82, 0.42, 0.40), (0.30, 0.72, 0.74)), (0.9, 0.95), (238.0, 236.0, 212.0)),
)


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
    lack = pixels * -1  # of each colour against the brightest: what HSV calls hue and saturation lies in it
    value = -darkest(lack)
    lack += value[..., None]
    chroma = value - darkest(pixels)
    wanted = np.minimum(chroma + np.float32(added) * value, value)
    # Grey has no hue of its own; HSV gives it that of red, so its green and blue fall and its red stays.
    lack[..., 1:][chroma == 0] = 1
    lack *= (wanted / np.maximum(chroma, 1))[..., None]
    return levels(value[..., None] - lack)


def stain_transfer(images: Images, rows: Rows, draw: Draw, *, share: float) -> Images:
    """The stain of another laboratory, in optical density: other dyes, other strengths, another empty slide.

    Densities against the picture's own empty slide are split into the two dyes of Giemsa and a rest, and put together
    again with the dyes of one of four laboratories. share: of the way there, 0 to 1.
    """
    laboratories = (draw.uniform(rows, "laboratory")[:, 0] * len(_LABORATORIES)).astype(np.int64)
    strengths = 1 + 0.15 * draw.signed(rows, "strength", 2)
    result = np.empty_like(images)
    for number, image in enumerate(images):
        dyes, strong, empty = _LABORATORIES[laboratories[number]]
        target = _basis(np.array(dyes), np.array(strong) * strengths[number])
        mixed = share * np.linalg.solve(_basis(np.array(_GIEMSA), np.ones(2)), target) + (1 - share) * np.eye(3)
        clear = clear_levels(image)
        tables = np.log(clear[None, :] / np.maximum(_LEVELS[:, None], 1)).astype(np.float32)
        density = cv2.transform(np.take_along_axis(tables, image.reshape(-1, 3), axis=0)[:, None], mixed.T)
        light = np.exp(-density[:, 0]) * (clear + share * (np.array(empty, np.float32) - clear))
        result[number] = levels(light.reshape(image.shape))
    return result


def _basis(dyes: NDArray[np.float64], strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two dyes as unit densities times their strengths, and a third density at right angles to both: (3, 3)."""
    unit = dyes / np.linalg.norm(dyes, axis=1, keepdims=True)
    rest = np.cross(unit[0], unit[1])
    return np.vstack([unit * strengths[:, None], rest / np.linalg.norm(rest)])
