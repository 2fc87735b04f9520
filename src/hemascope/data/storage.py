"""Where decoded pictures are kept: in memory while they fit, else in a temporary file."""

from __future__ import annotations

import math
import os
import tempfile

import numpy as np

from hemascope.data.cells import Images
from hemascope.errors import InputError

# Above this many bytes of decoded pictures (about 78,000 of 96 x 96) a temporary file holds them instead of memory.
MEMORY_LIMIT = 2 * 2**30


def allocate(shape: tuple[int, ...]) -> Images:
    """Room for uint8 pictures of this shape: an array, or above MEMORY_LIMIT bytes a memory-mapped temporary file.

    The file has no name, and goes when the pictures are no longer used. Raises InputError when the disk is full.
    """
    size = math.prod(shape)
    if size <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    try:
        with tempfile.TemporaryFile(prefix="hemascope-") as file:
            # A full disk is told here, where it is an error; later, in the middle of a map, it would be a crash.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, mode="w+", shape=shape)
    except OSError as error:
        raise InputError(
            f"{tempfile.gettempdir()}: the decoded pictures need {size / 2**30:.1f} GiB of temporary room "
            f"({error.strerror}); free some, or name another folder in TMPDIR."
        ) from error
