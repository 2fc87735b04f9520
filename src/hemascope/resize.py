"""The one definition of resizing: two matrix products, the same in reading, in training and in the exported model."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.errors import InputError

_CUBIC_REACH = 2.0
# How many bytes of pictures, as float32, are resized at a time: about what a processor's cache holds.
_STEP_BYTES = 2**20


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -1/2. Keys, Cubic convolution interpolation for digital image processing, 1981."""
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < _CUBIC_REACH, far, 0.0))


@lru_cache(maxsize=64)
def _weights(source: int, target: int) -> NDArray[np.float32]:
    if source < 1 or target < 1:
        raise ValueError(f"a picture cannot be resized from {source} to {target} pixels; both must be at least 1.")
    if source == target:
        weights = np.eye(source)
    else:
        scale = source / target
        stretch = max(scale, 1.0)
        centres = (np.arange(target) + 0.5) * scale
        pixels = np.arange(source) + 0.5
        weights = _cubic((pixels[None, :] - centres[:, None]) / stretch)
        weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def resize_weights(source: int, target: int) -> NDArray[np.float32]:
    """The matrix that resizes one side of a picture: bicubic, widened when shrinking so that nothing aliases.

    source, target: the side in pixels before and after. Returns float32 (target, source), an array of the
    caller's own; each row sums to 1, and the matrix is the identity when the sides agree. A picture x of one channel
    becomes

        clip(rows @ clip(x @ columns.T))        rows (height', height), columns (width', width)

    with clip to 0..255. Raises ValueError when a side is below 1.
    """
    return _weights(int(source), int(target)).copy()


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Pictures of another size: the two matrix products of `resize_weights`, rounded half up.

    images: uint8 (n, height, width, 3). size: the new side in pixels; height and width are each brought to it, so cut
    a square first (`central_square`). Returns uint8 (n, size, size, 3); the same pixels when the sizes agree. A
    picture comes out the same on every machine and whichever others it travels with.
    Raises ValueError for another shape or a size below 1.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"resize expects (n, height, width, 3), not {images.shape}.")
    n, height, width, _ = images.shape
    if (height, width) == (size, size):
        return np.asarray(images)
    resized = np.empty((n, size, size, 3), np.uint8)
    step = max(1, _STEP_BYTES // (height * width * 3 * 4))
    for start in range(0, n, step):
        # Each side is summed while it lies second, so that whole rows of memory are taken at a time.
        across = np.ascontiguousarray(images[start : start + step].transpose(0, 2, 1, 3))
        narrow = np.ascontiguousarray(_product(across, size).transpose(0, 2, 1, 3))
        resized[start : start + step] = np.floor(_product(narrow, size) + 0.5).astype(np.uint8)
    return resized


def _product(pixels: NDArray[Any], size: int) -> NDArray[np.float32]:
    """One of the two products, along axis 1 of (n, side, other, 3), clipped.

    The weights are zero but for a band, so the sum runs over the band only. Matrix routines are left alone: their
    last digits depend on the machine, and hashes of the pixels must not; and their threads get in each other's way
    when many pictures are read at a time.
    """
    positions, weights = _bands(pixels.shape[1], size)
    total = np.zeros((len(pixels), size, *pixels.shape[2:]), np.float32)
    for tap in range(positions.shape[1]):
        total += np.take(pixels, positions[:, tap], axis=1) * weights[:, tap, None, None]
    return np.clip(total, 0.0, 255.0, out=total)


@lru_cache(maxsize=64)
def _bands(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Where the weights are not zero, and what they are there: (target, taps) each."""
    weights = _weights(source, target)
    used = weights != 0
    first = used.argmax(axis=1)
    taps = int((source - used[:, ::-1].argmax(axis=1) - first).max())
    positions = np.minimum(first, source - taps)[:, None] + np.arange(taps)
    return positions, np.take_along_axis(weights, positions, axis=1)


def central_window(height: int, width: int, crop: int | None = None) -> tuple[slice, slice]:
    """Rows and columns of the central square: the largest there is, or `crop` pixels wide.

    Raises InputError when the crop is below 1 or larger than the picture.
    """
    side = min(height, width) if crop is None else crop
    if side < 1 or side > min(height, width):
        raise InputError(
            f"the central {side} x {side} pixels were asked for but the picture is {width} x {height}; "
            f"give a crop of 1 to {min(height, width)} pixels."
        )
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def central_square(images: NDArray[Any], crop: int | None = None) -> NDArray[Any]:
    """The central square of each picture, a view: the largest there is, or `crop` pixels wide.

    images: (n, height, width, channels). Raises InputError when the crop is larger than the pictures.
    """
    rows, columns = central_window(images.shape[1], images.shape[2], crop)
    return images[:, rows, columns]
