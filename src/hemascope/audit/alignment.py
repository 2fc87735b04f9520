"""Lay one picture of a cell over another as exactly as it goes, and say how alike they are there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.spectra import Floats, Overlay, posed

LARGEST_ZOOM, LARGEST_SHIFT = 1.25, 0.2
"""How far apart two pictures may lie: the ratio of their scales, and the shift in parts of a side."""

_LARGEST_STEP = 0.05
# Widths of Gaussians, in parts of a side. What is finer than the first is left out, since compression and resizing
# lose it. So is what is coarser than the second, in aligning, or the third, in comparing: cells of a kind share it.
_FINE, _COARSE_TO_ALIGN, _COARSE_TO_COMPARE = 0.022, 0.08, 0.05
# The size of a part of a cell.
_PART = 0.1
# Three grey levels, squared: what recompression may leave where a picture is flat.
_NOISE_VARIANCE = 9.0
# Values this near to black or white may have been cut off there.
_CLIPPED = 4
# A shifted picture shows at its border what was not there: pictures are compared without it, and parts further inside.
_BORDER, _RAMP, _INNER_WINDOW = 0.08, 0.2, 0.6


class Likeness(NamedTuple):
    """similarity: float (n,) in [0, 1]. gain, levels: float (n,), how much more contrast and how many grey levels
    more the first picture of each pair has than the second."""

    similarity: NDArray[np.float64]
    gain: NDArray[np.float64]
    levels: NDArray[np.float64]


def sampled(planes: Floats, side: int, overlay: Overlay | None = None) -> Floats:
    """Pictures (n, height, height) as they lie under an overlay, or as they are: float32 (n, side, side).

    They are smoothed where they shrink, and go on beyond their border as they are there.
    """
    count, source = planes.shape[:2]
    overlay = Overlay.plain(count) if overlay is None else overlay
    turned = np.empty(planes.shape, np.float32)
    for pose in np.unique(overlay.pose):
        rows = overlay.pose == pose
        turned[rows] = posed(planes[rows], int(pose))
    down, across = (_sampling(source, side, overlay.scale[:, axis], overlay.shift[:, axis]) for axis in (0, 1))
    return np.asarray(down @ turned @ across.transpose(0, 2, 1))


def _sampling(source: int, side: int, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Floats:
    """Matrices (n, side, source) that read one side of each picture at p * scale + shift of `Overlay`."""
    place = (_points(side, scale, shift) + 0.5) * source - 0.5
    place = np.clip(place, 0, source - 1)[:, :, None].astype(np.float32)
    reach = np.maximum(source / side * scale, 1.0)[:, None, None].astype(np.float32)
    weights = np.maximum(1 - np.abs(place - np.arange(source, dtype=np.float32)) / reach, 0)
    return np.asarray(weights / weights.sum(2, keepdims=True))


def _points(side: int, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    middles = (np.arange(side) + 0.5) / side - 0.5
    return np.asarray(middles * scale[:, None] + shift[:, None])


@lru_cache
def _gaussian(side: int, width: float) -> Floats:
    place = np.arange(side) / side
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * width**2))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _smooth(planes: NDArray[Any], width: float) -> Floats:
    kernel = _gaussian(planes.shape[-1], width)
    return np.asarray(kernel @ planes @ kernel.T)


def _details(planes: Floats, coarse: float) -> Floats:
    return _smooth(planes, _FINE) - _smooth(planes, coarse)


def _window(fade: NDArray[np.float64], overlay: Overlay) -> Floats:
    """How much each place counts: (n, side, side), by `fade` down and across, nothing where a picture has ended."""
    down, across = (
        fade * (np.abs(_points(len(fade), overlay.scale[:, axis], overlay.shift[:, axis])) <= 0.5) for axis in (0, 1)
    )
    return np.asarray(down[:, :, None] * across[:, None], np.float32)


def _fade_to_align(side: int) -> NDArray[np.float64]:
    return np.hanning(side + 2)[1:-1]


def _fade_to_compare(side: int) -> NDArray[np.float64]:
    from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) / side
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip((from_border - _BORDER) / _RAMP, 0, 1)))


def _sum(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values.sum((1, 2), dtype=np.float64))


def _over_pixels(values: NDArray[np.float64]) -> Floats:
    """One value for each picture, to be spread over its pixels."""
    return values.astype(np.float32)[:, None, None]


def _correlation(first: Floats, second: Floats, window: Floats) -> NDArray[np.float64]:
    sizes = _sum(window * first * first) * _sum(window * second * second)
    return np.asarray(_sum(window * first * second) / np.sqrt(np.maximum(sizes, 1e-6)))


def fine_overlay(first: Floats, second: Floats, overlay: Overlay, *, side: int, steps: int = 2) -> Overlay:
    """A better scale and shift, each for down and across, by Gauss-Newton on the details of the two pictures.

    first, second: (n, height, height), the lightness of the two pictures of each pair, compared at `side` pixels.
    Returns the overlay with the correlation of the details as its agreement. Lucas and Kanade, An iterative image
    registration technique with an application to stereo vision, 1981.
    """
    wanted = _details(sampled(first, side), _COARSE_TO_ALIGN)
    middles = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    scale, shift = overlay.scale, overlay.shift
    for step in range(steps + 1):
        overlay = Overlay(overlay.pose, scale, shift, overlay.agreement)
        found = _details(sampled(second, side, overlay), _COARSE_TO_ALIGN)
        window = _window(_fade_to_align(side), overlay)
        if step == steps:
            break
        energy = np.maximum(_sum(window * found * found), 1e-6)
        gain = _over_pixels(_sum(window * wanted * found) / energy)
        steepness = gain * np.float32(side)
        down, across = (np.asarray(slope) * steepness for slope in np.gradient(found, axis=(1, 2)))
        down, across = down / _over_pixels(scale[:, 0]), across / _over_pixels(scale[:, 1])
        slopes = np.stack([down * middles[:, None], across * middles, down, across, found], 1)
        slopes = slopes.reshape(len(found), 5, -1)
        weighted = slopes * window.reshape(len(found), 1, -1)
        missing = (wanted - gain * found).reshape(len(found), -1, 1)
        normal = (weighted @ slopes.transpose(0, 2, 1)).astype(np.float64)
        # A picture without details has no slopes: the small addition keeps it where it is.
        normal = normal * (1 + 1e-3 * np.eye(5)) + 1e-6 * np.eye(5)
        change = np.linalg.solve(normal, (weighted @ missing).astype(np.float64))[:, :4, 0]
        change = np.clip(change, -_LARGEST_STEP, _LARGEST_STEP)
        scale = np.clip(scale + change[:, :2], 1 / LARGEST_ZOOM, LARGEST_ZOOM)
        shift = np.clip(shift + change[:, 2:], -LARGEST_SHIFT, LARGEST_SHIFT)
    return Overlay(overlay.pose, scale, shift, _correlation(wanted, found, window))


def likeness(first: Floats, second: Floats, overlay: Overlay, *, side: int) -> Likeness:
    """How alike two pictures are as they lie, once their brightness and contrast agree.

    first, second: (n, height, height), their lightness. The similarity is the correlation of their details less a
    tenth of what stays unexplained in the part of the cell where that is most: two cells of one kind may agree in
    most of their parts, copies agree in all.
    """
    one, other = sampled(first, side), sampled(second, side, overlay)
    window = _window(_fade_to_compare(side), overlay)
    whole = (np.minimum(one, other) > _CLIPPED) & (np.maximum(one, other) < 255 - _CLIPPED)
    weight = window * (whole + np.float32(1e-3))
    weight = weight / _over_pixels(np.maximum(_sum(weight), 1e-6))
    mean_one, mean_other = _sum(weight * one), _sum(weight * other)
    spread = np.maximum(_sum(weight * other * other) - mean_other**2, 1e-3)
    gain = np.clip((_sum(weight * one * other) - mean_one * mean_other) / spread, 0.5, 2.0)
    offset = mean_one - gain * mean_other
    other = _over_pixels(gain) * other + _over_pixels(offset)
    # What brightening cut off in one picture is cut off in the other too.
    black, white = _over_pixels(np.maximum(0, offset)), _over_pixels(np.minimum(255, 255 * gain + offset))
    one, other = np.clip(one, black, white), np.clip(other, black, white)
    one, other = _details(one, _COARSE_TO_COMPARE), _details(other, _COARSE_TO_COMPARE)
    missing = _smooth(window * (one - other) ** 2, _PART)
    energy = _smooth(window * (one**2 + other**2) / 2, _PART)
    noise = _NOISE_VARIANCE * _smooth(window, _PART) + 1e-3
    unexplained = np.where(window >= _INNER_WINDOW, missing / (energy + noise), 0).max((1, 2))
    similarity = np.clip(_correlation(one, other, window) - unexplained / 10, 0, 1)
    return Likeness(similarity, gain, mean_one - mean_other)


def changes(overlay: Overlay, likeness: Likeness, side: int) -> list[list[str]]:
    """For each pair, what makes the first picture of the second: "turned by 90 degrees", "6 grey levels brighter".

    side: of the pictures, in pixels. Turns are counter-clockwise and come after the mirror.
    """
    found = []
    for pair, pose in enumerate(overlay.pose):
        words = ["mirrored"] if pose >= 4 else []
        words += [f"turned by {90 * (pose % 4)} degrees"] if pose % 4 else []
        moved = float(np.hypot(*overlay.shift[pair])) * side
        words += [f"moved by {moved:.0f} pixel{'s' if round(moved) > 1 else ''}"] if moved >= 0.75 else []
        zoom = 1 / float(np.sqrt(overlay.scale[pair].prod()))
        words += [f"zoomed {'in' if zoom > 1 else 'out'} by {abs(zoom - 1):.0%}"] if abs(zoom - 1) >= 0.015 else []
        levels = float(likeness.levels[pair])
        if abs(levels) >= 1.5:
            words.append(f"{abs(levels):.0f} grey levels {'brighter' if levels > 0 else 'darker'}")
        gain = float(likeness.gain[pair])
        if abs(gain - 1) >= 0.05:
            words.append(f"{abs(gain - 1):.0%} {'more' if gain > 1 else 'less'} contrast")
        found.append(words)
    return found
