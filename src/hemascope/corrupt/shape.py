"""Corruptions that move parts of the picture: elastic bending and a seam between two halves."""

from __future__ import annotations

import cv2
import numpy as np

from hemascope.corrupt.fields import levels, pixel_grid, side, smooth_noise, soft_step
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw


def elastic(images: Images, rows: Rows, draw: Draw, *, reach: float) -> Images:
    """Bent as a smear that dried unevenly. reach: of the strongest shifts, as a share of the side."""
    height, width = images.shape[1:3]
    x, y = pixel_grid(height, width)
    far = np.float32(reach * side(images))
    across = x + far * smooth_noise(draw, rows, "across", (height, width), 5)
    down = y + far * smooth_noise(draw, rows, "down", (height, width), 5)
    return np.stack(
        [
            cv2.remap(image, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            for image, to_x, to_y in zip(images, across, down, strict=True)
        ]
    )


def stitching(images: Images, rows: Rows, draw: Draw, *, shift: float, step: float) -> Images:
    """Two tiles of a scan that do not meet: beyond a seam the picture is shifted along it and brighter or darker.

    shift: as a share of the side. step: of the brightness, as a share.
    """
    height, width = images.shape[1:3]
    x, y = pixel_grid(height, width)
    angles = 2 * np.pi * draw.uniform(rows, "angle")[:, 0]
    aside = 0.15 * side(images) * draw.signed(rows, "aside")[:, 0]
    gains = 1 + step * np.where(draw.uniform(rows, "sign")[:, 0] < 0.5, -1.0, 1.0)
    result = np.empty_like(images)
    for number, image in enumerate(images):
        along, across = float(np.cos(angles[number])), float(np.sin(angles[number]))
        far = shift * side(images)
        matrix = np.array([[1.0, 0.0, far * along], [0.0, 1.0, far * across]])
        moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        beyond = (y - (height - 1) / 2) * along - (x - (width - 1) / 2) * across - aside[number]
        share = soft_step(beyond)[..., None]
        result[number] = levels(image + (np.float32(gains[number]) * moved - image) * share)
    return result
