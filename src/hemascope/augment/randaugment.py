"""RandAugment (Cubuk et al., 2020) and AugMix (Hendrycks et al., 2020), an independent draw for every picture.

Operations, ranges and sampling are those of torchvision, where one draw holds for a whole batch. A level, from -1 to 1,
is a share of an operation's range; its sign counts where the operation has two directions.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    Plan,
    Sharpen,
    Table,
    Warp,
)
from hemascope.draws import Draw

LUMINANCE = np.array([0.2989, 0.587, 0.114])
"""torchvision's weights of red, green and blue in a grey level."""

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
PLAIN = (*GEOMETRIC, "Posterize", "Solarize", "AutoContrast", "Equalize")
"""The operations of AugMix's paper: none of them resembles a corruption of the benchmark."""
ALL = (*PLAIN, "Brightness", "Color", "Contrast", "Sharpness")
RANDAUGMENT = ("Identity", *ALL)

_CODE = {name: code for code, name in enumerate(RANDAUGMENT)}
_GREY_LEVELS = np.arange(256, dtype=np.float64)


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
    values = draw.uniform(rows, "operations", 2 * layers)
    level = round(30 * magnitude) / 30
    plan: Plan = []
    for choice, sign in values.reshape(len(rows), layers, 2).transpose(1, 2, 0):
        codes = (choice * len(RANDAUGMENT)).astype(np.int64)
        levels = np.where(sign < 0.5, -level, level)
        plan += operations(np.arange(len(rows)), codes, levels, shape, OF_RANDAUGMENT)
    return plan


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
    chains = values[:, : width * length].reshape(count, width, length).transpose(2, 1, 0).reshape(length, width * count)
    plan: Plan = []
    for layer in range(depth):
        where = np.flatnonzero((chains[0] * depth).astype(np.int64) >= layer)
        choice, step, sign = chains[1 + 3 * layer : 4 + 3 * layer, where]
        levels = (step * severity).astype(np.int64) / 9.0
        codes = known[(choice * len(names)).astype(np.int64)]
        plan += operations(where, codes, np.where(sign < 0.5, -levels, levels), shape, OF_AUGMIX)
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


def operations(where: Indices, codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Plan:
    """One operation for each picture at `where`: RANDAUGMENT[codes] (k,) at levels (k,)."""
    plan: Plan = []
    moved = np.flatnonzero((codes >= _CODE["ShearX"]) & (codes <= _CODE["Rotate"]))
    if len(moved):
        matrices = _matrices(codes[moved], levels[moved], shape, ranges)
        plan.append(Warp(where[moved], matrices, ranges.smooth, "black"))
    tabled = np.flatnonzero(np.isin(codes, (_CODE["Posterize"], _CODE["Solarize"], _CODE["Brightness"])))
    if len(tabled):
        plan.append(Table(where[tabled], _tables(codes[tabled], levels[tabled], ranges)))
    coloured = np.flatnonzero((codes == _CODE["Color"]) | (codes == _CODE["Contrast"]))
    if len(coloured):
        plan.append(_colours(where[coloured], codes[coloured] == _CODE["Contrast"], 1 + 0.9 * levels[coloured]))
    sharpened = np.flatnonzero(codes == _CODE["Sharpness"])
    if len(sharpened):
        plan.append(Sharpen(where[sharpened], 1 + 0.9 * levels[sharpened], TRUNCATED))
    for name, adaptive in (("AutoContrast", Autocontrast), ("Equalize", Equalise)):
        own = np.flatnonzero(codes == _CODE[name])
        if len(own):
            plan.append(adaptive(where[own]))
    return plan


def _matrices(codes: Indices, levels: Floats, shape: tuple[int, int], ranges: Ranges) -> Floats:
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
    for axis, (name, side) in enumerate((("TranslateX", width), ("TranslateY", height))):
        matrices[:, axis, 2] -= np.where(codes == _CODE[name], np.trunc(ranges.reach * side * levels), 0.0)
    if not ranges.smooth:
        matrices[:, :, 2] += NUDGE
    return matrices


def _tables(codes: Indices, levels: Floats, ranges: Ranges) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    level = np.abs(levels)[:, None]
    bits = np.round(ranges.bits - 4 * level).astype(np.int64)
    mask = 256 - (1 << (8 - bits))
    # Rounded, so that a threshold that is a whole number is one in any arithmetic.
    threshold = np.round(255 * (1 - level), 3)
    posterised = np.arange(256)[None, :] & mask
    solarised = np.where(threshold <= _GREY_LEVELS, 255 - _GREY_LEVELS, _GREY_LEVELS)
    brightened = np.clip(np.floor(_GREY_LEVELS * (1 + 0.9 * levels[:, None]) + 1e-6), 0, 255)
    code = codes[:, None]
    tables = np.where(
        code == _CODE["Posterize"], posterised, np.where(code == _CODE["Solarize"], solarised, brightened)
    )
    return tables.astype(np.uint8)


def _colours(where: Indices, contrast: np.ndarray[tuple[int], np.dtype[np.bool_]], factors: Floats) -> Colour:
    """Saturation and contrast: a blend with the grey of each pixel, or with the mean grey of the picture."""
    rest = (1 - factors)[:, None, None] * np.broadcast_to(LUMINANCE, (3, 3))
    grey = np.where(contrast[:, None, None], 0.0, rest)
    means = np.where(contrast[:, None, None], rest, 0.0)
    # torchvision cuts the fraction of the grey level off as well: half a level on average.
    offsets = np.repeat((TRUNCATED - 0.5 * (1 - factors))[:, None], 3, 1)
    return Colour(where, factors[:, None, None] * np.eye(3) + grey, means, offsets)
