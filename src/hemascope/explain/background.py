"""What a picture shows where no stained cell is: the colour to cover with, and the mask of the cell in the middle."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images
from hemascope.errors import InputError
from hemascope.features import SIDE
from hemascope.features.form import central_cells
from hemascope.features.stain import compartments, stained
from hemascope.resize import resize

BRIGHTEST = 0.1
"""The share of a picture's pixels that pass for glass."""
# Red cells that lie against the cell hang on it by a neck; this share of the root of its area is wider than most necks.
_NECK = 0.38
_GAP = 5


def background_colours(images: Images) -> Images:
    """The colour of the empty glass of each picture, uint8 (n, 3): the median of its brightest tenth.

    images: uint8 (n, height, width, 3). Raises InputError for another shape.
    """
    checked(images)
    pixels = images.reshape(len(images), -1, 3)
    kept = max(1, round(BRIGHTEST * pixels.shape[1]))
    light = pixels.sum(2, dtype=np.int32)
    brightest = np.argpartition(light, -kept, axis=1)[:, -kept:]
    chosen = np.take_along_axis(pixels, brightest[:, :, None], axis=1)
    return np.asarray(np.floor(np.median(chosen, axis=1) + 0.5), np.uint8)


def cell_mask(images: Images) -> NDArray[np.bool_]:
    """Where the cell in the middle of each picture is, nucleus and cytoplasm, by its stain: bool (n, height, width).

    images: uint8 (n, height, width, 3). Nothing is True where no nucleus, and no other dark part, is found near the
    middle. Red cells that lie against the cell are cut off at their necks. Raises InputError for another shape.
    """
    checked(images)
    height, width = images.shape[1:3]
    if not len(images):
        return np.zeros((0, height, width), bool)
    level = stained(resize(images, SIDE))
    nuclei, cells = central_cells(*compartments(level))
    masks = [_trimmed(nucleus, cell) for nucleus, cell in zip(nuclei, cells, strict=True)]
    if (height, width) != (SIDE, SIDE):
        sized = [cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
        masks = [np.asarray(mask, np.uint8) for mask in sized]
    return np.array(masks, bool).reshape(len(images), height, width)


def _trimmed(nucleus: Images, cell: Images) -> Images:
    """The cell with its pale parts filled in and what hangs on by a neck cut off; uint8 of 0 and 1."""
    if not nucleus.any():
        return nucleus
    whole = _filled(np.asarray(cv2.morphologyEx(cell, cv2.MORPH_CLOSE, _disc(_GAP)), np.uint8))
    neck = int(_NECK * np.sqrt(whole.sum())) // 2 * 2 + 1
    # Worn down by the width of a neck, what hangs on falls apart; what the nucleus lies in grows back.
    core = np.asarray(cv2.erode(whole, _disc(neck)), np.uint8)
    _, labels = cv2.connectedComponents(core, connectivity=4)
    hit = np.unique(labels[(nucleus > 0) & (core > 0)])
    kept = np.isin(labels, hit).astype(np.uint8) if len(hit) else core * 0
    grown = np.asarray(cv2.dilate(kept, _disc(neck)), np.uint8) & whole
    return _filled(np.maximum(grown, nucleus))


def _filled(mask: Images) -> Images:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED), np.uint8)


def _disc(side: int) -> Images:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def checked(images: Images) -> None:
    """Raise InputError when these are not pictures uint8 (n, height, width, 3)."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise InputError(
            f"pictures of shape {images.shape} and type {images.dtype} were given, where uint8 (n, height, width, 3) "
            "is expected; stack them as RGB pictures."
        )
