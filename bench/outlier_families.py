"""Pictures that are none of the eight cells, by family: what a score for outliers is chosen and measured on.

`families` gives name -> a function of (n, seed) -> uint8 (n, SIDE, SIDE, 3), the same pictures for the same seed. Some
are drawn, some are cut from or made of real cells that the caller hands over, some come from the pictures bundled with
scikit-image, where that is installed. Nothing here is written to disk.

To choose a score and to report on it are two things, so `halves` divides the families once and for all: sorted by name,
the first, third, fifth and so on choose, the others report.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hemascope.data import Images
from hemascope.resize import resize
from hemascope.synthetic.draws import Draws
from hemascope.synthetic.smear import photograph_field

SIDE = 96
OF_SCIKIT_IMAGE = ("faces", "other_microscopy", "photographs", "textures")
NO_SCIKIT_IMAGE = (
    f"scikit-image is not installed, so the families of its pictures ({', '.join(OF_SCIKIT_IMAGE)}) are left "
    "out and the figures are not those of docs/trust.md; pip install 'hemascope[bench]'."
)

Family = Callable[[int, int], Images]
Floats = NDArray[np.float64]
Generator = np.random.Generator

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
TEXTURES = ("brick", "grass", "gravel")
MICROSCOPY = ("immunohistochemistry", "retina", "cell")
_FACES = 100
# Of the scikit-image pictures that are cut, this much of a picture's shorter side, from tight crops to wide ones.
_CUT = (0.2, 0.9)
_WORDS = "platelet count slide stain field image sample 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Pixels with less red than this are stained: the nucleus or granules of a cell, not a red cell or the slide.
_STAINED_RED = 150
_CUT_TRIES = 60


@dataclass(frozen=True)
class Sources:
    """Real pictures that families are made of, each uint8 (n, SIDE, SIDE, 3).

    cells: cells of all classes. platelets: pictures of platelets, which leave the corners to red cells and the slide.
    non_cells: the pictures of the file that the audit calls no cells.
    """

    cells: Images
    platelets: Images
    non_cells: Images


def families(sources: Sources) -> dict[str, Family]:
    """Every family by name, in alphabetical order; without scikit-image those of its pictures are missing."""
    found: dict[str, Family] = {
        "background_cut": partial(background_cut, sources.platelets),
        "background_drawn": partial(fields, False),
        "cells_inverted": partial(inverted, sources.cells),
        "cells_phase_scrambled": partial(phase_scrambled, sources.cells),
        "cells_shuffled": partial(shuffled, sources.cells),
        "challenge_non_cells": partial(turned, sources.non_cells),
        "checkerboards": checkerboards,
        "gradients": gradients,
        "noise_gaussian": noise_gaussian,
        "noise_salt_and_pepper": noise_salt_and_pepper,
        "noise_smooth": noise_smooth,
        "noise_uniform": noise_uniform,
        "red_cells_drawn": partial(fields, True),
        "red_cells_enlarged": partial(red_cells_enlarged, sources.platelets),
        "red_cells_mirrored": partial(red_cells_mirrored, sources.platelets),
        "shapes": shapes,
        "stripes": stripes,
        "text": text,
        "uniform_colour": uniform_colour,
    }
    if has_scikit_image():
        found |= {
            "faces": faces,
            "other_microscopy": partial(bundled, MICROSCOPY),
            "photographs": partial(bundled, PHOTOGRAPHS),
            "textures": partial(bundled, TEXTURES),
        }
    return dict(sorted(found.items()))


def halves(names: Collection[str]) -> tuple[list[str], list[str]]:
    """The families to choose by and those to report on: alternating in the order of the names of all there are."""
    ordered = sorted({*names, *OF_SCIKIT_IMAGE})
    choose, report = ([name for name in ordered[first::2] if name in names] for first in (0, 1))
    return choose, report


def has_scikit_image() -> bool:
    """Whether scikit-image, whose bundled pictures some families show, is installed."""
    return importlib.util.find_spec("skimage") is not None


def background_cut(platelets: Images, n: int, seed: int) -> Images:
    """The slide where nothing lies: the flattest of many small squares near the border, enlarged."""
    generator = np.random.default_rng(seed)

    def one() -> Images:
        size = int(generator.integers(14, 25))
        squares = [_corner(platelets, size, generator) for _ in range(_CUT_TRIES)]
        return _enlarged(min(squares, key=lambda square: float(square.std(axis=(0, 1)).max())))

    return _stack(one, n)


def fields(red_cells: bool, n: int, seed: int) -> Images:
    """Slides without any of the eight cells, empty or with red cells at the scale of a picture of a cell, drawn."""
    return np.stack([photograph_field(Draws(seed, row), SIDE, red_cells=red_cells) for row in range(n)])


def red_cells_enlarged(platelets: Images, n: int, seed: int) -> Images:
    """Corners of real pictures in which red cells lie and nothing stained does, enlarged."""
    generator = np.random.default_rng(seed)
    return _stack(lambda: _enlarged(_red_cells(platelets, int(generator.integers(26, 37)), generator)), n)


def red_cells_mirrored(platelets: Images, n: int, seed: int) -> Images:
    """Such corners at their own scale, continued by mirroring until they fill the picture."""
    generator = np.random.default_rng(seed)

    def one() -> Images:
        corner = _red_cells(platelets, 34, generator)
        ahead = generator.integers(0, 34, 2)
        widths = [(int(start), SIDE - 34 - int(start)) for start in ahead]
        return np.pad(corner, [*widths, (0, 0)], mode="symmetric")

    return _stack(one, n)


def inverted(cells: Images, n: int, seed: int) -> Images:
    """Real cells as negatives."""
    return 255 - _some(cells, n, np.random.default_rng(seed))


def phase_scrambled(cells: Images, n: int, seed: int) -> Images:
    """The spectrum of real cells, colour by colour, with the phases of noise: the texture without any form."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(_some(cells, n, generator).astype(np.float64), axes=(1, 2))
    noise = np.fft.rfft2(generator.random((n, SIDE, SIDE, 1)), axes=(1, 2))
    phase = np.exp(1j * np.angle(noise))
    phase[:, 0, 0] = 1  # the mean colour stays
    return _pixels(np.fft.irfft2(spectrum * phase, s=(SIDE, SIDE), axes=(1, 2)))


