"""RandAugment (Cubuk et al., 2020) and AugMix (Hendrycks et al., 2020), an independent draw for every picture.

Operations, ranges and sampling are those of torchvision, where one draw holds for a whole batch. A level, from -1 to 1,
is a share of an operation's range; its sign counts where the operation has two directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hemascope.augment.plan import (
    NUDGE,
    TRUNCATED,
    Autocontrast,
    Colour,
    Equalise,
    Floats,
    Indices,
    Mix,
    Operation,
    Plan,
    Sharpen,
    Shift,
    Table,
    Warp,
    divided,
)
from hemascope.draws import Draw

LUMINANCE = np.array([0.2989, 0.587, 0.114])
"""torchvision's weights of red, green and blue in a grey level."""

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
PLAIN = (*GEOMETRIC, "Posterize", "Solarize", "AutoContrast", "Equalize")
"""The operations of AugMix's paper: none of them resembles a corruption of the benchmark."""
COLOURS = ("Brightness", "Color", "Contrast", "Sharpness")
ALL = (*PLAIN, *COLOURS)
RANDAUGMENT = ("Identity", *ALL)
SIGNED = (*GEOMETRIC, *COLOURS)
"""Operations with two directions, which do nothing at level 0."""

_CODE = {name: code for code, name in enumerate(RANDAUGMENT)}
_GREY_LEVELS = np.arange(256)
_POSTERISED = (_GREY_LEVELS & (256 - (1 << np.arange(8, -1, -1)))[:, None]).astype(np.uint8)
"""What is left of each grey level with 0 to 8 bits: (9, 256)."""
_SOLARISED = np.where(np.arange(257)[:, None] <= _GREY_LEVELS, 255 - _GREY_LEVELS, _GREY_LEVELS).astype(np.uint8)
"""Each grey level inverted from a threshold of 0 to 256 on: (257, 256)."""


@dataclass(frozen=True)
class Ranges:
    """Where RandAugment and AugMix differ in their operations."""

    smooth: bool
    """Geometry is linear between pixels, else it takes the nearest."""
    reach: float
    """The largest translation, as a share of the side."""
    bits: int
    """What posterise keeps at level 0; at level 1 it keeps four fewer."""


OF_RANDAUGMENT = Ranges(smooth=False, reach=150 / 331, bits=8)
OF_AUGMIX = Ranges(smooth=True, reach=1 / 3, bits=4)


def randaugment(rows: Indices, draw: Draw, magnitude: float, shape: tuple[int, int], layers: int = 2) -> Plan:
    """`layers` of the 14 operations one after the other, each as likely, at level 30 * magnitude of 30."""
    choice, sign = draw.uniform(rows, "operations", 2 * layers).reshape(len(rows), layers, 2).transpose(2, 1, 0)
    level = round(30 * magnitude) / 30
    codes = (choice * len(RANDAUGMENT)).astype(np.int64)
    return operations(codes, np.where(sign < 0.5, -level, level), shape, OF_RANDAUGMENT)


def augmix(
    rows: Indices,
    draw: Draw,
    magnitude: float,
    shape: tuple[int, int],
    names: Sequence[str] = ALL,
    width: int = 3,
    depth: int = 3,
    alpha: float = 1.0,
) -> Plan:
    """A weighted mean of the picture and of `width` chains of one to `depth` operations at severity 10 * magnitude.

    The chains share what the picture leaves by Dirichlet(alpha), and the picture keeps Beta(alpha, alpha).
    """
    count, length = len(rows), 1 + 3 * depth
    severity = max(1, round(10 * magnitude))
    known = np.array([_CODE[name] for name in names])
    values = draw.uniform(rows, "chains", width * length + width + 2)
    chains = values[:, : width * length].reshape(count * width, length).T
    choice, step, sign = chains[1:].reshape(depth, 3, count * width).swapaxes(0, 1)
    levels = (step * severity).astype(np.int64) / 9.0
    codes = known[(choice * len(names)).astype(np.int64)]
    # A chain that is shorter than the longest goes on with the identity.
    codes[np.arange(depth)[:, None] > chains[0] * depth] = _CODE["Identity"]
    plan = operations(codes, np.where(sign < 0.5, -levels, levels), shape, OF_AUGMIX)
    gammas = _gamma(values[:, width * length :], alpha)
    own = gammas[:, :1] / gammas[:, :2].sum(1, keepdims=True)
    shares = gammas[:, 2:] / gammas[:, 2:].sum(1, keepdims=True)
    return [Mix(np.arange(count), np.concatenate([own, (1 - own) * shares], 1), plan)]


def augmix_plain(rows: Indices, draw: Draw, magnitude: float, shape: tuple[int, int]) -> Plan:
    """AugMix without brightness, colour, contrast and sharpness, as its paper has it."""
    return augmix(rows, draw, magnitude, shape, names=PLAIN)


