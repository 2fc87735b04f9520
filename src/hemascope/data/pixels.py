"""Numbers of any kind to 8-bit RGB: grey, transparency, 16 bit, floats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images

# A picture below this many pixels wide or high shows no cell.
MIN_SIDE = 8
# Resampling and float rounding overshoot a range by less than half a grey level.
_HALF_LEVEL = 0.5
# The largest value of a 12-bit camera: a 16-bit file that stays below it was never stretched to 16 bits.
_TWELVE_BIT = 4095


def over_white(rgba: NDArray[np.uint8]) -> Images:
    """Transparent pictures laid on white. rgba: uint8 (..., 4), not premultiplied. Returns uint8 (..., 3)."""
    alpha = rgba[..., 3:].astype(np.uint32)
    mixed = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def from_16_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """0..65535 scaled to 0..255, rounded to the nearest."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _rounded(values: NDArray[Any], factor: float) -> NDArray[np.uint8]:
    return np.floor(np.clip(values * factor, 0.0, 255.0) + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Scale:
    """How the numbers of one array become 0..255, and what to say about it (empty when nothing had to be done)."""

    to_bytes: Callable[[NDArray[Any]], NDArray[np.uint8]]
    note: str = ""


def scale_for(dtype: np.dtype[Any], low: float, high: float) -> Scale | None:
    """The scale of an array from its dtype and its smallest and largest value; None when the range is not clear.

    uint8 is taken as it is. Floats are taken in 0..1 or in 0..255, other integers in 0..255, uint16 also as 16 bit.
    """
    span = f"{low:.6g} to {high:.6g}"
    if dtype == np.uint8:
        return Scale(lambda values: values)
    if dtype.kind == "f":
        if low >= -_HALF_LEVEL / 255 and high <= 1 + _HALF_LEVEL / 255:
            return Scale(
                lambda values: _rounded(values, 255.0), f"Floats from {span} were read as 0 to 1 and scaled to 8 bits."
            )
        # Between 1 and a few grey levels nobody can say whether 1 or 255 is white.
        if low >= -_HALF_LEVEL and 16 <= high <= 255 + _HALF_LEVEL:
            return Scale(
                lambda values: _rounded(values, 1.0), f"Floats from {span} were read as 0 to 255 and rounded to 8 bits."
            )
        return None
    if dtype.kind not in "iu" or low < 0:
        return None
    if high <= 255:
        return Scale(
            lambda values: values.astype(np.uint8), f"Integers ({dtype.name}) from {span} were read as 0 to 255."
        )
    if dtype == np.uint16 and high > _TWELVE_BIT:
        return Scale(from_16_bit, f"16-bit values from {span} were scaled to 8 bits.")
    return None


def expected_ranges(dtype: np.dtype[Any]) -> str:
    """The ranges that `scale_for` takes for this dtype, in words."""
    if dtype.kind == "f":
        return "floats in 0..1 or 0..255"
    return (
        "16-bit values that use the range to 65,535, or values in 0..255" if dtype == np.uint16 else "values in 0..255"
    )


def to_rgb(values: NDArray[np.uint8]) -> Images:
    """Three channels from one (grey), three, or four (over white). values: uint8 (..., channels)."""
    channels = values.shape[-1]
    if channels == 4:
        return over_white(values)
    return np.repeat(values, 3, axis=-1) if channels == 1 else values
