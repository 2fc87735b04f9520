"""Corruptions by things that lie on the slide: deposits and bubbles."""

from __future__ import annotations

import numpy as np

from hemascope.corrupt.fields import Plane, levels, pixel_grid, reference_scale, smooth_noise, soft_step
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

_BUBBLES_LEAST, _BUBBLE_RADIUS_LEAST, _BUBBLE_RIM = 7, 3, 2
_RIM_WHITE, _INSIDE_WHITE = 130 / 255, 100 / 255
_MOST_BUBBLES, _MOST_DEPOSITS = 12, 3
_DEPOSIT_MARGIN = 10


def stain_deposit(images: Images, rows: Rows, draw: Draw, *, most: int, size: float) -> Images:
    """One to `most` black clots of precipitated stain. size: their width in pixels of a 224-pixel picture."""
    height, width = images.shape[1:3]
    scale = reference_scale(images)
    across, margin = size * scale, _DEPOSIT_MARGIN * scale
    counts = 1 + (draw.uniform(rows, "count")[:, 0] * most).astype(np.int64)
    places = draw.uniform(rows, "place", 2 * _MOST_DEPOSITS).reshape(-1, _MOST_DEPOSITS, 2)
    places = margin + across / 2 + places * (np.array([width, height]) - across - 2 * margin)
    window = int(np.ceil(1.3 * across)) + 2
    ragged = np.stack(
        [smooth_noise(draw, rows, f"edge:{mark}", (window, window), 5, 2) for mark in range(_MOST_DEPOSITS)], axis=1
    )
    result = images.copy()
    for image, count, centres, edges in zip(result, counts, places, ragged, strict=True):
        for (x, y), edge in zip(centres[:count], edges, strict=False):
            part, apart = _window(image, float(x), float(y), window)
            outline = across / 2 * (0.88 + 0.16 * edge[: apart.shape[0], : apart.shape[1]])
            part[:] = levels(part * (1 - soft_step(outline - apart))[..., None])
    return result


def bubble(images: Images, rows: Rows, draw: Draw, *, most: int, radius: int) -> Images:
    """Seven to `most` pale discs with a brighter rim. radius: of the largest, in pixels of a 224-pixel picture."""
    height, width = images.shape[1:3]
    scale = reference_scale(images)
    counts = _BUBBLES_LEAST + (draw.uniform(rows, "count")[:, 0] * (most - _BUBBLES_LEAST + 1)).astype(np.int64)
    steps = radius - _BUBBLE_RADIUS_LEAST + 1
    radii = _BUBBLE_RADIUS_LEAST + np.floor(draw.uniform(rows, "radius", _MOST_BUBBLES) * steps)
    places = draw.uniform(rows, "place", 2 * _MOST_BUBBLES).reshape(-1, _MOST_BUBBLES, 2)
    places = scale * radii[..., None] + places * (np.array([width, height]) - 2 * scale * radii[..., None])
    result = np.empty_like(images)
    for number, image in enumerate(images):
        white = np.zeros((height, width, 1), np.float32)
        for (x, y), its_radius in zip(places[number, : counts[number]], radii[number], strict=False):
            # Half a pixel more: the circles of the original have an odd width.
            inner, outer = scale * (its_radius + 0.5), scale * (its_radius + _BUBBLE_RIM + 0.5)
            part, apart = _window(white, float(x), float(y), 2 * int(np.ceil(outer)) + 2)
            for share, edge in ((_RIM_WHITE, outer), (_INSIDE_WHITE, inner)):
                part += (share - part) * soft_step(edge - apart)[..., None]
        result[number] = levels(image + (255 - image) * white)
    return result


def _window(plane: Images | Plane, x: float, y: float, size: int) -> tuple[Images | Plane, Plane]:
    """The part of a picture about a point, a view, and how far its pixels lie from that point."""
    top, left = int(np.rint(y)) - size // 2, int(np.rint(x)) - size // 2
    rows, columns = slice(max(top, 0), max(top + size, 0)), slice(max(left, 0), max(left + size, 0))
    part = plane[rows, columns]
    along, down = pixel_grid(*part.shape[:2])
    return part, np.hypot(along + np.float32(columns.start - x), down + np.float32(rows.start - y))
