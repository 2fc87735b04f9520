"""What labelled cells must have before anything can learn from them."""

from __future__ import annotations

from hemascope.data.cells import Cells
from hemascope.errors import InputError


def require_trainable(cells: Cells) -> None:
    """Raise InputError unless every picture has a label, and two or more classes have two or more pictures each.

    A class with a single picture cannot stand on both sides of a split.
    """
    source = cells.source or "cells"
    if not cells.labelled:
        raise InputError(f"{source}: not all of its pictures have a label; training needs one for each.")
    present = {name: count for name, count in cells.class_counts().items() if count}
    if len(present) < 2:
        raise InputError(
            f"{source}: has pictures of one class only ({next(iter(present))}); training needs two or more."
        )
    single = [name for name, count in present.items() if count == 1]
    if single:
        raise InputError(
            f"{source}: has a single picture of {', '.join(single)}; training needs two or more of each class, "
            "so add some or leave it out."
        )
