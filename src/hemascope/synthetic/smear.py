"""From a cell to its photograph: the red cells around it, the stain of its slide, the light and focus of a camera."""

from __future__ import annotations

import math

import numpy as np

from hemascope.data.cells import Images
from hemascope.synthetic.anatomy import CELLS, PIGMENTS, Scene, platelet_at
from hemascope.synthetic.canvas import FIELD, Grid, Plane, Point, cover, ellipse, grid, noise
from hemascope.synthetic.draws import Draws


def photograph_cell(kind: str, draws: Draws, size: int) -> Images:
    """A picture of a cell of that kind, a key of CELLS: uint8 (size, size, 3), RGB."""
    scene = _slide(draws, grid(size))
    outline = CELLS[kind](scene)
    if draws.chance(0.25):
        outline = np.minimum(outline, _stray_platelet(scene))
    scene.density += _red_cells(scene, outline)
    return _photograph(scene, size)


def photograph_non_cell(draws: Draws, size: int) -> Images:
    """A picture of smooth coloured blobs: uint8 (size, size, 3), RGB."""
    side = grid(size).side
    blobs = np.stack([noise(draws, side, 3) for _ in range(3)])
    lens = _lens(size, side, 1.0)
    return _pixels(draws.uniform(90, 160) + 48 * (lens @ blobs @ lens.T))


def photograph_field(draws: Draws, size: int, *, red_cells: bool) -> Images:
    """A picture of a slide without any of the eight cells, with or without red ones: uint8 (size, size, 3), RGB."""
    scene = _slide(draws, grid(size))
    if red_cells:
        # The place kept free for a cell is moved out of sight, so that red cells may lie in the middle.
        scene.centre = (-FIELD, -FIELD)
        scene.density += _red_cells(scene, np.full_like(scene.grid.x, FIELD))
    return _photograph(scene, size)


def _slide(draws: Draws, on: Grid) -> Scene:
    """An empty slide, its stain stronger or weaker and bluer or redder than the usual, as slides are."""
    hue = math.exp(draws.bell(0.0, 0.36)) * np.exp([draws.bell(0.0, 0.22) for _ in range(3)])
    pigments = {}
    for name, density in PIGMENTS.items():
        red, green, blue = (hue * density * np.exp([draws.bell(0.0, 0.12) for _ in range(3)])).tolist()
        pigments[name] = (red, green, blue)
    return Scene(
        draws=draws,
        grid=on,
        density=np.zeros((3, on.side, on.side), np.float32),
        pigments=pigments,
        centre=(FIELD / 2 + draws.bell(0.0, 9.0), FIELD / 2 + draws.bell(0.0, 9.0)),
        turn=draws.angle(),
        scale=math.exp(draws.bell(0.0, 0.22)),
    )


def _stray_platelet(scene: Scene) -> Plane:
    """Draw a platelet clear of the cell; the distance to its outline, or far away where there was no room for one."""
    draws = scene.draws
    radius = draws.uniform(3.5, 6.0) * scene.scale
    for _ in range(8):
        point = draws.uniform(2, FIELD - 2), draws.uniform(2, FIELD - 2)
        if scene.room(point) > radius + 6:
            return platelet_at(scene, point, radius)
    return np.full_like(scene.grid.x, FIELD)


def _red_cells(scene: Scene, outline: Plane) -> Plane:
    """Densities (3, side, side) of red cells, pale in the middle, pressed flat where they meet the given outline."""
    draws, pixel = scene.draws, scene.grid.pixel
    paleness = draws.uniform(0.55, 0.95)
    bent = scene.bent(1.0, 5)
    thickness = np.zeros_like(scene.grid.x)
    for centre, radius in _red_cell_places(scene, draws.integer(1, 11)):
        ratio = math.exp(draws.bell(0.0, 0.16))
        part, place = bent.near(centre, 1.4 * radius)
        edge = ellipse(part, centre, (radius * ratio, radius / ratio), draws.angle())
        outward = np.clip(1 + edge / radius, 0, 1) / draws.uniform(0.5, 0.72)
        thickness[place] += cover(edge, pixel, 1.0) * (1 - paleness * np.exp(-(outward * outward * outward)))
    thickness *= cover(draws.uniform(-0.6, 1.0) - outline, pixel, 0.8)
    return np.stack([amount * thickness for amount in scene.pigments["haemoglobin"]])


def _red_cell_places(scene: Scene, wanted: int) -> list[tuple[Point, float]]:
    """Centres and radii of as many red cells as find room, touching and overlapping a little at most."""
    draws = scene.draws
    placed: list[tuple[Point, float]] = []
    for _ in range(40):
        if len(placed) == wanted:
            break
        centre = draws.uniform(-12, FIELD + 12), draws.uniform(-12, FIELD + 12)
        radius = draws.uniform(13.5, 17.0) * scene.scale
        apart = all(math.dist(centre, other) > 0.82 * (radius + its_radius) for other, its_radius in placed)
        if apart and scene.room(centre) > 0.6 * radius:
            placed.append((centre, radius))
    return placed


def _photograph(scene: Scene, size: int) -> Images:
    """The slide as a camera sees it: the lamp's colour, uneven light, focus, the sensor's own noise."""
    draws, on = scene.draws, scene.grid
    warmth, tint = draws.bell(0.06, 0.15), draws.bell(-0.01, 0.05)
    lamp = draws.bell(0.92, 0.13) * np.exp([warmth / 2, tint, -warmth])
    slope, downhill = draws.uniform(0.0, 0.1) / FIELD, draws.angle()
    light = np.exp(-scene.density)
    light *= 1 + slope * ((on.x - FIELD / 2) * math.cos(downhill) + (on.y - FIELD / 2) * math.sin(downhill))
    lens = _lens(size, on.side, draws.uniform(0.28, 0.75))
    seen = (lens @ light @ lens.T) * (255 * lamp).astype(np.float32)[:, None, None]
    grain = draws.uniforms(seen.size, -1.0, 1.0).astype(np.float32).reshape(seen.shape)
    return _pixels(seen + draws.uniform(0.5, 4.0) * grain)


def _lens(size: int, side: int, blur: float) -> Plane:
    """Weights (size, side) that shrink a fine grid to a picture's pixels and blur it in one go; blur is in units."""
    to, fine = (np.arange(size) + 0.5) * (FIELD / size), (np.arange(side) + 0.5) * (FIELD / side)
    weights = np.exp(-0.5 * ((to[:, None] - fine[None, :]) / math.hypot(blur, 0.35 * FIELD / size)) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _pixels(levels: Plane) -> Images:
    """Levels (3, size, size), 0 to 255, as uint8 (size, size, 3)."""
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
