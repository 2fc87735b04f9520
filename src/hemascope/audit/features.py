"""Numbers that describe each picture: a few of the picture itself, and some hundreds of the cell in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hemascope.data.cells import Cells, Images
from hemascope.resize import resize

STATISTICS = ("mean", "contrast", "sharpness", "saturation", "entropy", "range")
THREADS = 2
SIDE = 96
"""The side in pixels at which cells are described, so that one scale means the same in every set."""

Floats = NDArray[np.float32]
Result = TypeVar("Result")

# Small enough for a step's intermediate results to stay in a core's cache.
_STEP = 8
# Grey levels and their squares, for the moments of a histogram.
_POWERS = np.arange(256.0)[:, None] ** (1, 2)
_LEVELS = 4
_RINGS = (0.25, 0.5, 0.75, 1.0)
# What passes for stained: below these densities there is only glass, plasma or a red cell.
_NUCLEUS_DENSITY = 0.35
_CYTOPLASM_DENSITY = 0.22


def over_batches(
    cells: Cells, function: Callable[[Images], Result], threads: int = THREADS, size: int = 256
) -> Iterator[tuple[slice, Result]]:
    """Apply a function to every batch of pictures, in order, on several threads and in bounded memory.

    The pictures are read by the calling thread alone, as a reader of chunks need not be safe for several. NumPy lets
    go of the interpreter while it computes, so threads are enough; those of its matrix products would only be in their
    way.
    """
    waiting: deque[tuple[slice, Future[Result]]] = deque()
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        for rows, images in cells.batches(size):
            waiting.append((rows, pool.submit(function, images)))
            if len(waiting) > threads:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def picture_statistics(cells: Cells, threads: int = THREADS) -> dict[str, Floats]:
    """What can be said of any picture, whatever it shows.

    A grey level is 0.299 red + 0.587 green + 0.114 blue, rounded to a whole one. Returns a dict from each of
    STATISTICS to float32 (n,):
    mean: the mean grey level, 0 to 255;
    contrast: the standard deviation of the grey levels;
    sharpness: the standard deviation of their Laplacian inside the border, small in a blurred picture and large in
    noise;
    saturation: the mean of (max - min) / max over the three channels, 0 to 1;
    entropy: of the histogram of grey levels, 0 to 8 bits;
    range: the largest difference between two pixels in one channel, 0 to 255; 0 in a picture of one colour.
    """
    found = np.zeros((len(cells), len(STATISTICS)), np.float32)
    for rows, values in over_batches(cells, lambda images: _stepwise(images, _statistics), threads):
        found[rows] = values
    return {name: np.ascontiguousarray(found[:, column]) for column, name in enumerate(STATISTICS)}


def cell_features(cells: Cells, threads: int = THREADS) -> Floats:
    """Colour, texture and form of each cell, for telling classes apart without a network.

    Returns float32 (n, features). Pictures are turned into optical density over the glass behind the cell, so that
    brightness and the white balance matter little, and seen at four scales, each half as fine as the one before. At
    each scale four measures are taken that do not change when the cell is turned or mirrored: the density, the size
    of its gradient and the two eigenvalues of its Hessian, which tell blobs, ridges and flat areas apart. Each is
    averaged over four rings around the centre, and over nucleus and cytoplasm, found by their stain, with its
    standard deviation there. Freeman and Adelson, The design and use of steerable filters, 1991, and Schmid and Mohr,
    Local grayvalue invariants for image retrieval, 1997, for such invariants.
    """
    found = np.zeros((len(cells), feature_count()), np.float32)
    for rows, values in over_batches(cells, lambda images: _stepwise(images, _describe), threads):
        found[rows] = values
    return found


def feature_count() -> int:
    """How many numbers `cell_features` gives for a picture."""
    return int(_describe(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1])


def _stepwise(images: Images, function: Callable[[Images], Floats]) -> Floats:
    return np.concatenate([function(images[at : at + _STEP]) for at in range(0, len(images), _STEP)])


def _statistics(images: Images) -> Floats:
    count, height, width = images.shape[:3]
    # One tall picture, so that a few calls serve them all.
    tall = np.ascontiguousarray(images).reshape(count * height, width, 3)
    grey = cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY).reshape(count, height, width)
    levels = np.stack([cv2.calcHist([one], [0], None, [256], [0, 256]).reshape(-1) for one in grey]).astype(np.float64)
    levels /= height * width
    mean, square = (levels @ _POWERS).T
    return np.stack(
        [
            mean,
            np.sqrt(np.maximum(square - mean * mean, 0)),
            _sharpness(grey),
            _saturation(tall).reshape(count, -1).mean(1),
            -(levels * np.log2(levels, out=np.zeros_like(levels), where=levels > 0)).sum(1),
            _range(images),
        ],
        axis=1,
    ).astype(np.float32)


def _sharpness(grey: NDArray[Any]) -> Floats:
    count, height, width = grey.shape
    laplacian = cv2.Laplacian(grey.reshape(-1, width), cv2.CV_32F).reshape(grey.shape)
    # At its border a picture has no Laplacian: there, the next one in the tall picture was looked at.
    laplacian[:, [0, -1]] = 0
    laplacian[:, :, [0, -1]] = 0
    flat = laplacian.reshape(count, 1, -1)
    inside = (height - 2) * (width - 2)
    mean, square = flat.sum((1, 2)) / inside, (flat @ flat.transpose(0, 2, 1))[:, 0, 0] / inside
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)))


def _saturation(picture: Images) -> Floats:
    red, green, blue = cv2.split(picture)
    high, low = (pick(pick(red, green), blue) for pick in (cv2.max, cv2.min))
    return np.asarray(cv2.divide(cv2.subtract(high, low), np.maximum(high, 1), dtype=cv2.CV_32F))


def _range(images: Images) -> NDArray[Any]:
    count, height, width = images.shape[:3]
    rows = images.reshape(count, height, width * 3)
    high, low = (pick(rows, 1).reshape(count, width, 3) for pick in (np.max, np.min))
    return np.asarray((high.max(1) - low.min(1)).max(1))


def _describe(images: Images) -> Floats:
    images = resize(images, SIDE) if images.shape[1:3] != (SIDE, SIDE) else images
    count = len(images)
    level = _smoothed(_densities(images))
    nucleus, cytoplasm = _compartments(level)
    found = [np.stack([nucleus.mean((1, 2)), cytoplasm.mean((1, 2))], 1)]
    masks = np.stack([nucleus, cytoplasm], 1)
    for scale in range(_LEVELS):
        if scale:
            level, masks = _halved(level), _halved(masks)
        measures = _invariants(level).reshape(count, -1, (level.shape[2] - 2) * (level.shape[3] - 2))
        inner = masks[:, :, 1:-1, 1:-1].reshape(count, 2, -1)
        weights = inner / (inner.sum(2, keepdims=True) + 1)
        mean = measures @ weights.transpose(0, 2, 1)
        square = (measures * measures) @ weights.transpose(0, 2, 1)
        deviation = np.sqrt(np.maximum(square - mean * mean, 0))
        ring = measures @ _rings(level.shape[2], level.shape[3])
        found.append(np.concatenate([ring, mean, deviation], 2).reshape(count, -1))
    return np.concatenate(found, 1)


def _densities(images: Images) -> Floats:
    """(n, 3, side, side): density in red, where nuclei are dark; what green has more, as eosin; density in blue."""
    count = len(images)
    sample = images[:, 1::3, 1::3].reshape(count, -1, 3)
    glass = np.partition(sample, int(0.95 * sample.shape[1]), axis=1)[:, int(0.95 * sample.shape[1])]
    light = np.log(images.transpose(0, 3, 1, 2).astype(np.float32) + 1)
    density = np.maximum(np.log(glass.astype(np.float32) + 1)[:, :, None, None] - light, 0)
    density[:, 1] -= density[:, 0]
    return np.asarray(density)


def _compartments(level: Floats) -> tuple[Floats, Floats]:
    """Two masks (n, side, side) of 0 and 1: nucleus and cytoplasm."""
    red = level[:, 0]
    nucleus = red > np.maximum(_otsu(red), _NUCLEUS_DENSITY)[:, None, None]
    cytoplasm = (red + 0.6 * level[:, 1] > _CYTOPLASM_DENSITY) & ~nucleus & (_radius(*red.shape[1:]) < _RINGS[-1])
    return nucleus.astype(np.float32), cytoplasm.astype(np.float32)


def _otsu(values: Floats, bins: int = 64, top: float = 3.0) -> NDArray[np.float64]:
    """The threshold (n,) that parts each picture's values best in two. Otsu, 1979."""
    count = len(values)
    place = np.minimum(values[:, 1::3, 1::3].reshape(count, -1) * (bins / top), bins - 1).astype(np.int64)
    place += bins * np.arange(count)[:, None]
    histogram = np.bincount(place.reshape(-1), minlength=bins * count).reshape(count, bins).astype(np.float64)
    below, total = histogram.cumsum(1), histogram.sum(1, keepdims=True)
    moment = (histogram * np.arange(bins)).cumsum(1)
    between = (moment[:, -1:] * below / total - moment) ** 2 / np.maximum(below * (total - below), 1)
    return np.asarray((between.argmax(1) + 1) * (top / bins))


