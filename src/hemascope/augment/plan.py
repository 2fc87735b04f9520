"""What is to be done to the pixels of a batch, decided beforehand and free of pixels: a plan is a list of operations.

An operation names the pictures it touches (`where`, their positions in the batch) and holds one row of parameters for
each of them. `on_cpu` carries a plan out with OpenCV on uint8 (n, h, w, 3), `on_tensors` with torch on
uint8 (n, 3, h, w); both give the same grey levels within the tolerance that the tests state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

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


@dataclass(frozen=True)
class Warp:
    """Each pixel (x, y, 1) is taken from `matrix @ pixel` of the picture, centres of pixels being whole numbers.

    matrices: (k, 2, 3). smooth: linear between pixels, else the nearest one. fill: what lies outside of a picture.
    """

    where: Indices
    matrices: Floats
    smooth: bool
    fill: Fill


@dataclass(frozen=True)
class Turn:
    """Bit 1 of a pose mirrors left and right, bit 2 top and bottom, bit 4 then swaps rows and columns."""

    where: Indices
    poses: Indices


@dataclass(frozen=True)
class Table:
    """A new grey level for each old one: tables uint8 (k, 256) for all channels, or (k, 3, 256)."""

    where: Indices
    tables: NDArray[np.uint8]


@dataclass(frozen=True)
class Autocontrast:
    """Each channel is stretched from its darkest to its brightest pixel over 0 to 255."""

    where: Indices


@dataclass(frozen=True)
class Equalise:
    """Each channel's grey levels are spread so that each is about as frequent."""

    where: Indices


@dataclass(frozen=True)
class Colour:
    """A linear map of colours: matrices @ pixel + means @ (the picture's mean colour) + offsets, rounded.

    matrices, means: (k, 3, 3). offsets: (k, 3).
    """

    where: Indices
    matrices: Floats
    means: Floats
    offsets: Floats


@dataclass(frozen=True)
class Sharpen:
    """A picture blended with its smoothed self: factor 0 is smoothed, 1 is as it was, 2 is sharpened; factors (k,).

    The smoothing is Pillow's: a 3 x 3 mean whose middle counts five times; the frame of one pixel stays. `shift` is
    added before rounding.
    """

    where: Indices
    factors: Floats
    shift: float


@dataclass(frozen=True)
class Mix:
    """Weighted sums of a picture and of `width` copies of it that `plan` has worked on.

    weights: (k, 1 + width), the picture's own first. The plan's positions are those in a batch of width * k pictures,
    all first copies before all second ones.
    """

    where: Indices
    weights: Floats
    plan: Plan


@dataclass(frozen=True)
class Density:
    """A linear map of optical densities, the negative logarithms of (level + 1) / 256: matrices (k, 3, 3)."""

    where: Indices
    matrices: Floats


@dataclass(frozen=True)
class Filter:
    """Convolution with a kernel of odd sides for each picture, the border mirrored: kernels (k, side, side)."""

    where: Indices
    kernels: Floats


@dataclass(frozen=True)
class Noise:
    """A normal number for every pixel and channel, times the deviation at its grey level: deviations (k, 256).

    states: uint64 (k,), from which `draws.stream` has the numbers.
    """

    where: Indices
    states: NDArray[np.uint64]
    deviations: Floats


@dataclass(frozen=True)
class Impulse:
    """Pixels turned black or white, half of `shares` (k,) each. states: as for Noise."""

    where: Indices
    states: NDArray[np.uint64]
    shares: Floats


@dataclass(frozen=True)
class Paint:
    """A colour laid over the picture: covers uint8 (k, h, w) from 0 (nothing) to 255 (the colour alone).

    colours: (k, 3), or None for the picture's mean colour.
    """

    where: Indices
    covers: NDArray[np.uint8]
    colours: Floats | None


@dataclass(frozen=True)
class Jpeg:
    """Compressed as JPEG with half the resolution of colour, and read again: qualities (k,), 1 to 100."""

    where: Indices
    qualities: Indices


@dataclass(frozen=True)
class Pixelate:
    """Each picture as fewer, larger pixels, the means of what they cover: sides (k, 2), rows and columns of them."""

    where: Indices
    sides: Indices


@dataclass(frozen=True)
class Blend:
    """A share of another picture of the batch in the sum: partners (k,) positions, shares (k,) of the partner."""

    where: Indices
    partners: Indices
    shares: Floats


@dataclass(frozen=True)
class Paste:
    """A rectangle taken from another picture of the batch: partners (k,), boxes (k, 4) top, bottom, left, right."""

    where: Indices
    partners: Indices
    boxes: Indices


Operation = (
    Warp | Turn | Table | Autocontrast | Equalise | Colour | Density | Sharpen | Filter | Noise | Impulse | Paint | Jpeg
    | Pixelate | Mix | Blend | Paste
)  # fmt: skip
Plan = list[Operation]


def nearest(side: int, count: int) -> Indices:
    """Which of `count` large pixels each of `side` small ones lies in: int64 (side,)."""
    return np.arange(side) * count // side


def placed(plan: Plan, positions: Indices) -> Plan:
    """A plan for some pictures, told by the positions (m,) that they have in a larger batch."""
    moved: Plan = []
    for operation in plan:
        if isinstance(operation, Blend | Paste):
            operation = replace(operation, partners=positions[operation.partners])
        moved.append(replace(operation, where=positions[operation.where]))
    return moved
