"""The eight kinds of cell, each drawn by the features that a haematologist tells it by.

Forms and proportions follow the usual description of Wright-Giemsa smears (Bain, Blood Cells: A Practical Guide); no
photograph is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hemascope.synthetic.canvas import (
    FIELD,
    Density,
    Grid,
    Plane,
    Point,
    cover,
    disc,
    dots,
    ellipse,
    joined,
    limb,
    noise,
    notched,
    paint,
)
from hemascope.synthetic.draws import Draws

# What each stained part of a cell absorbs of red, green and blue light.
PIGMENTS: dict[str, Density] = {
    "chromatin": (1.28, 1.62, 0.62),
    "dense chromatin": (1.65, 2.00, 0.86),
    "lacy chromatin": (1.12, 1.40, 0.50),
    "chromatin gap": (0.62, 0.86, 0.26),
    "pink": (0.16, 0.26, 0.07),
    "lilac": (0.34, 0.43, 0.10),
    "grey blue": (0.52, 0.54, 0.18),
    "clear blue": (0.66, 0.60, 0.12),
    "orange granule": (0.26, 0.80, 0.62),
    "purple granule": (0.80, 1.25, 0.48),
    "dark granule": (1.55, 1.85, 0.66),
    "haemoglobin": (0.20, 0.37, 0.27),
}


@dataclass
class Scene:
    """What one picture is drawn with: its numbers, its stain, and where its cell lies.

    density: float32 (3, side, side), what has been painted so far. scale: the magnification, about 1.
    reach: the radius of the cell in the middle, once it is drawn.
    """

    draws: Draws
    grid: Grid
    density: Plane
    pigments: dict[str, Density]
    centre: Point
    turn: float
    scale: float
    reach: float = 0.0

    def at(self, distance: float, angle: float) -> Point:
        """The point at that distance from the cell's centre; angles turn with the cell."""
        x, y = self.centre
        return x + distance * math.cos(angle + self.turn), y + distance * math.sin(angle + self.turn)

    def room(self, point: Point) -> float:
        """The distance from a point to the cell's nominal edge, by which other things find their place."""
        return math.dist(point, self.centre) - self.reach

    def bent(self, reach: float, waves: int) -> Grid:
        """The grid for shapes that are irregular by about reach units in that many waves across the picture."""
        return self.grid.bent(self.draws, reach * self.scale, waves)

    def noise(self, waves: int) -> Plane:
        """A texture of about unit spread with that many waves across the picture."""
        return noise(self.draws, self.grid.side, waves)

    def cover(self, distance: Plane, softness: float = 0.0) -> Plane:
        """How much of each pixel a shape covers, 0 to 1."""
        return cover(distance, self.grid.pixel, softness)

    def paint(self, covered: Plane, pigment: str, depth: Plane | float = 1.0) -> None:
        """Lay a pigment where covered, 0 to 1, says."""
        paint(self.density, covered, self.pigments[pigment], depth)

    def body(self, radius: float, wobble: float, pigment: str, *, mottle: float = 0.1, rim: float = 0.25) -> Plane:
        """Draw a cell's cytoplasm, denser along the edge by rim, and give the distance to its outline."""
        self.reach = radius
        ratio = math.exp(self.draws.bell(0.0, 0.12))
        bent = self.bent(wobble, 5).bent(self.draws, 0.35 * self.scale, 22)
        outline = ellipse(bent, self.centre, (radius * ratio, radius / ratio), self.draws.angle())
        depth = 1 + mottle * self.noise(30) + rim * self.cover(np.abs(outline + 0.6) - 0.8, 1.0)
        self.paint(self.cover(outline), pigment, depth)
        return outline

    def nucleus(self, outline: Plane, contrast: float, pigment: str = "chromatin", *, clumps: int = 30) -> None:
        """Fill a nucleus with chromatin in clumps FIELD / clumps units wide; its membrane stays without gaps."""
        texture = self.noise(clumps) + 0.6 * self.noise(2 * clumps)
        self.paint(self.cover(outline), pigment, 1 - 0.05 * texture)
        gaps = np.clip(contrast * (texture - 0.1), 0, 0.95)
        self.paint(gaps * self.cover(outline + 1.2, 1.0), "chromatin gap")

    def granules(self, outline: Plane, pigment: str, *, spacing: float, radius: float, share: float) -> None:
        """Scatter round granules inside an outline: a share of the places of a shaken lattice."""
        draws, side = self.draws, self.grid.side
        spacing, radius = spacing * self.scale, radius * self.scale
        columns = math.ceil(FIELD / spacing) + 1
        row, column = np.divmod(np.arange(columns * columns), columns)
        shake_x, shake_y = draws.uniforms(2 * columns * columns, -0.45, 0.45).reshape(2, -1)
        x, y = (column + 0.5 * (row % 2) + shake_x) * spacing, (row + shake_y) * spacing
        radii = radius * draws.uniforms(len(x), 0.7, 1.3) * (draws.uniforms(len(x)) < share)
        at_x, at_y = (np.clip((v / self.grid.pixel).astype(np.int64), 0, side - 1) for v in (x, y))
        # Granules shrink towards the edge rather than end there, so that no rounding can add or drop one.
        radii *= np.clip(0.3 - 2 * outline[at_y, at_x], 0, 1)
        kept = radii > 0
        self.paint(dots(self.grid, x[kept], y[kept], radii[kept]), pigment, 1 + 0.12 * self.noise(30))

    def lobes(self, places: Sequence[tuple[float, float]], radii: Sequence[float], bridge: float) -> Plane:
        """The distance to a nucleus of lobes at (distance, angle) places, joined in turn by bridges that thick."""
        middles = [self.at(*place) for place in places]
        bent = self.bent(0.9, 8)
        ends: list[tuple[Point, Point]] = []
        shapes: list[Plane] = []
        for i, ((x, y), radius) in enumerate(zip(middles, radii, strict=True)):
            (from_x, from_y), (to_x, to_y) = middles[max(i - 1, 0)], middles[min(i + 1, len(middles) - 1)]
            way = math.atan2(to_y - from_y, to_x - from_x) + self.draws.bell(0.0, 1.0)
            dx, dy = 0.38 * radius * math.cos(way), 0.38 * radius * math.sin(way)
            ends.append(((x - dx, y - dy), (x + dx, y + dy)))
            shapes.append(limb(bent, *ends[-1], radius, radius * self.draws.uniform(0.8, 1.1)))
        for (_, start), (end, _) in pairwise(ends):
            shapes.append(limb(bent, start, end, bridge, bridge))
        return joined(shapes, 1.6 * self.scale)


