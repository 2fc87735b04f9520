"""What is to be done to the pixels of a batch, decided beforehand and free of pixels: a plan is a list of operations.

An operation names the pictures it touches (`where`, their positions in the batch) and holds one row of parameters for
each of them. `on_cpu` carries a plan out with OpenCV on uint8 (n, h, w, 3), `on_tensors` with torch on
uint8 (n, 3, h, w); both give the same grey levels within the tolerance that the tests state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Fill = Literal["black", "reflect", "background"]

TRUNCATED = -0.498
"""Added before rounding to the nearest where torchvision cuts the fraction off; short of a half, so that whole numbers
stay what they are."""


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


Operation = Warp | Turn | Table | Autocontrast | Equalise | Colour | Sharpen | Mix
Plan = list[Operation]


def placed(plan: Plan, positions: Indices) -> Plan:
    """The plan for pictures of which the first stands at positions[0] of a larger batch, and so on."""
    return [replace(operation, where=positions[operation.where]) for operation in plan]


def chosen(where: Indices, *parameters: NDArray[Any]) -> tuple[Indices, list[NDArray[Any]]]:
    """Those parameters that stand at `where`."""
    return where, [values[where] for values in parameters]


def joined(plans: Sequence[Plan]) -> Plan:
    """One plan after the other."""
    return [operation for plan in plans for operation in plan]
