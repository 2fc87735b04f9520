"""The surface that a picture is drawn on: shapes as distances, textures as smooth noise, colours as optical density.

Lengths are in units of which a picture is FIELD wide, whatever its size in pixels; angles are in radians. Stains absorb
light, so layers are mixed as optical densities (natural logarithm, one for each of red, green and blue) and become
light at the very end. Everything drawn changes smoothly with the numbers behind it, so that the last digit, in which
machines differ, never shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.synthetic.draws import Draws, Floats

FIELD = 96.0
# Covers are exact to a part of a pixel by themselves; the finer grid is for granules and for mixing light, not density.
OVERSAMPLING = 1.5

Plane = NDArray[np.floating[Any]]
Point = tuple[float, float]
Density = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """The places of fine pixels. x, y: float32 (rows, columns), in units; pixel: the width of one, in units."""

    x: Plane
    y: Plane
    pixel: float

    @property
    def side(self) -> int:
        return len(self.x)

    def bent(self, draws: Draws, reach: float, waves: int) -> Grid:
        """The same grid pushed about smoothly by about reach units, which makes the shapes drawn on it irregular."""
        push_x, push_y = (reach * noise(draws, self.side, waves) for _ in range(2))
        return Grid(self.x + push_x, self.y + push_y, self.pixel)

    def near(self, centre: Point, reach: float) -> tuple[Grid, tuple[slice, slice]]:
        """The part of the grid within reach of a point, and the rows and columns where it lies."""
        x, y = centre
        rows, columns = (
            slice(max(int((v - reach) / self.pixel), 0), max(math.ceil((v + reach) / self.pixel), 0)) for v in (y, x)
        )
        return Grid(self.x[rows, columns], self.y[rows, columns], self.pixel), (rows, columns)


@cache
def grid(size: int) -> Grid:
    """The fine grid under a picture of size x size pixels."""
    side = math.ceil(size * OVERSAMPLING)
    places = ((np.arange(side) + 0.5) * (FIELD / side)).astype(np.float32)
    x, y = np.broadcast_arrays(places[None, :], places[:, None])
    return Grid(x, y, FIELD / side)


@cache
def _spline(side: int, waves: int) -> Plane:
    """Cubic B-spline weights (side, waves + 3) that spread waves + 3 knots over side pixels."""
    place = (np.arange(side) + 0.5) * waves / side
    offset = np.abs(place[:, None] - np.arange(-1, waves + 2)[None, :])
    near = 2 / 3 - offset**2 + offset**3 / 2
    far = np.clip(2 - offset, 0, None) ** 3 / 6
    return np.where(offset < 1, near, far).astype(np.float32)


def noise(draws: Draws, side: int, waves: int) -> Plane:
    """A smooth random texture, float32 (side, side), of about unit spread, with features FIELD / waves units wide."""
    knots = draws.uniforms((waves + 3) ** 2, -3.6, 3.6).reshape(waves + 3, waves + 3).astype(np.float32)
    weights = _spline(side, waves)
    texture: Plane = weights @ knots @ weights.T
    return texture


def ellipse(on: Grid, centre: Point, axes: Point, turn: float = 0.0) -> Plane:
    """About the distance to an ellipse's edge, negative inside; axes are its half widths."""
    dx, dy = on.x - centre[0], on.y - centre[1]
    cos, sin = math.cos(turn), math.sin(turn)
    along, across = dx * (cos / axes[0]) + dy * (sin / axes[0]), dy * (cos / axes[1]) - dx * (sin / axes[1])
    distance: Plane = (np.sqrt(along * along + across * across) - 1) * math.sqrt(axes[0] * axes[1])
    return distance


def disc(on: Grid, centre: Point, radius: float) -> Plane:
    """The distance to a disc's edge, negative inside."""
    return ellipse(on, centre, (radius, radius))


def limb(on: Grid, start: Point, end: Point, start_radius: float, end_radius: float) -> Plane:
    """The distance to a rod with round ends whose radius goes evenly from one to the other."""
    dx, dy = on.x - start[0], on.y - start[1]
    across, down = end[0] - start[0], end[1] - start[1]
    length = max(across * across + down * down, 1e-6)
    along = np.clip(dx * (across / length) + dy * (down / length), 0, 1)
    dx, dy = dx - along * across, dy - along * down
    distance: Plane = np.sqrt(dx * dx + dy * dy) - start_radius - along * (end_radius - start_radius)
    return distance


def joined(shapes: Sequence[Plane], roundness: float) -> Plane:
    """The distance to shapes grown together, the corners between them filled over about roundness units."""
    whole = shapes[0]
    for shape in shapes[1:]:
        overlap = np.clip(roundness - np.abs(whole - shape), 0, None)
        whole = np.minimum(whole, shape) - overlap * overlap * (0.25 / roundness)
    return whole


def notched(shape: Plane, bite: Plane, roundness: float) -> Plane:
    """The distance to a shape with another cut out of it, the corners rounded."""
    return -joined((-shape, bite), roundness)


def cover(distance: Plane, pixel: float, softness: float = 0.0) -> Plane:
    """How much of each pixel a shape covers, 0 to 1; softness widens the edge, in units."""
    covered: Plane = np.clip(0.5 - distance * (1 / (pixel + softness)), 0, 1)
    return covered


def dots(on: Grid, x: Floats, y: Floats, radius: Floats) -> Plane:
    """The cover of many small discs at once, float32 (side, side); where discs meet, the larger cover counts."""
    side, pixel = on.side, on.pixel
    plane = np.zeros(side * side, np.float32)
    reach = math.ceil(float(radius.max(initial=0.0)) / pixel) + 1
    step = np.arange(-reach, reach + 1)
    columns, rows = (np.floor(v / pixel).astype(np.int64)[:, None] + step for v in (x, y))
    dx, dy = ((columns + 0.5 - x[:, None] / pixel), (rows + 0.5 - y[:, None] / pixel))
    distance = np.sqrt((dx * dx).astype(np.float32)[:, None, :] + (dy * dy).astype(np.float32)[:, :, None])
    radius = (radius / pixel).astype(np.float32)[:, None, None]
    # A disc smaller than a pixel fades as it shrinks.
    covered = np.clip(0.5 + radius - distance, 0, 1) * np.clip(2 * radius, 0, 1)
    here = (columns >= 0) & (columns < side)
    inside = here[:, None, :] & ((rows >= 0) & (rows < side))[:, :, None] & (covered > 0)
    np.maximum.at(plane, (rows[:, :, None] * side + columns[:, None, :])[inside], covered[inside])
    return plane.reshape(side, side)


def paint(density: Plane, covered: Plane, colour: Density, depth: Plane | float = 1.0) -> None:
    """Lay a colour over the densities (3, side, side) in place; depth scales how much stain the layer holds."""
    for channel, amount in enumerate(colour):
        density[channel] += covered * (depth * amount - density[channel])
