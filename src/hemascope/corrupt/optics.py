"""Corruptions by lenses and movement: blurs and doubled or split pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt.fields import disc, levels, pixel_grid, reference_scale, rise, side, smooth_noise
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw


def defocus_blur(images: Images, rows: Rows, draw: Draw, *, radius: float) -> Images:
    """Spread every point over a disc. radius: in pixels of a 224-pixel picture."""
    kernel = disc(radius, reference_scale(images))
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


def local_blur(images: Images, rows: Rows, draw: Draw, *, sigma: float, radius: float) -> Images:
    """One region out of focus, as under a drop or where the smear is thick, the rest sharp.

    sigma: of the blur; radius: of the region, whose edge is ragged and soft; both as shares of the side.
    """
    height, width = images.shape[1:3]
    length = side(images)
    x, y = pixel_grid(height, width)
    aside = (0.2 * length * draw.signed(rows, "place", 2)).astype(np.float32)[:, :, None, None]
    apart = np.hypot(x - (width - 1) / 2 - aside[:, 0], y - (height - 1) / 2 - aside[:, 1]) / (radius * length)
    apart += 0.35 * smooth_noise(draw, rows, "edge", (height, width), 4)
    shares = 1 - rise(apart, 0.8, 1.2)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), sigma * length) for image in images])
    return levels(images + (blurred - images.astype(np.float32)) * shares[..., None])


def double_image(images: Images, rows: Rows, draw: Draw, *, shift: float, weight: float) -> Images:
    """The picture and a paler ghost of it beside it, as from a reflection.

    shift: of the ghost, in any direction, as a share of the side. weight: of the ghost, 0 to 1/2.
    """
    height, width = images.shape[1:3]
    angles = 2 * np.pi * draw.uniform(rows, "angle")[:, 0]
    result = np.empty_like(images)
    for number, (image, angle) in enumerate(zip(images, angles.tolist(), strict=True)):
        x, y = shift * side(images) * np.cos(angle), shift * side(images) * np.sin(angle)
        matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
        ghost = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        result[number] = cv2.addWeighted(image, 1 - weight, ghost, weight, 0)
    return result


def chromatic_aberration(images: Images, rows: Rows, draw: Draw, *, shift: float) -> Images:
    """Coloured fringes: red and blue shifted apart and enlarged unequally about the middle.

    shift: of red and of blue, opposite ways, as a share of the side; at the edges the enlargement adds as much.
    """
    height, width = images.shape[1:3]
    angles = 2 * np.pi * draw.uniform(rows, "angle")[:, 0]
    result = images.copy()
    for image, angle in zip(result, angles, strict=True):
        for channel, sign in ((0, 1.0), (2, -1.0)):
            zoom, far = 1 + 2 * sign * shift, sign * shift * side(images)
            x = (width - 1) / 2 * (1 - zoom) + far * np.cos(angle)
            y = (height - 1) / 2 * (1 - zoom) + far * np.sin(angle)
            plane = np.ascontiguousarray(image[..., channel])
            matrix = np.array([[zoom, 0.0, x], [0.0, zoom, y]])
            image[..., channel] = cv2.warpAffine(plane, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return result
