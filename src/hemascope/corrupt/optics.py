"""Corruptions by lenses and movement: blurs and doubled or split pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt.fields import disc, reference_scale
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw


def defocus_blur(images: Images, rows: Rows, draw: Draw, *, radius: float) -> Images:
    """Spread every point over a disc. radius: in pixels of a 224-pixel picture."""
    kernel = disc(radius * reference_scale(images))
    return np.stack([cv2.filter2D(image, -1, kernel) for image in images])


def motion_blur(images: Images, rows: Rows, draw: Draw, *, radius: float, sigma: float) -> Images:
    """A streak to one side that fades like a Gaussian, within 45 degrees of the horizontal.

    radius: half the streak's length; sigma: of the Gaussian; both in pixels of a 224-pixel picture.
    """
    angles = np.deg2rad(45.0) * draw.signed(rows, "angle")[:, 0]
    kernels, anchor = _streaks(angles, radius, sigma, reference_scale(images))
    return np.stack(
        [
            cv2.filter2D(image, -1, kernel, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
            for image, kernel in zip(images, kernels, strict=True)
        ]
    )


def _streaks(
    angles: NDArray[np.float64], radius: float, sigma: float, scale: float
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Filters (n, height, width) of one-sided streaks, and the pixel (x, y) of them where the streaks begin.

    The streak is 2 * radius + 1 points in a row, as ImageMagick has it, each spread over the four pixels it lies
    between; in pictures larger than 224 pixels the points are split up, so that no gaps show.
    """
    parts = max(1, int(np.ceil(scale)))
    along = np.arange((2 * int(np.ceil(radius)) + 1) * parts) / parts
    along += 0.5 / parts - 0.5
    weights = np.exp(-0.5 * (along / sigma) ** 2)
    weights /= weights.sum()
    reach = scale * np.abs(along).max()
    anchor = (1 + int(np.ceil(0.5 * (parts > 1) * scale)), 1 + int(np.ceil(reach * np.sin(np.pi / 4))))
    width, height = anchor[0] + int(np.ceil(reach)) + 2, 2 * anchor[1] + 1
    x = anchor[0] + scale * along[None, :] * np.cos(angles)[:, None]
    y = anchor[1] + scale * along[None, :] * np.sin(angles)[:, None]
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    row = np.arange(len(angles))[:, None]
    kernels = np.zeros(len(angles) * height * width)
    for right, low in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = np.abs(1 - right - (x - left)) * np.abs(1 - low - (y - top)) * weights
        place = (row * height + top + low) * width + left + right
        kernels += np.bincount(place.ravel(), share.ravel(), len(kernels))
    return kernels.reshape(-1, height, width).astype(np.float32), anchor