def basophil(scene: Scene) -> Plane:
    """Coarse, dark purple granules of uneven size that lie over a nucleus of two or three blurred lobes."""
    draws = scene.draws
    radius = draws.uniform(26, 31) * scene.scale
    body = scene.body(radius, 1.0, "lilac")
    number, first = draws.integer(2, 3), draws.angle()
    places = [(draws.uniform(0.3, 0.45) * radius, first + i * 2 * math.pi / number) for i in range(number)]
    sizes = [radius * draws.uniform(0.32, 0.42) for _ in places]
    scene.nucleus(scene.lobes(places, sizes, 0.16 * radius), 0.5, "lacy chromatin", clumps=20)
    spacing, share = draws.uniform(3.4, 4.2), draws.uniform(0.55, 0.85)
    scene.granules(body + 1.0, "dark granule", spacing=spacing, radius=1.25, share=share)
    scene.granules(body + 1.0, "dark granule", spacing=6.5, radius=1.9, share=0.5)
    return body


def eosinophil(scene: Scene) -> Plane:
    """Two lobes joined by a thin bridge, the cytoplasm packed with coarse orange granules."""
    draws = scene.draws
    radius = draws.uniform(27, 32) * scene.scale
    body = scene.body(radius, 1.2, "pink")
    scene.paint(draws.uniform(0.2, 0.5) * scene.cover(body, 2.0), "orange granule", 0.7)
    scene.granules(body + 0.4, "orange granule", spacing=draws.uniform(2.6, 3.1), radius=1.5, share=0.98)
    off, middle, apart = radius * draws.uniform(0.40, 0.54), draws.angle(), draws.uniform(0.85, 1.25)
    sizes = [radius * draws.uniform(0.27, 0.35) for _ in range(2)]
    scene.nucleus(scene.lobes([(off, middle - apart), (off, middle + apart)], sizes, 0.06 * radius), 0.6)
    return body


