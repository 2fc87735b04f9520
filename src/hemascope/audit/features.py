"""Numbers that describe each picture: a few of the picture itself, and some hundreds of the cell in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from hemascope.data.cells import Cells, Images
from hemascope.features import SIDE, Floats, stepwise, texture_features

STATISTICS = ("mean", "contrast", "sharpness", "saturation", "entropy", "range")
THREADS = 2
Result = TypeVar("Result")


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

    Returns a dict from each of STATISTICS to float32 (n,):
    mean: the mean grey level, 0 to 255;
    contrast: the standard deviation of the grey levels;
    sharpness: the standard deviation of their Laplacian, which is small in a blurred picture and large in noise;
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
    count = len(images)
    red, green, blue = (images[..., channel].astype(np.float32) for channel in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    high, low = (pick(pick(red, green), blue) for pick in (np.maximum, np.minimum))
    laplacian = (
        grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * grey[:, 1:-1, 1:-1]
    )
    levels = (grey + 0.5).astype(np.int64) + 256 * np.arange(count)[:, None, None]
    share = np.bincount(levels.reshape(-1), minlength=256 * count).reshape(count, 256) / grey[0].size
    spread = (np.ptp(channel.reshape(count, -1), axis=1) for channel in (red, green, blue))
    return np.stack(
        [
            grey.mean((1, 2)),
            grey.std((1, 2)),
            laplacian.std((1, 2)),
            ((high - low) / np.maximum(high, 1)).mean((1, 2)),
            -(share * np.log2(np.where(share > 0, share, 1))).sum(1),
            np.max(list(spread), axis=0),
        ],
        axis=1,
    ).astype(np.float32)