def _gamma(uniform: Floats, alpha: float) -> Floats:
    """Gamma(alpha) numbers out of uniform ones, by inversion."""
    if alpha == 1.0:
        return np.maximum(-np.log1p(-uniform), 1e-12)
    from scipy.special import gammaincinv

    return np.maximum(np.asarray(gammaincinv(alpha, uniform), np.float64), 1e-12)


def operations(codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Plan:
    """Layers of operations, one of them for each of n pictures: RANDAUGMENT[codes] at levels, both (layers, n)."""
    layers, count = codes.shape
    # All layers are planned together, as if they were further pictures, and then taken apart.
    together: Plan = []
    codes, levels = codes.ravel(), levels.ravel()
    kinds = np.where((levels == 0) & _SIGNED[codes], -1, _KINDS[codes])
    for kind, (build, _) in enumerate(_BUILD):
        own = np.flatnonzero(kinds == kind)
        if len(own):
            together.append(build(own, codes[own], levels[own], shape, ranges))
    parts = divided(together, range(0, layers * count + 1, count)) if count else []
    return [operation for part in parts for operation in part]


def _warp(where: Indices, codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Warp:
    height, width = shape
    matrices = np.zeros((len(codes), 2, 3))
    angle = np.where(codes == _CODE["Rotate"], np.deg2rad(30.0) * levels, 0.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    right, down = (np.where(codes == _CODE[name], 0.3 * levels, 0.0) for name in ("ShearX", "ShearY"))
    matrices[:, 0, 0] = matrices[:, 1, 1] = cosine
    matrices[:, 0, 1] = right - sine
    matrices[:, 1, 0] = down + sine
    # Shears leave the upper left corner where it is, rotations the middle.
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    matrices[:, 0, 2] = middle_x - cosine * middle_x + sine * middle_y + right / 2
    matrices[:, 1, 2] = middle_y - sine * middle_x - cosine * middle_y + down / 2
    if not ranges.smooth:
        matrices[:, :, 2] += NUDGE
    return Warp(where, matrices, ranges.smooth, "black")


def _shift(where: Indices, codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Shift:
    axis = (codes == _CODE["TranslateY"]).astype(np.int64)
    moves = np.zeros((len(where), 2), np.int64)
    moves[np.arange(len(where)), axis] = np.trunc(ranges.reach * np.array(shape)[1 - axis] * levels)
    return Shift(where, moves)


def _tabulate(where: Indices, codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Table:
    tables = np.empty((len(where), 256), np.uint8)
    posterised, solarised, brightened = (codes == _CODE[name] for name in ("Posterize", "Solarize", "Brightness"))
    bits = np.round(ranges.bits - 4 * np.abs(levels[posterised])).astype(np.int64)
    tables[posterised] = _POSTERISED[bits]
    # Rounded, so that a threshold that is a whole number is one in any arithmetic.
    threshold = np.ceil(np.round(255 * (1 - np.abs(levels[solarised])), 3)).astype(np.int64)
    tables[solarised] = _SOLARISED[threshold]
    # The fraction is cut off, as torchvision does.
    tables[brightened] = np.minimum(_GREY_LEVELS * (1 + 0.9 * levels[brightened, None]) + 1e-6, 255).astype(np.uint8)
    return Table(where, tables)


def _colour(where: Indices, codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Colour:
    """Saturation and contrast: a blend with the grey of each pixel, or with the mean grey of the picture."""
    factors = 1 + 0.9 * levels
    rest = ((1 - factors)[:, None] * LUMINANCE)[:, None, :]
    contrast = (codes == _CODE["Contrast"])[:, None, None]
    grey = np.where(contrast, 0.0, rest)
    means = np.repeat(np.where(contrast, rest, 0.0), 3, 1)
    # torchvision cuts the fraction of the grey level off as well: half a level on average.
    offsets = np.repeat((TRUNCATED - 0.5 * (1 - factors))[:, None], 3, 1)
    return Colour(where, factors[:, None, None] * np.eye(3) + grey, means, offsets)


def _sharpen(where: Indices, codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Sharpen:
    return Sharpen(where, 1 + 0.9 * levels, TRUNCATED)


def _autocontrast(where: Indices, *_: object) -> Autocontrast:
    return Autocontrast(where)


def _equalise(where: Indices, *_: object) -> Equalise:
    return Equalise(where)


_BUILD: tuple[tuple[Callable[[Indices, Indices, Floats, tuple[int, int], Ranges], Operation], tuple[str, ...]], ...] = (
    (_warp, ("ShearX", "ShearY", "Rotate")),
    (_shift, ("TranslateX", "TranslateY")),
    (_tabulate, ("Posterize", "Solarize", "Brightness")),
    (_colour, ("Color", "Contrast")),
    (_sharpen, ("Sharpness",)),
    (_autocontrast, ("AutoContrast",)),
    (_equalise, ("Equalize",)),
)
_KINDS = np.array([next((kind for kind, (_, names) in enumerate(_BUILD) if name in names), -1) for name in RANDAUGMENT])
"""Which of _BUILD makes the operation of a code; -1 for the identity."""
_SIGNED = np.array([name in SIGNED for name in RANDAUGMENT])
