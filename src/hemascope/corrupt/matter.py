"""Corruptions by things that lie on the slide: deposits, bubbles, fibres and other cells."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt.fields import (
    Plane,
    clear_levels,
    darkest,
    levels,
    pixel_grid,
    reference_scale,
    rise,
    side,
    smooth_noise,
    soft_step,
)
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

_BUBBLES_LEAST, _BUBBLE_RADIUS_LEAST, _BUBBLE_RIM = 7, 3, 2
_RIM_WHITE, _INSIDE_WHITE = 130 / 255, 100 / 255
_MOST_BUBBLES, _MOST_DEPOSITS = 12, 3
_DEPOSIT_MARGIN = 10
_MOST_FIBRES = 4
_FIBRE_COLOURS = np.array([(46, 42, 50), (88, 62, 44), (52, 60, 104), (110, 108, 104)], np.float32)


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


def fibre(images: Images, rows: Rows, draw: Draw, *, count: int, width: float, opacity: float) -> Images:
    """Curved hairs and threads of dust across the picture. width: as a share of the side. opacity: 0 to 1."""
    height, across = images.shape[1:3]
    length = side(images)
    places = draw.uniform(rows, "places", 6 * _MOST_FIBRES).reshape(-1, _MOST_FIBRES, 6)
    colours = _FIBRE_COLOURS[(draw.uniform(rows, "colour", _MOST_FIBRES) * len(_FIBRE_COLOURS)).astype(np.int64)]
    result = np.empty_like(images)
    for number, image in enumerate(images):
        pixels = image.astype(np.float32)
        for drawn, colour in zip(places[number, :count], colours[number], strict=False):
            points = _curve(drawn, height, across, 3 * length)
            pixels += (colour - pixels) * (opacity * _thread(points, (height, across), width * length))[..., None]
        result[number] = levels(pixels)
    return result


def _curve(drawn: NDArray[np.float64], height: int, width: int, count: int) -> NDArray[np.float64]:
    """Points (count, 2) as (x, y) of a bent line that crosses the picture near its middle."""
    angle, aside = 2 * np.pi * drawn[0], 0.6 * (drawn[1] - 0.5)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    size = np.array([width, height])
    ends = [size / 2 + size * (sign * (0.25 + 0.5 * drawn[2]) * along + aside * across) for sign in (-1, 1)]
    bends = [size * (drawn[3 + number] - 0.5) * across for number in range(2)]
    t = np.linspace(0, 1, count)[:, None]
    straight = ends[0] + (ends[1] - ends[0]) * t
    return np.asarray(straight + 3 * t * (1 - t) * ((1 - t) * bends[0] + t * bends[1]))


def _thread(points: NDArray[np.float64], shape: tuple[int, int], width: float) -> Plane:
    """A line through close points with a soft profile, 0 to 1: float32 (height, width)."""
    height, across = shape
    steps = np.hypot(*np.diff(points, axis=0, append=points[-1:]).T)
    corners = np.floor(points)[None] + np.array([(0, 0), (1, 0), (0, 1), (1, 1)])[:, None]
    share = (1 - np.abs(corners - points)).prod(axis=-1) * steps
    x, y = corners[..., 0].astype(np.int64), corners[..., 1].astype(np.int64)
    seen = (x >= -1) & (x <= across) & (y >= -1) & (y <= height)
    places = ((y + 1) * (across + 2) + x + 1)[seen]
    padded = np.bincount(places, share[seen], (height + 2) * (across + 2))
    sigma = max(width / 2, 0.4)
    line = cv2.GaussianBlur(padded.reshape(height + 2, across + 2).astype(np.float32), (0, 0), sigma)[1:-1, 1:-1]
    # Along the middle of a straight line the filter leaves 1 / (sqrt(2 pi) sigma).
    return np.asarray(np.minimum(line * np.float32(np.sqrt(2 * np.pi) * sigma), 1))


def occlusion(images: Images, rows: Rows, draw: Draw, *, distance: float) -> Images:
    """A neighbour over a part of the cell: the picture's own cell, turned, mirrored or not, moved in from an edge.

    distance: from the middle of the picture to that of the neighbour, as a share of the side.
    """
    height, width = images.shape[1:3]
    length = side(images)
    x, y = pixel_grid(height, width)
    round_edge = 1 - rise(np.hypot(x - (width - 1) / 2, y - (height - 1) / 2), 0.36 * length, 0.42 * length)
    drawn = draw.uniform(rows, "place", 4)
    result = np.empty_like(images)
    for image, out, (turn, way, mirror, zoom) in zip(images, result, drawn, strict=True):
        solid = cv2.GaussianBlur(_stained(image), (0, 0), 0.01 * length) * round_edge
        angle, direction = 2 * np.pi * turn, 2 * np.pi * way
        scale = 0.9 + 0.2 * zoom
        matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = matrix @ np.diag([1.0 if mirror < 0.5 else -1.0, 1.0])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        offset = middle + distance * length * np.array([np.cos(direction), np.sin(direction)]) - matrix @ middle
        placed = np.column_stack([matrix, offset])
        cell = cv2.warpAffine(image, placed, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        cover = cv2.warpAffine(solid, placed, (width, height), borderMode=cv2.BORDER_CONSTANT)
        out[:] = levels(image + (cell - image.astype(np.float32)) * cover[..., None])
    return result


def _stained(image: Images) -> Plane:
    """How surely each pixel shows something on the slide and not the slide: 0 to 1."""
    return rise(1 - darkest(image / clear_levels(image)), 0.08, 0.22)


def _window(plane: Images | Plane, x: float, y: float, size: int) -> tuple[Images | Plane, Plane]:
    """The part of a picture about a point, a view, and how far its pixels lie from that point."""
    top, left = int(np.rint(y)) - size // 2, int(np.rint(x)) - size // 2
    rows, columns = slice(max(top, 0), max(top + size, 0)), slice(max(left, 0), max(left + size, 0))
    part = plane[rows, columns]
    along, down = pixel_grid(*part.shape[:2])
    return part, np.hypot(along + np.float32(columns.start - x), down + np.float32(rows.start - y))