def _smoothed(level: Floats) -> Floats:
    return _filtered(level, (1, 2, 1), 1)


def _halved(level: Floats) -> Floats:
    # An even number of taps lies evenly about each pair of pixels, so that a mirrored picture gives a mirrored half.
    return _filtered(level, (1, 5, 10, 10, 5, 1), 2)


def _filtered(level: Floats, taps: tuple[int, ...], step: int) -> Floats:
    """Binomial smoothing of the last two axes, edges repeated, keeping every step-th place."""
    rows, columns = (_binomial(side, taps, step) for side in level.shape[2:])
    return np.asarray(rows @ (level @ columns.T))


@lru_cache(maxsize=32)
def _binomial(side: int, taps: tuple[int, ...], step: int) -> Floats:
    weights = np.zeros((side, side), np.float32)
    for offset, tap in enumerate(taps, -((len(taps) - 1) // 2)):
        np.add.at(weights, (np.arange(side), np.clip(np.arange(side) + offset, 0, side - 1)), tap / sum(taps))
    return weights[::step]


def _invariants(level: Floats) -> Floats:
    """(n, channels, height, width) -> (n, 4 channels, height - 2, width - 2): what a turn of the picture leaves."""
    here, up, down = level[:, :, 1:-1, 1:-1], level[:, :, :-2, 1:-1], level[:, :, 2:, 1:-1]
    left, right = level[:, :, 1:-1, :-2], level[:, :, 1:-1, 2:]
    gradient = 0.5 * np.sqrt((right - left) ** 2 + (down - up) ** 2)
    across, along = right + left - 2 * here, up + down - 2 * here
    twist = 0.25 * (level[:, :, 2:, 2:] + level[:, :, :-2, :-2] - level[:, :, 2:, :-2] - level[:, :, :-2, 2:])
    half = 0.5 * (across + along)
    gap = np.sqrt(0.25 * (across - along) ** 2 + twist**2)
    return np.concatenate([here, gradient, half + gap, half - gap], 1)


@lru_cache(maxsize=16)
def _radius(height: int, width: int) -> NDArray[Any]:
    """Each pixel's distance from the centre, 1 in the middle of the nearest edge."""
    y, x = (2 * np.arange(side) / max(side - 1, 1) - 1 for side in (height, width))
    return np.hypot(y[:, None], x[None, :])


@lru_cache(maxsize=16)
def _rings(height: int, width: int) -> Floats:
    """(interior pixels, rings): the weights that average over each ring around the centre."""
    ring = np.searchsorted(_RINGS, _radius(height, width)[1:-1, 1:-1].reshape(-1), side="right")
    weights = (ring[:, None] == np.arange(len(_RINGS))).astype(np.float32)
    return np.asarray(weights / weights.sum(0, keepdims=True), np.float32)