def shuffled(cells: Images, n: int, seed: int) -> Images:
    """Real cells cut into a grid of 3 x 3 to 6 x 6 tiles in another order."""
    generator = np.random.default_rng(seed)

    def one(picture: Images) -> Images:
        parts = int(generator.choice([3, 4, 6]))
        size = SIDE // parts
        tiles = picture.reshape(parts, size, parts, size, 3).swapaxes(1, 2).reshape(parts * parts, size, size, 3)
        tiles = tiles[generator.permutation(len(tiles))].reshape(parts, parts, size, size, 3)
        return tiles.swapaxes(1, 2).reshape(SIDE, SIDE, 3)

    return np.stack([one(picture) for picture in _some(cells, n, generator)])


def turned(pictures: Images, n: int, seed: int) -> Images:
    """The given pictures in turn, each in one of the eight poses of a square."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(n):
        picture = np.rot90(pictures[number % len(pictures)], int(generator.integers(4)))
        found.append(picture[:, ::-1] if generator.random() < 0.5 else picture)
    return np.stack(found)


def noise_gaussian(n: int, seed: int) -> Images:
    """Normal noise, grey or coloured, weak or strong, about any mean colour."""
    generator = np.random.default_rng(seed)

    def one() -> Images:
        channels = 1 if generator.random() < 0.3 else 3
        grain = generator.normal(0, generator.uniform(8, 70), (SIDE, SIDE, channels))
        return _pixels(generator.uniform(50, 230, 3) + grain)

    return _stack(one, n)


def noise_salt_and_pepper(n: int, seed: int) -> Images:
    """Black and white pixels strewn over one colour."""
    generator = np.random.default_rng(seed)

    def one() -> Images:
        drawn, share = generator.random((SIDE, SIDE, 1)), generator.uniform(0.05, 0.9)
        ground = np.broadcast_to(generator.uniform(50, 230, 3), (SIDE, SIDE, 3))
        return _pixels(np.where(drawn < share / 2, 0, np.where(drawn < share, 255, ground)))

    return _stack(one, n)


def noise_smooth(n: int, seed: int) -> Images:
    """Clouds: noise whose spectrum falls as a power of the frequency, in the colours of any slide."""
    generator = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(SIDE)[:, None, None], np.fft.rfftfreq(SIDE)[None, :, None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / SIDE)

    def one() -> Images:
        grain = np.fft.rfft2(generator.normal(size=(SIDE, SIDE, 3)), axes=(0, 1))
        clouds = np.fft.irfft2(grain / frequency ** generator.uniform(1.0, 2.2), s=(SIDE, SIDE), axes=(0, 1))
        clouds = (clouds - clouds.mean((0, 1))) / clouds.std((0, 1))
        return _pixels(generator.uniform(70, 220, 3) + generator.uniform(10, 60) * clouds)

    return _stack(one, n)


def noise_uniform(n: int, seed: int) -> Images:
    """Every pixel any colour, or blocks of pixels."""
    generator = np.random.default_rng(seed)

    def one() -> Images:
        block = int(generator.choice([1, 2, 4, 8]))
        drawn = generator.integers(0, 256, (SIDE // block, SIDE // block, 3), dtype=np.uint8)
        return np.kron(drawn, np.ones((block, block, 1), np.uint8))

    return _stack(one, n)


def checkerboards(n: int, seed: int) -> Images:
    """Boards of two colours with fields of 3 to 32 pixels."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]

    def one() -> Images:
        size, (down, across) = generator.uniform(3, 32), generator.uniform(0, 32, 2)
        odd = (np.floor((y + down) / size) + np.floor((x + across) / size)) % 2
        return _two_colours(odd, generator)

    return _stack(one, n)


