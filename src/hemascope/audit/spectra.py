"""The low frequencies of pictures: a description that no turn, mirror or shift changes, and a first alignment by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Spectra = NDArray[np.complex64]

POSES = 8
"""Turned by 0 to 3 quarters, then the same after a mirror."""
ZOOMS = (1.0, 1.06, 1.12)
BAND = 8
"""Highest frequency of a spectrum, in cycles for each picture side."""
REACH = 4
"""Largest shift that `coarse_overlay` tries, in STEPS."""
STEPS = 48
"""Steps of shift in a picture side."""

_frequencies = np.arange(-BAND, BAND + 1)
_v, _u = (grid.reshape(-1) for grid in np.meshgrid(_frequencies, _frequencies, indexing="ij"))
# Pictures are real, so that half of the plane says it all; its corners and the mean are left out.
_half = np.flatnonzero(((_v > 0) | ((_v == 0) & (_u > 0))) & (np.hypot(_v, _u) <= BAND + 0.5))
# Cells share their coarse shape; what tells one from another is finer, so that fine frequencies weigh more.
_weights = (np.hypot(_v, _u) ** 1.5)[_half].astype(np.float32)
# What the four poses of a spectrum's size have in common is found in one eighth of the plane.
_eighth = np.flatnonzero((_u >= 0) & (_v >= _u) & (_v > 0) & (np.hypot(_v, _u) <= BAND))


@dataclass(frozen=True)
class Overlay:
    """How the second picture of each of n pairs is laid over the first.

    pose: int64 (n,), one of POSES. scale, shift: float64 (n, 2), down and across: the point p of the first picture
    (in parts of a side, from the middle) lies at p * scale + shift of the posed second one.
    agreement: float64 (n,), the correlation of the two there, up to 1.
    """

    pose: NDArray[np.int64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    agreement: NDArray[np.float64]

    def take(self, pairs: Any) -> Overlay:
        """The overlay of some of the pairs."""
        return Overlay(self.pose[pairs], self.scale[pairs], self.shift[pairs], self.agreement[pairs])

    @staticmethod
    def plain(count: int) -> Overlay:
        """Every picture as it lies."""
        return Overlay(np.zeros(count, np.int64), np.ones((count, 2)), np.zeros((count, 2)), np.ones(count))

    @staticmethod
    def concatenate(overlays: Sequence[Overlay]) -> Overlay:
        """The pairs of all, one after the other."""
        if not overlays:
            return Overlay.plain(0)
        return Overlay(
            np.concatenate([one.pose for one in overlays]),
            np.concatenate([one.scale for one in overlays]),
            np.concatenate([one.shift for one in overlays]),
            np.concatenate([one.agreement for one in overlays]),
        )


def posed(images: NDArray[Any], pose: int) -> NDArray[Any]:
    """Pictures (n, height, width, ...) in one of the POSES, a view."""
    return np.rot90(images[:, :, ::-1] if pose >= 4 else images, pose % 4, (1, 2))


def spectra(planes: Floats, zoom: float = 1.0) -> Spectra:
    """The low frequencies of pictures, their border faded out, as if magnified by `zoom` around the middle.

    planes: float32 (n, side, side). Returns complex64 (n, 2 BAND + 1, 2 BAND + 1), the mean in the middle. A turn or
    a mirror of a picture is the same turn or mirror of its spectrum; a shift changes little but the phase.
    """
    count, side = planes.shape[:2]
    window = np.hanning(side + 2)[1:-1]
    place = (np.arange(side) - (side - 1) / 2) / side
    waves = (np.exp(-2j * np.pi * zoom * np.outer(_frequencies, place)) * window).astype(np.complex64)
    fade = (window / window.sum()).astype(np.float32)
    planes = planes - ((planes @ fade) @ fade)[:, None, None]
    right = waves[BAND:]
    across = planes.reshape(-1, side) @ np.concatenate([right.real, right.imag]).T
    across = np.ascontiguousarray(across.reshape(count, side, -1).transpose(0, 2, 1)).reshape(-1, side)
    both = (across @ np.concatenate([waves.real, waves.imag]).T).reshape(count, 2, BAND + 1, 2, -1)
    half = (both[:, 0, :, 0] - both[:, 1, :, 1]) + 1j * (both[:, 0, :, 1] + both[:, 1, :, 0])
    left = half[:, :0:-1, ::-1].conj()
    return np.concatenate([left, half], axis=1).transpose(0, 2, 1)


def packed(spectrum: Spectra) -> Spectra:
    """The half of each spectrum that `coarse_overlay` reads, weighted and brought to length 1: (n, frequencies)."""
    half = spectrum.reshape(len(spectrum), -1)[:, _half] * _weights
    return np.asarray(half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6))


def description(channels: list[Spectra]) -> Floats:
    """What no turn or mirror changes of the sizes of some spectra, brought to length 1: float32 (n, features).

    A turn by 180 degrees leaves the sizes as they are, so that four poses remain. The mean over them and the sizes of
    the three other ways to sum them with two signs each stay when the poses change places.
    """
    features = []
    for spectrum in channels:
        size = np.abs(spectrum)
        plain, turned = size, posed(size, 1)
        mirrored, both = posed(size, 4), posed(size, 5)
        sums, others = plain + turned, mirrored + both
        plain_sum, crossed = plain + mirrored, turned + both
        slanted = plain + both - turned - mirrored
        for feature in (sums + others, sums - others, plain_sum - crossed, slanted):
            features.append(np.abs(feature).reshape(len(size), -1)[:, _eighth])
    together = np.concatenate(features, axis=1)
    return np.asarray(together / np.maximum(np.linalg.norm(together, axis=1, keepdims=True), 1e-6), np.float32)


def _posed_halves() -> tuple[NDArray[np.int64], Floats]:
    """For each pose, where its frequencies stand in a packed spectrum, and the sign of the imaginary part there."""
    number = np.full(len(_v), -1)
    number[_half] = np.arange(len(_half))
    grid = np.arange(len(_v)).reshape(1, len(_frequencies), -1)
    at = np.stack([posed(grid, pose).reshape(-1)[_half] for pose in range(POSES)])
    opposite = number[at] < 0
    sign = np.ones((*at.shape, 2), np.float32)
    sign[opposite, 1] = -1
    return number[np.where(opposite, len(_v) - 1 - at, at)], sign.reshape(POSES, -1)


_places, _signs = _posed_halves()
_steps = np.arange(-REACH, REACH + 1) / STEPS
_down, _across = (grid.reshape(-1) for grid in np.meshgrid(_steps, _steps, indexing="ij"))
_phases = 2 * np.pi * (np.outer(_v[_half], _down) + np.outer(_u[_half], _across))
_shifts = np.stack([np.cos(_phases), -np.sin(_phases)], axis=1).reshape(-1, len(_down)).astype(np.float32)


def coarse_overlay(first: Mapping[float, Spectra], second: Mapping[float, Spectra]) -> Overlay:
    """The best of all POSES, of ZOOMS of either picture and of the shifts up to REACH.

    first, second: for each of ZOOMS the `packed` spectra (n, frequencies) of the two pictures of each pair. The pose
    is chosen without a zoom: a small one leaves the right pose the best, so that only that is tried with others.
    """
    count = len(first[1.0])
    rows = np.arange(count)
    posed_all = np.take(second[1.0], _places, axis=1)
    correlation = _correlations(first[1.0][:, None], posed_all, _signs).reshape(count, -1)
    at = correlation.argmax(1)
    pose, place = np.divmod(at, len(_down))
    shift = np.stack([_down[place], _across[place]], 1)
    best = Overlay(pose, np.ones((count, 2)), shift, correlation[rows, at].astype(np.float64))
    places, signs = _places[pose], _signs[pose]
    for zoom_first, zoom_second in [*((z, 1.0) for z in ZOOMS[1:]), *((1.0, z) for z in ZOOMS[1:])]:
        one_pose = np.take_along_axis(second[zoom_second], places, axis=1)
        correlation = _correlations(first[zoom_first], one_pose, signs)
        place = correlation.argmax(1)
        agreement = correlation[rows, place]
        better = agreement > best.agreement
        best.scale[better] = zoom_first / zoom_second
        best.shift[better] = np.stack([_down[place], _across[place]], 1)[better] / zoom_second
        best.agreement[better] = agreement[better]
    return best


def _correlations(first: Spectra, second: Spectra, signs: Floats) -> Floats:
    """The correlation at each of the shifts: (rows, shifts). second: an array of its own, which is changed."""
    second.view(np.float32)[:] *= signs
    second *= first.conj()
    return np.asarray(second.view(np.float32).reshape(-1, len(_shifts)) @ _shifts)