def erythroblast(scene: Scene) -> Plane:
    """A small cell: a round, very dense nucleus with checkerboard chromatin in smooth grey-blue to pink cytoplasm."""
    draws = scene.draws
    radius = draws.uniform(17, 22) * scene.scale
    body = scene.body(radius, 0.9, "grey blue", mottle=0.03)
    ripeness = draws.uniform(0.0, 0.7)
    scene.paint(ripeness * scene.cover(body), "haemoglobin", 1.2)
    core = radius * draws.uniform(0.50, 0.64)
    centre = scene.at(draws.uniform(0.0, 0.8) * (radius - core - 1.5), draws.angle())
    scene.nucleus(disc(scene.bent(0.4, 6), centre, core), 0.7, "dense chromatin")
    return body


def immature_granulocyte(scene: Scene) -> Plane:
    """A large cell: an oval or dented nucleus to one side, wide cytoplasm with fine purple granules."""
    draws = scene.draws
    radius = draws.uniform(31, 37) * scene.scale
    body = scene.body(radius, 1.3, "lilac")
    spacing, share = draws.uniform(2.6, 3.6), draws.uniform(0.5, 0.85)
    scene.granules(body + 1.0, "purple granule", spacing=spacing, radius=0.72, share=share)
    core, ratio = radius * draws.uniform(0.52, 0.60), draws.uniform(1.12, 1.3)
    off, side = radius * draws.uniform(0.22, 0.34), draws.angle()
    along = side + scene.turn + math.pi / 2 + draws.bell(0.0, 0.5)
    nucleus = ellipse(scene.bent(1.0, 6), scene.at(off, side), (core * ratio, core / ratio), along)
    bite = core * draws.uniform(-0.05, 0.5)
    dent = disc(scene.grid, scene.at(off - core / ratio - 0.6 * core + bite, side), 0.6 * core)
    nucleus = notched(nucleus, dent, 4 * scene.scale)
    scene.nucleus(nucleus, 0.55, clumps=34)
    scene.granules(nucleus, "purple granule", spacing=4.2, radius=0.7, share=0.35)
    return body


def lymphocyte(scene: Scene) -> Plane:
    """A small cell: a round, dense, smudged nucleus that leaves a thin rim of clear blue cytoplasm."""
    draws = scene.draws
    radius = draws.uniform(18, 22) * scene.scale
    body = scene.body(radius, 0.9, "clear blue", mottle=0.06, rim=0.5)
    core = radius * draws.uniform(0.80, 0.89)
    centre = scene.at(draws.uniform(0.5, 1.0) * (radius - core - 0.8), draws.angle())
    nucleus = disc(scene.bent(0.7, 5), centre, core)
    if draws.chance(0.3):
        nucleus = notched(nucleus, disc(scene.grid, scene.at(1.25 * core, draws.angle()), 0.45 * core), 3 * scene.scale)
    scene.nucleus(nucleus, 0.4, clumps=22)
    return body


