"""Form and colour as a haematologist names them: size, outline and lobes of nucleus and cell, and their colours."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images
from hemascope.features.stain import Floats, radius

OUTLINE = (
    "size",
    "roundness",
    "axis_ratio",
    "solidity",
    "thickness",
    "mean_thickness",
    "cores",
    "fullness",
    "spread",
)
FORM = (
    *(f"nucleus_{name}" for name in OUTLINE),
    *(f"cell_{name}" for name in OUTLINE),
    "nucleus_parts",
    "nucleus_share",
    "nucleus_eccentricity",
    "nucleus_off_centre",
)
_SMALL, _ROUND = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (3, 5))
_SMALLEST = 12
"""Pixels below which a stained part is dust."""
_SHARE = 0.08
"""The share of the largest part below which another is no lobe of the same nucleus."""
_CENTRAL = 0.75
"""How far from the centre a part may lie, where 1 is the nearest edge."""
_CORE = 0.6

_RED, _EOSIN, _BLUE = (0.0, 0.25, 8), (-0.2, 0.15, 6), (0.0, 0.2, 5)
"""Where the bins of a colour histogram begin, how wide they are in density, and how many there are."""


def colours(level: Floats) -> Floats:
    """How much of the disc around the centre has each colour: float32 (n, 88), square roots of shares.

    level: float32 (n, 3, side, side), what `stained` gives. Two joint histograms: density in red with eosin, and with
    density in blue. Square roots make their distance Hellinger's, so that rare colours count: Swain and Ballard, Color
    indexing, 1991, and Arandjelovic and Zisserman, Three things everyone should know, 2012.
    """
    count = len(level)
    disc = radius(*level.shape[2:]) < 1
    red, eosin, blue = (_bin(level[:, at][:, disc], *bins) for at, bins in enumerate((_RED, _EOSIN, _BLUE)))
    found = []
    for other, (_, _, bins) in ((eosin, _EOSIN), (blue, _BLUE)):
        total = _RED[2] * bins
        place = red * bins + other + total * np.arange(count)[:, None]
        found.append(np.bincount(place.reshape(-1), minlength=total * count).reshape(count, total))
    return np.asarray(np.sqrt(np.concatenate(found, 1) / disc.sum()), np.float32)


def _bin(values: Floats, start: float, width: float, bins: int) -> NDArray[np.int64]:
    return np.asarray(np.clip(np.floor((values - start) / width), 0, bins - 1), np.int64)


def form(nucleus: Floats, cytoplasm: Floats) -> Floats:
    """The numbers that FORM names, of each cell: float32 (n, len(FORM)); zeros where no nucleus is found.

    nucleus, cytoplasm: masks (n, side, side) of 0 and 1. Lengths are shares of the side or of the square root of the
    area, so that they do not depend on the resolution.
    """
    cores = nucleus.astype(np.uint8)
    cells = np.maximum(cores, cytoplasm.astype(np.uint8))
    return np.array([_form(core, cell) for core, cell in zip(cores, cells, strict=True)], np.float32).reshape(
        len(nucleus), len(FORM)
    )


def central_cells(nucleus: Floats, cytoplasm: Floats) -> tuple[Images, Images]:
    """Nucleus and whole cell in the middle of each picture, less what lies apart: two masks uint8 (n, side, side).

    nucleus, cytoplasm: masks (n, side, side) of 0 and 1, what `compartments` gives. The nucleus is a part of the cell.
    Both are empty where the nucleus has fewer pixels than dust.
    """
    cores = nucleus.astype(np.uint8)
    cells = np.maximum(cores, cytoplasm.astype(np.uint8))
    found = [_central_cell(core, cell)[:2] for core, cell in zip(cores, cells, strict=True)]
    both = np.array(found, np.uint8).reshape(len(cores), 2, *cores.shape[1:])
    return both[:, 0], both[:, 1]


def _central_cell(nucleus: Images, cell: Images) -> tuple[Images, Images, int]:
    """The nucleus and the cell in the middle of a picture, and in how many parts the nucleus lies: 0 without one."""
    nucleus, parts = _central_parts(nucleus)
    if nucleus.sum() < _SMALLEST:
        nothing = np.zeros_like(nucleus)
        return nothing, nothing, 0
    opened = np.maximum(cv2.morphologyEx(cell, cv2.MORPH_OPEN, _ROUND), nucleus).astype(np.uint8)
    return nucleus, _touching(opened, nucleus), parts


def _form(nucleus: Images, cell: Images) -> list[float]:
    nucleus, cell, parts = _central_cell(nucleus, cell)
    if not parts:
        return [0.0] * len(FORM)
    side = len(nucleus)
    areas = [float(mask.sum()) for mask in (nucleus, cell)]
    centres = [_centre(mask) for mask in (nucleus, cell)]
    away = float(np.hypot(*(centres[0] - centres[1]))) / np.sqrt(areas[1])
    off = float(np.hypot(*(centres[0] - (side - 1) / 2))) / side
    return [*_outline(nucleus), *_outline(cell), parts, areas[0] / areas[1], away, off]


def _central_parts(mask: Images) -> tuple[Images, int]:
    """The parts of a mask that may be lobes of the nucleus in the middle, and how many they are."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _SMALL)
    _, labels, stats, centres = cv2.connectedComponentsWithStats(opened, connectivity=4)
    away = np.hypot(*(2 * centres / (len(mask) - 1) - 1).T)
    areas = np.where(away < _CENTRAL, stats[:, cv2.CC_STAT_AREA], 0)
    areas[0] = 0
    kept = (areas > _SMALLEST) & (areas > _SHARE * areas.max(initial=0))
    return kept[labels].astype(np.uint8), int(kept.sum())


def _touching(mask: Images, other: Images) -> Images:
    """The parts of a mask that the other one touches."""
    count, labels = cv2.connectedComponents(mask, connectivity=4)
    hit = np.bincount(labels[other > 0], minlength=count) > 0
    hit[0] = False
    return np.asarray(hit[labels], np.uint8)


def _centre(mask: Images) -> NDArray[Any]:
    return np.array([place.mean() for place in np.nonzero(mask)])


def _outline(mask: Images) -> list[float]:
    """The numbers that OUTLINE names, of a mask that is not empty."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # A contour runs through the middle of the border's pixels: half of its length is the area outside it.
    around = sum(cv2.arcLength(contour, True) for contour in contours)
    filled = sum(cv2.contourArea(contour) for contour in contours) + around / 2 + 1
    hull = cv2.convexHull(np.concatenate(contours))
    convex = cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1
    moments = cv2.moments(mask, True)
    area = moments["m00"]
    across, along, twist = (moments[name] / area for name in ("mu20", "mu02", "mu11"))
    gap = np.sqrt((across - along) ** 2 / 4 + twist * twist)
    long, short = (across + along) / 2 + gap, (across + along) / 2 - gap
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    deepest = float(depth.max())
    cores = cv2.connectedComponents((depth > _CORE * deepest).astype(np.uint8))[0] - 1
    length = np.sqrt(area)
    return [
        length / len(mask),
        around / length,
        np.sqrt(max(short, 0) / max(long, 1e-6)),
        area / convex,
        deepest / length,
        float(depth.sum()) / area / length,
        cores,
        area / filled,
        np.sqrt((across + along) / area),
    ]
