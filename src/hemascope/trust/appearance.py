"""What slides and cameras differ in, as a few numbers of each picture: colour, sharpness, noise and scale."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.audit.features import picture_statistics
from hemascope.data.cells import UNKNOWN_LABEL, Cells, Images, Pictures
from hemascope.errors import InputError
from hemascope.features import SIDE
from hemascope.features.stain import compartments, stained
from hemascope.resize import resize

Floats = NDArray[np.float64]

APPEARANCE = (
    "background_lightness",
    "background_blueness",
    "background_greenness",
    "brightness",
    "contrast",
    "saturation",
    "cell_density",
    "cell_blueness",
    "sharpness",
    "noise",
    "blocks",
    "cell_diameter",
    "red_cell_diameter",
)

_STEP = 256
_CACHED = 8
_BLOCK = 8
_LARGEST_PALLOR = 0.03
"""The share of the picture up to which a gap in a red cell is its pale middle, and not the glass between cells."""
_RED_CELL_DENSITY = 0.08
_SMALLEST_RED_CELL = 0.05
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
_ROUND = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_GLASS = 0.95


def appearance(images: Pictures) -> dict[str, Floats]:
    """What each picture looks like, by the names of APPEARANCE: float64 (n,) each, NaN where it cannot be told.

    images: uint8 (n, height, width, 3), RGB, or pictures that are read by row; they are described at 96 pixels.
    background_lightness: the grey level of the empty slide, 0 to 255;
    background_blueness, background_greenness: its ln(blue / red), and ln(green / root of red times blue);
    brightness, contrast, saturation: mean and deviation of the grey levels, mean saturation, as in the audit;
    cell_density: the mean optical density of the cell in red, where the azure dye absorbs, over the empty slide;
    cell_blueness: how much less the cell absorbs of green than of red, in optical density: azure against eosin;
    sharpness: ln of the steepest slope (99th percentile) per deviation of the grey levels;
    noise: ln of the deviation in the smoothest quarter of the picture, in grey levels: Immerkaer, Fast Noise Variance
    Estimation, 1996;
    blocks: ln of the mean step across the borders of blocks of 8 pixels over that elsewhere, as JPEG leaves it;
    cell_diameter: ln of the root of the cell's area, as a share of the side;
    red_cell_diameter: ln of the widest circle inside a red cell, as a share of the side.
    Raises InputError for pictures of another shape or type.
    """
    shape = images.shape
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape[1:]:
        raise InputError(f"pictures have the shape {shape}, expected uint8 (n, height, width, 3) in RGB.")
    found = np.full((shape[0], len(APPEARANCE)), np.nan)
    for start in range(0, shape[0], _STEP):
        part = np.asarray(images[start : start + _STEP])
        if part.dtype != np.uint8:
            raise InputError(f"pictures are {part.dtype}, expected uint8 (n, height, width, 3) in RGB.")
        sized = part if shape[1:3] == (SIDE, SIDE) else resize(part, SIDE)
        values = {"blocks": _blocks(part), **_of_pictures(sized), **_of_cells(sized)}
        found[start : start + _STEP] = np.stack([values[name] for name in APPEARANCE], axis=1)
    return {name: np.ascontiguousarray(found[:, column]) for column, name in enumerate(APPEARANCE)}


def _of_pictures(images: Images) -> dict[str, Floats]:
    """What is measured without looking for a cell."""
    count = len(images)
    nobody = np.full(count, UNKNOWN_LABEL, np.int64)
    statistics = picture_statistics(Cells(images, nobody, (), np.arange(count).astype(str)), threads=1)
    sharpness, noise = np.empty(count), np.empty(count)
    for row, image in enumerate(images):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        slope = cv2.magnitude(*(cv2.Sobel(grey, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1))))
        rough = np.abs(cv2.filter2D(grey, cv2.CV_32F, _NOISE_KERNEL)[1:-1, 1:-1])
        sharpness[row] = np.log(np.quantile(slope[1:-1, 1:-1], 0.99) + 0.01)
        noise[row] = np.log(np.quantile(rough, 0.25) + 0.1)
    return {
        "brightness": statistics["mean"].astype(np.float64),
        "contrast": statistics["contrast"].astype(np.float64),
        "saturation": statistics["saturation"].astype(np.float64),
        "sharpness": sharpness - np.log(statistics["contrast"] + 0.01),
        "noise": noise,
    }


def _of_cells(images: Images) -> dict[str, Floats]:
    """What is measured of the empty slide, of the cell in the middle and of the red cells around it."""
    # Means of 3 x 3 pixels, as noise would make the brightest places brighter.
    sample = images.reshape(len(images), SIDE // 3, 3, SIDE // 3, 3, 3).mean((2, 4)).reshape(len(images), -1, 3)
    place = int(_GLASS * sample.shape[1])
    glass = np.partition(sample, place, axis=1)[:, place]
    red, green, blue = np.log(glass + 1).T
    density, blueness, diameter, red_cells = (np.full(len(images), np.nan) for _ in range(4))
    for start in range(0, len(images), _CACHED):
        level = stained(images[start : start + _CACHED])
        nucleus, cytoplasm = compartments(level)
        for row, cell in enumerate(((nucleus + cytoplasm) > 0).astype(np.uint8)):
            if not cell.any():
                continue
            at, own = start + row, _middle(cell)
            diameter[at] = np.log(own.mean()) / 2
            density[at] = level[row, 0][own].mean()
            blueness[at] = -level[row, 1][own].mean()
            red_cells[at] = _red_cell(level[row], own)
    return {
        "background_lightness": glass @ (0.299, 0.587, 0.114),
        "background_blueness": blue - red,
        "background_greenness": green - (red + blue) / 2,
        "cell_density": density,
        "cell_blueness": blueness,
        "cell_diameter": diameter,
        "red_cell_diameter": red_cells,
    }


def _middle(mask: Images) -> NDArray[np.bool_]:
    """The part of a mask that holds its pixel nearest to the middle."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _ROUND)
    kept = np.asarray(opened if opened.any() else mask, np.uint8)
    labels = cv2.connectedComponents(kept, connectivity=4)[1]
    down, across = np.nonzero(kept)
    middle = (np.array(kept.shape) - 1) / 2
    nearest = np.hypot(down - middle[0], across - middle[1]).argmin()
    return np.asarray(labels == labels[down[nearest], across[nearest]])