def stripes(n: int, seed: int) -> Images:
    """Waves of two colours in any direction, sharp or soft."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]

    def one() -> Images:
        angle, length = generator.uniform(0, np.pi), generator.uniform(4, 48)
        wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / length) + generator.uniform(0, 6))
        return _two_colours(np.clip(0.5 + wave * generator.choice([0.5, 20.0]), 0, 1), generator)

    return _stack(one, n)


def gradients(n: int, seed: int) -> Images:
    """One colour going over into another, along a line or from a point."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)

    def one() -> Images:
        if generator.random() < 0.5:
            angle = generator.uniform(0, 2 * np.pi)
            way = np.cos(angle) * x + np.sin(angle) * y
        else:
            way = np.hypot(x - generator.uniform(0, 1), y - generator.uniform(0, 1))
        return _two_colours((way - way.min()) / np.ptp(way), generator)

    return _stack(one, n)


def shapes(n: int, seed: int) -> Images:
    """Discs, boxes, triangles and lines of plain colours on a plain ground."""
    generator = np.random.default_rng(seed)

    def one() -> Images:
        page = Image.new("RGB", (SIDE, SIDE), _colour(generator))
        draw = ImageDraw.Draw(page)
        for _ in range(int(generator.integers(1, 7))):
            points = [(float(x), float(y)) for x, y in generator.uniform(-8, SIDE + 8, (3, 2))]
            kind, colour = generator.integers(4), _colour(generator)
            low, high = np.sort(np.array(points[:2]), axis=0)
            if kind == 0:
                draw.ellipse([*low, *high], fill=colour)
            elif kind == 1:
                draw.rectangle([*low, *high], fill=colour)
            elif kind == 2:
                draw.polygon(points, fill=colour)
            else:
                draw.line(points, fill=colour, width=int(generator.integers(1, 9)))
        return np.asarray(page)

    return _stack(one, n)