def monocyte(scene: Scene) -> Plane:
    """A large cell: a kidney- or horseshoe-shaped nucleus, lacy chromatin, grey-blue cytoplasm with vacuoles."""
    draws = scene.draws
    radius = draws.uniform(31, 37) * scene.scale
    body = scene.body(radius, 2.3, "grey blue", mottle=0.12)
    middle, bend = draws.angle(), draws.uniform(1.1, 2.1)
    ring, thick = radius * draws.uniform(0.36, 0.44), radius * draws.uniform(0.24, 0.31)
    knees = [scene.at(ring, middle + bend * part) for part in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    sizes = [thick * draws.uniform(*swell) for swell in ((1.0, 1.2), (1.0, 1.0), (0.85, 1.05), (1.0, 1.0), (1.0, 1.2))]
    bent = scene.bent(0.7, 9)
    limbs = [limb(bent, *ends, *radii) for ends, radii in zip(pairwise(knees), pairwise(sizes), strict=True)]
    nucleus = joined(limbs, 2 * scene.scale)
    scene.nucleus(nucleus, 0.8, "lacy chromatin")
    holes = draws.integer(1, 6)
    off, way = radius * draws.uniforms(holes, 0.45, 0.9), draws.uniforms(holes, 0.0, 2 * math.pi)
    x, y = scene.centre[0] + off * np.cos(way), scene.centre[1] + off * np.sin(way)
    vacuoles = dots(scene.grid, x, y, scene.scale * draws.uniforms(holes, 1.0, 2.4))
    scene.paint(0.85 * vacuoles * scene.cover(np.maximum(0.5 - nucleus, body + 1.5)), "pink", 0.3)
    return body


def neutrophil(scene: Scene) -> Plane:
    """Three to five lobes joined by thin bridges in pale pink cytoplasm with a fine dust of granules."""
    draws = scene.draws
    radius = draws.uniform(26, 31) * scene.scale
    body = scene.body(radius, 1.2, "pink", mottle=0.16)
    scene.granules(body + 1.0, "lilac", spacing=2.8, radius=0.55, share=0.7)
    number = draws.integer(3, 5)
    size, step = {3: (0.25, 1.66), 4: (0.21, 1.33), 5: (0.185, 1.09)}[number]
    angle = draws.angle()
    places = []
    for _ in range(number):
        places.append((radius * draws.uniform(0.46, 0.58), angle))
        angle += step * draws.uniform(0.88, 1.12)
    sizes = [radius * size * draws.uniform(0.85, 1.12) for _ in places]
    scene.nucleus(scene.lobes(places, sizes, 0.045 * radius), 0.6)
    return body


def platelet(scene: Scene) -> Plane:
    """Small bits with a ragged edge and purple granules towards the middle, one alone or a few in a clump."""
    draws, scale = scene.draws, scene.scale
    if not draws.chance(0.3):
        scene.reach = draws.uniform(6.5, 11) * scale
        return platelet_at(scene, scene.centre, scene.reach)
    scene.reach = 15 * scale
    bits = [platelet_at(scene, scene.centre, draws.uniform(5, 7.5) * scale)]
    first = draws.angle()
    for i in range(draws.integer(2, 5)):
        place = scene.at(draws.uniform(9, 12.5) * scale, first + (i + draws.bell(0.0, 0.4)) * 2 * math.pi / 5)
        bits.append(platelet_at(scene, place, draws.uniform(4.5, 7.5) * scale))
    outline: Plane = np.minimum.reduce(bits)
    return outline


def platelet_at(scene: Scene, centre: Point, radius: float) -> Plane:
    """One platelet of about that radius; the distance to its outline."""
    draws = scene.draws
    ratio = math.exp(draws.bell(0.0, 0.35))
    outline = ellipse(scene.bent(1.1, 14), centre, (radius * ratio, radius / ratio), draws.angle())
    scene.paint(scene.cover(outline, 0.6), "lilac", 1 + 0.15 * scene.noise(24))
    scene.granules(outline + 0.22 * radius, "purple granule", spacing=1.9, radius=0.85, share=0.75)
    return outline


CELLS: dict[str, Callable[[Scene], Plane]] = {
    "basophil": basophil,
    "eosinophil": eosinophil,
    "erythroblast": erythroblast,
    "immature granulocyte": immature_granulocyte,
    "lymphocyte": lymphocyte,
    "monocyte": monocyte,
    "neutrophil": neutrophil,
    "platelet": platelet,
}