def _red_cell(level: NDArray[Any], own: NDArray[np.bool_]) -> float:
    """ln of the diameter of the widest circle in the red cells, as a share of the side; NaN where there are none."""
    side = level.shape[-1]
    green = level[0] + level[1]
    around = cv2.dilate(own.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    mask = ((green > _RED_CELL_DENSITY) & ~around).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    left, top, width, height, area = stats.T
    inside = (left > 0) & (top > 0) & (left + width < side) & (top + height < side)
    filled = inside & (area < _LARGEST_PALLOR * side * side)
    filled[np.unique(labels[around])] = False
    mask[filled[labels]] = 1
    if mask.all():
        return np.nan
    # What lies beyond the border is unknown: it counts as red cell, so that one that is cut keeps its width.
    widest = 2 * float(cv2.distanceTransform(mask, cv2.DIST_L2, 5).max()) / side
    return float(np.log(widest)) if widest > _SMALLEST_RED_CELL else np.nan


def _blocks(images: Images) -> Floats:
    """ln of the mean step at the borders of 8-pixel blocks over that elsewhere, along both axes."""
    grey = images.astype(np.int16).sum(3, dtype=np.int16)
    steps = []
    for axis in (1, 2):
        step = np.abs(np.diff(grey, axis=axis)).mean(3 - axis, dtype=np.float64)
        border = np.arange(1, step.shape[1] + 1) % _BLOCK == 0
        if border.any():
            steps.append(np.log((step[:, border].mean(1) + 0.1) / (step[:, ~border].mean(1) + 0.1)))
    return np.asarray(np.mean(steps, axis=0)) if steps else np.full(len(images), np.nan)
