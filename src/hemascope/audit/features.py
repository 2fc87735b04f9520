"""Numbers that describe each picture: a few of the picture itself, and some hundreds of the cell in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hemascope.data.cells import Cells, Images
from hemascope.features import SIDE, Floats, stepwise, texture_features

STATISTICS = ("mean", "contrast", "sharpness", "saturation", "entropy", "range")
THREADS = 2
Result = TypeVar("Result")

# Grey levels and their squares, for the moments of a histogram.
_POWERS = np.arange(256.0)[:, None] ** (1, 2)


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
    for rows, values in over_batches(cells, lambda images: stepwise(images, _statistics), threads):
        found[rows] = values
    return {name: np.ascontiguousarray(found[:, column]) for column, name in enumerate(STATISTICS)}


def cell_features(cells: Cells, threads: int = THREADS) -> Floats:
    """Colour, texture and form of each cell, for telling classes apart without a network.

    Returns float32 (n, features). Pictures are turned into optical density over the glass behind the cell, so that
    brightness and the white balance matter little; `hemascope.features.texture` says what is measured.
    """
    found = np.zeros((len(cells), feature_count()), np.float32)
    for rows, values in over_batches(cells, lambda images: stepwise(images, texture_features), threads):
        found[rows] = values
    return found


def feature_count() -> int:
    """How many numbers `cell_features` gives for a picture."""
    return int(texture_features(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1])


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