def text(n: int, seed: int) -> Images:
    """Words and figures on a plain ground, as a label or a screen shows them."""
    generator = np.random.default_rng(seed)
    letters = np.array(list(_WORDS))

    def one() -> Images:
        page = Image.new("RGB", (SIDE, SIDE), _colour(generator) if generator.random() < 0.5 else (255, 255, 255))
        draw = ImageDraw.Draw(page)
        size = int(generator.integers(10, 30))
        for top in range(int(generator.integers(0, 30)), SIDE, round(1.3 * size)):
            line = "".join(generator.choice(letters, int(generator.integers(3, 16))))
            draw.text((int(generator.integers(-4, 20)), top), line, fill=_colour(generator, 0, 120), font_size=size)
        return np.asarray(page)

    return _stack(one, n)


def uniform_colour(n: int, seed: int) -> Images:
    """One colour, any."""
    colours = np.random.default_rng(seed).integers(0, 256, (n, 1, 1, 3), dtype=np.uint8)
    return np.tile(colours, (1, SIDE, SIDE, 1))


def faces(n: int, seed: int) -> Images:
    """The grey faces bundled with scikit-image, enlarged from 25 pixels."""
    generator = np.random.default_rng(seed)
    found = _bundle().lfw_subset()[:_FACES][generator.integers(_FACES, size=n)]
    return resize(np.repeat(_pixels(255 * found)[..., None], 3, axis=3), SIDE)


def bundled(names: Sequence[str], n: int, seed: int) -> Images:
    """Squares cut anywhere from pictures that come with scikit-image, in turn, at any scale."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(n):
        picture = _bundled(names[number % len(names)])
        height, width = picture.shape[:2]
        size = int(generator.uniform(*_CUT) * min(height, width))
        top, left = (int(generator.integers(side - size + 1)) for side in (height, width))
        found.append(_enlarged(picture[top : top + size, left : left + size]))
    return np.stack(found)


def _bundle() -> Any:
    # By name, so that the types are checked alike whether the library is there or not.
    return importlib.import_module("skimage.data")


@cache
def _bundled(name: str) -> Images:
    picture: Images = np.asarray(getattr(_bundle(), name)())
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture[..., :3]


def _red_cells(platelets: Images, size: int, generator: Generator) -> Images:
    """A corner with red cells, as its contrast says, and nothing stained: one of the better third of many tried."""
    while True:
        corners = [_corner(platelets, size, generator) for _ in range(_CUT_TRIES)]
        plain = sorted(
            (corner for corner in corners if (corner[..., 0] >= _STAINED_RED).all()),
            key=lambda corner: float(corner[..., 1].std()),
        )
        if plain:
            return plain[-int(generator.integers(1, 2 + len(plain) // 3))]


def _corner(pictures: Images, size: int, generator: Generator) -> Images:
    """A square in a random corner of a random picture."""
    picture = pictures[generator.integers(len(pictures))]
    top, left = (int(generator.integers(2)) * (SIDE - size) for _ in range(2))
    return np.asarray(picture[top : top + size, left : left + size])


def _some(pictures: Images, n: int, generator: Generator) -> Images:
    return np.asarray(pictures[generator.choice(len(pictures), n, replace=n > len(pictures))])


def _two_colours(share: Floats, generator: Generator) -> Images:
    """The one colour where a share (SIDE, SIDE) is 0, the other where it is 1."""
    one, other = generator.uniform(0, 255, (2, 3))
    return _pixels(one + (other - one) * share[..., None])


def _colour(generator: Generator, low: int = 0, high: int = 256) -> tuple[int, int, int]:
    red, green, blue = generator.integers(low, high, 3).tolist()
    return red, green, blue


def _stack(one: Callable[[], Images], n: int) -> Images:
    return np.stack([one() for _ in range(n)])


def _enlarged(square: Images) -> Images:
    return np.asarray(resize(np.ascontiguousarray(square)[None], SIDE)[0])


def _pixels(values: NDArray[np.floating]) -> Images:
    return np.asarray(np.rint(np.clip(values, 0, 255)), np.uint8)
