"""Take out what is plainly no data: pictures that repeat under many labels, and exact copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.copies import find_copies
from hemascope.data import Cells
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

REMOVED_COLUMNS = ("id", "label", "verdict", "reason")


class Cleaned(NamedTuple):
    """What `clean` gives: the cells that stay, and a row (id, label, verdict, reason) for each that went."""

    cells: Cells
    removed: pd.DataFrame


def clean(cells: Cells, *, hashes: NDArray[Any] | None = None) -> Cleaned:
    """Remove non-cell pictures that repeat under many labels and exact copies; the source is not changed.

    hashes: (n,), the pixel hash of each picture, computed when not given. Pictures that could not be read are listed
    among the removed with their reason. The rule for each verdict stands in `hemascope.audit.copies`.
    """
    import pandas as pd

    copies = find_copies(cells, hashes)
    gone = np.flatnonzero(~copies.keep)
    rows = [
        (cells.ids[row], cells.class_names[cells.labels[row]] if cells.labels[row] >= 0 else "", verdict, reason)
        for row, verdict, reason in zip(gone, copies.verdict[gone], copies.reason[gone], strict=True)
    ]
    rows += [(name, "", "unreadable", reason) for name, reason in cells.unreadable.items()]
    return Cleaned(cells.take(copies.keep), pd.DataFrame(rows, columns=list(REMOVED_COLUMNS)))


def cleaned_in_words(found: Cells, cleaned: Cells, removed: pd.DataFrame) -> str:
    """What cleaning did, in a few words."""
    counts = removed["verdict"].value_counts()
    words = {
        "not_a_cell": ("of pictures that repeat under many labels",) * 2,
        "copy": ("exact copy", "exact copies"),
        "copy_other_label": ("copy under different labels", "copies under different labels"),
        "unreadable": ("unreadable",) * 2,
    }
    parts = [many(int(counts[key]), *said) for key, said in words.items() if key in counts]
    if not parts:
        return f"{many(len(found), 'picture')}, nothing to remove"
    return f"removed {len(removed):,} ({', '.join(parts)}), {len(cleaned):,} stay"


def mean_pixels(cells: Cells) -> NDArray[np.float64]:
    """The mean over pixels and channels of each picture scaled to [0, 1]: float64 (n,)."""
    means = np.empty(len(cells))
    for rows, images in cells.batches():
        means[rows] = images.reshape(len(images), -1).mean(axis=1) / 255
    return means
