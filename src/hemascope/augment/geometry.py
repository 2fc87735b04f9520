"""Families that move pixels: poses, rotation, zoom, shift, shear."""

from __future__ import annotations

import numpy as np

from hemascope.augment.plan import Fill, Floats, Indices, Plan, Turn, Warp
from hemascope.draws import Draw

Shape = tuple[int, int]

LARGEST_ZOOM = 1.6


def dihedral(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """One of the eight poses of a square, or of the four that keep the shape of another rectangle."""
    poses = 8 if shape[0] == shape[1] else 4
    return [Turn(np.arange(len(rows)), (draw.uniform(rows, "pose")[:, 0] * poses).astype(np.int64))]


def affine(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Rotation, zoom and shift at once."""
    angle, zoom, right, down = draw.signed(rows, "affine", 4).T * magnitude
    return _moved(shape, angle=angle * np.pi, zoom=zoom, right=right * 0.25, down=down * 0.25)


def rotate(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    return _moved(shape, angle=draw.signed(rows, "angle")[:, 0] * magnitude * np.pi)


def zoom(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    return _moved(shape, zoom=draw.signed(rows, "zoom")[:, 0] * magnitude)


def shift(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    right, down = draw.signed(rows, "shift", 2).T * magnitude * 0.25
    return _moved(shape, right=right, down=down)


def shear(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    lean, axis = draw.signed(rows, "shear", 2).T
    lean = lean * magnitude * 0.3
    return _moved(shape, lean_x=np.where(axis < 0, lean, 0.0), lean_y=np.where(axis < 0, 0.0, lean))


def _moved(
    shape: Shape,
    *,
    angle: Floats | float = 0.0,
    zoom: Floats | float = 0.0,
    right: Floats | float = 0.0,
    down: Floats | float = 0.0,
    lean_x: Floats | float = 0.0,
    lean_y: Floats | float = 0.0,
    fill: Fill = "reflect",
) -> Plan:
    """A warp about the middle; angle in radians, zoom in [-1, 1], shifts as shares of the sides."""
    angle, zoom, right, down, lean_x, lean_y = np.broadcast_arrays(angle, zoom, right, down, lean_x, lean_y)
    height, width = shape
    scale = LARGEST_ZOOM**zoom
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    lean = np.stack([np.ones_like(lean_x), lean_x, lean_y, np.ones_like(lean_y)], 1).reshape(-1, 2, 2)
    linear = turn @ lean / scale[:, None, None]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    start = middle + np.stack([right * width, down * height], 1) - linear @ middle
    return [Warp(np.arange(len(angle)), np.concatenate([linear, start[:, :, None]], 2), True, fill)]
