"""What is to be done to the pixels of a batch, decided beforehand and free of pixels: a plan is a list of operations.

An operation names the pictures it touches (`where`, their positions in the batch, ascending) and holds one row of
parameters for each of them. `by_numba` and `by_opencv` carry a plan out on uint8 (n, h, w, 3), `on_tensors` with torch
on uint8 (n, 3, h, w); all give the same grey levels within the tolerance that the tests state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Fill = Literal["black", "reflect"]

TRUNCATED = -0.498
"""Added before rounding to the nearest where torchvision cuts the fraction off; short of a half, so that whole numbers
stay what they are."""

NUDGE = 2.0**-11
"""Of a pixel, added to where the nearest pixel is sought: of two equally near, every device then takes the same one."""

DENSITIES = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""The optical density of each grey level."""

QUANTILES = ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)
"""The normal number that stands for each number below 2**16."""


class Warp(NamedTuple):
    """Each pixel (x, y, 1) is taken from `matrix @ pixel` of the picture, centres of pixels being whole numbers.

    matrices: (k, 2, 3). smooth: linear between pixels, else the nearest one. fill: what lies outside of a picture.
    """

    where: Indices
    matrices: Floats
    smooth: bool
    fill: Fill


class Shift(NamedTuple):
    """A picture moved by whole pixels, black coming in: moves (k, 2), to the right and down."""

    where: Indices
    moves: Indices


class Turn(NamedTuple):
    """Bit 1 of a pose mirrors left and right, bit 2 top and bottom, bit 4 then swaps rows and columns."""

    where: Indices
    poses: Indices


class Table(NamedTuple):
    """A new grey level for each old one: tables uint8 (k, 256) for all channels, or (k, 3, 256)."""

    where: Indices
    tables: NDArray[np.uint8]


class Autocontrast(NamedTuple):
    """Each channel is stretched from its darkest to its brightest pixel over 0 to 255."""

    where: Indices


class Equalise(NamedTuple):
    """Each channel's grey levels are spread so that each is about as frequent."""

    where: Indices


class Colour(NamedTuple):
    """A linear map of colours: matrices @ pixel + means @ (the picture's mean colour) + offsets, rounded.

    matrices, means: (k, 3, 3). offsets: (k, 3).
    """

    where: Indices
    matrices: Floats
    means: Floats
    offsets: Floats


class Sharpen(NamedTuple):
    """A picture blended with its smoothed self: factor 0 is smoothed, 1 is as it was, 2 is sharpened; factors (k,).

    The smoothing is Pillow's: a 3 x 3 mean whose middle counts five times; the frame of one pixel stays. `shift` is
    added before rounding.
    """

    where: Indices
    factors: Floats
    shift: float


class Mix(NamedTuple):
    """Weighted sums of a picture and of `width` copies of it that `plan` has worked on.

    weights: (k, 1 + width), the picture's own first. The plan's positions are those in a batch of k * width pictures,
    the copies of one after the other.
    """

    where: Indices
    weights: Floats
    plan: Plan


class Density(NamedTuple):
    """A linear map of optical densities, the negative logarithms of (level + 1) / 256: matrices (k, 3, 3)."""

    where: Indices
    matrices: Floats


class Filter(NamedTuple):
    """Convolution with a kernel of odd sides for each picture, the border mirrored: kernels (k, side, side)."""

    where: Indices
    kernels: Floats


class Noise(NamedTuple):
    """A normal number for every pixel and channel, times the deviation at its grey level: deviations (k, 256).

    states: uint64 (k,), from which `draws.stream` has the numbers.
    """

    where: Indices
    states: NDArray[np.uint64]
    deviations: Floats


class Impulse(NamedTuple):
    """Pixels turned black or white, half of `shares` (k,) each. states: as for Noise."""

    where: Indices
    states: NDArray[np.uint64]
    shares: Floats


class Paint(NamedTuple):
    """A colour laid over the picture: covers uint8 (k, h, w) from 0 (nothing) to 255 (the colour alone).

    colours: (k, 3), or None for the picture's mean colour.
    """

    where: Indices
    covers: NDArray[np.uint8]
    colours: Floats | None


class Jpeg(NamedTuple):
    """Compressed as JPEG with half the resolution of colour, and read again: qualities (k,), 1 to 100."""

    where: Indices
    qualities: Indices


class Pixelate(NamedTuple):
    """Each picture as fewer, larger pixels, the means of what they cover: sides (k, 2), rows and columns of them."""

    where: Indices
    sides: Indices


class Blend(NamedTuple):
    """A share of another picture of the batch in the sum: partners (k,) positions, shares (k,) of the partner."""

    where: Indices
    partners: Indices
    shares: Floats


class Paste(NamedTuple):
    """A rectangle taken from another picture of the batch: partners (k,), boxes (k, 4) top, bottom, left, right."""

    where: Indices
    partners: Indices
    boxes: Indices


Operation = (
    Warp | Shift | Turn | Table | Autocontrast | Equalise | Colour | Density | Sharpen | Filter | Noise | Impulse
    | Paint | Jpeg | Pixelate | Mix | Blend | Paste
)  # fmt: skip
Plan = list[Operation]


def sharpening_weights(factor: Floats | float) -> tuple[Any, Any]:
    """The weights of a pixel and of the plain mean of the nine about it, in Sharpen's blend."""
    return factor + (1 - factor) * 4 / 13, (1 - factor) * 9 / 13


def nearest(side: int, count: int) -> Indices:
    """Which of `count` large pixels each of `side` small ones lies in: int64 (side,)."""
    return np.arange(side) * count // side


def placed(plan: Plan, positions: Indices) -> Plan:
    """A plan for some pictures, told by the positions (m,), ascending, that they have in a larger batch."""
    moved: Plan = []
    for operation in plan:
        if isinstance(operation, Blend | Paste):
            operation = operation._replace(partners=positions[operation.partners])
        moved.append(operation._replace(where=positions[operation.where]))
    return moved


def divided(plan: Plan, bounds: Sequence[int]) -> list[Plan]:
    """A plan that mixes no pictures as one for each stretch of the batch between two bounds, counted from its start."""
    parts: list[Plan] = [[] for _ in bounds[1:]]
    for operation in plan:
        cuts = operation.where.searchsorted(bounds).tolist()
        kind: Any = type(operation)
        for part, first, start, end in zip(parts, bounds, cuts, cuts[1:], strict=False):
            if start == end:
                continue
            rows = [values[start:end] if isinstance(values, np.ndarray) else values for values in operation]
            rows[0] = operation.where[start:end] - first
            if isinstance(operation, Mix):
                width = operation.weights.shape[1] - 1
                (rows[2],) = divided(operation.plan, (start * width, end * width))
            part.append(kind(*rows))
    return parts
