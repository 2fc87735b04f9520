"""From a set as it was read to rows that can be trained on: cleaned, narrowed, split, and what was done in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.copies import copy_groups, leaks
from hemascope.audit.near_copies import near_copies, near_copy_groups
from hemascope.audit.shape import shape_of_set
from hemascope.clean import clean, cleaned_in_words
from hemascope.data import Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.progress import Say
from hemascope.split import split
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Prepared:
    """Data ready for training: cleaned, narrowed to the classes that occur, split; and how they were before."""

    found: Cells
    cells: Cells
    hashes: NDArray[np.uint64]
    removed: pd.DataFrame
    found_hashes: NDArray[np.uint64]
    split_seed: int


def prepare(
    cells: Cells, *, seed: int, further: Cells | None = None, allow_leaks: bool = False, say: Say = print
) -> Prepared:
    """Audit the quick things, clean, narrow to the classes that occur, and split; each step says what it did.

    Raises InputError, unless allow_leaks, when pictures stand in two splits of the cells, or in `further` too.
    """
    found, found_hashes = cells, pixel_hashes(cells)
    for note in cells.notes:
        say(note)
    cleaned, removed = clean(cells, hashes=found_hashes)
    say(cleaned_in_words(found, cleaned, removed))
    leaked = _leak_sentence(found, found_hashes, further, allow_leaks)
    kept = np.flatnonzero(np.isin(found.ids, cleaned.ids))
    pairs = near_copies(cleaned, hashes=found_hashes[kept])
    near = near_copy_groups(copy_groups(found_hashes[kept]), pairs)
    say("; ".join([leaked, *_near_sentence(cleaned, pairs)]))
    say("; ".join(finding.sentence for finding in shape_of_set(cleaned) if finding.name in ("pictures", "imbalance")))
    names = tuple(name for name, count in cleaned.class_counts().items() if count)
    cells = split(cleaned.with_classes(names), seed=seed, hashes=found_hashes[kept], near=near)
    assert cells.split is not None
    counts = {name: int((cells.split == name).sum()) for name in dict.fromkeys(cells.split.tolist())}
    say("rows: " + ", ".join(f"{counts[name]:,} {name}" for name in sorted(counts, key=lambda name: -counts[name])))
    return Prepared(found, cells, found_hashes[kept], removed, found_hashes, seed)


def _leak_sentence(cells: Cells, hashes: NDArray[np.uint64], further: Cells | None, allow_leaks: bool) -> str:
    """What stands where it must not, in a sentence; refused as an InputError unless it is allowed."""
    within = leaks(cells, hashes=hashes)
    outside = leaks(cells, further, hashes=hashes) if further is not None else within.iloc[:0]
    if not len(within) + len(outside):
        return "leaks: no picture stands on two sides"
    parts = [_many_of(len(within), cells.source) + " in two of its splits"] if len(within) else []
    if further is not None and len(outside):
        other = f", {int(outside['other_label'].sum()):,} of them under another label" if len(outside) else ""
        parts.append(f"{_many_of(len(outside), cells.source)} in {further.source} too{other}")
    told = " and ".join(parts)
    if allow_leaks:
        return f"leaks: {told}; what would count twice is left out"
    raise InputError(
        f"{told}; look at the leaks with hemascope audit (--against), take them out, or go on without them by "
        "--allow-leaks."
    )


def _many_of(count: int, source: str) -> str:
    return f"{many(count, 'picture')} of {source} {'stands' if count == 1 else 'stand'}"


def _near_sentence(cells: Cells, pairs: pd.DataFrame) -> list[str]:
    """What becomes of near copies, in a sentence; none where there are none."""
    if not len(pairs):
        return []
    told = many(len(pairs), "pair of near copies", "pairs of near copies")
    ends = pairs["row"].to_numpy(), pairs["other_row"].to_numpy()
    if cells.split is not None and (across := int((cells.split[ends[0]] != cells.split[ends[1]]).sum())):
        return [f"{told}, {across:,} of them across its splits: look at them with hemascope audit"]
    return [f"{told} {'stays' if len(pairs) == 1 else 'stay'} on one side{'' if len(pairs) == 1 else ' each'}"]
