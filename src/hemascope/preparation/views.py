"""Several views of one picture, and what a model says of all of them: a cell has no right way up."""

from __future__ import annotations

import numpy as np

from hemascope.data.cells import Images

VIEWS = (1, 2, 4, 8)


def poses(images: Images, views: int) -> list[Images]:
    """Pictures uint8 (n, height, width, 3) in so many poses, as a recipe's `views` has them.

    views: 1 (as they are), 2 (and mirrored), 4 (mirrored along either axis or both) or 8 (those, transposed too): each
    set is closed, so that none of its poses changes the answer. Raises ValueError for another number.
    """
    if views not in VIEWS:
        raise ValueError(f"there are 1, 2, 4 or 8 views, not {views}.")
    found = [images]
    for count, turned in ((2, _mirrored), (4, _upended), (8, _transposed)):
        if views >= count:
            found += [turned(one) for one in found]
    return found


def _mirrored(images: Images) -> Images:
    return images[:, :, ::-1]


def _upended(images: Images) -> Images:
    return images[:, ::-1]


def _transposed(images: Images) -> Images:
    return np.swapaxes(images, 1, 2)
