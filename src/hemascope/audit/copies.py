"""Exact copies: which rows show the same pixels, which of them go, and which stand on both sides of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import SPLITS, UNKNOWN_LABEL, Cells, Images
from hemascope.data.hashes import pixel_hashes
from hemascope.errors import InputError
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("keep", "copy", "copy_other_label", "not_a_cell")
NOT_A_CELL_COPIES = 10
NOT_A_CELL_LABELS = 3
JPEG_TOLERANCE = 2
"""Grey levels by which any one value of two decoded JPEG pictures may differ while they count as copies."""


@dataclass(frozen=True)
class Copies:
    """What is known of the copies of each row.

    group: int64 (n,), the same number for the same picture, counted in the order of first appearance.
    copies: int64 (n,), how many rows show that picture, this one among them.
    verdict: str (n,), one of VERDICTS.
    reason: str objects (n,), why a row goes, in words; empty where the verdict is 'keep'.
    """

    group: NDArray[np.int64]
    copies: NDArray[np.int64]
    verdict: NDArray[np.str_]
    reason: NDArray[np.object_]

    @property
    def keep(self) -> NDArray[np.bool_]:
        """bool (n,), the rows that remain."""
        return np.asarray(self.verdict == "keep")

    def counts(self) -> dict[str, int]:
        """How many rows have each verdict."""
        return {verdict: int((self.verdict == verdict).sum()) for verdict in VERDICTS}


def copy_groups(hashes: NDArray[Any]) -> NDArray[np.int64]:
    """Number the distinct pictures in the order in which they first appear.

    hashes: (n,), one comparable value for each picture. Returns int64 (n,).
    """
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse.reshape(-1)]


def find_copies(
    cells: Cells,
    hashes: NDArray[Any] | None = None,
    *,
    not_a_cell_copies: int = NOT_A_CELL_COPIES,
    not_a_cell_labels: int = NOT_A_CELL_LABELS,
) -> Copies:
    """Find the rows that show the same pixels, and say which of them to drop.

    hashes: (n,), what `pixel_hashes(cells)` gives, to spare a second reading; computed when it is None.

    The verdict on a row of a picture that repeats is, in this order,
    'not_a_cell' for every row when it stands at least `not_a_cell_copies` times and under at least
    `not_a_cell_labels` labels (two are enough where the set has only two), or when none of its rows has a label:
    nobody photographs one cell that often, and no cell is of that many kinds;
    'copy_other_label' for every row when two rows have different labels: nothing says which label is right;
    'copy' for every row but one: the first labelled row stays or, where the source brings its own split, the first
    of those that are held out longest, so that no published test row is lost.

    Where a picture was decoded from JPEG, values up to JPEG_TOLERANCE grey levels apart count as the same pixels.
    """
    hashes = pixel_hashes(cells) if hashes is None else hashes
    group = same_pixels(hashes, cells)
    size = np.bincount(group, minlength=1)
    labelled = np.flatnonzero(cells.labels != UNKNOWN_LABEL)
    pairs, at = np.unique(np.stack([group[labelled], cells.labels[labelled]], 1), axis=0, return_index=True)
    label_group, label_of, label_row = pairs[:, 0], pairs[:, 1], labelled[at]
    labels = np.bincount(label_group, minlength=len(size))

    needed = max(2, min(not_a_cell_labels, len(np.unique(label_of))))
    not_a_cell = (size >= not_a_cell_copies) & ((labels >= needed) | (labels == 0))
    other_label = (labels > 1) & ~not_a_cell
    keeper = first_of_each(group, cells.labels == UNKNOWN_LABEL, -split_ranks(cells))

    verdict = np.full(len(cells), "keep", dtype=f"<U{max(map(len, VERDICTS))}")
    verdict[np.arange(len(cells)) != keeper[group]] = "copy"
    verdict[other_label[group]] = "copy_other_label"
    verdict[not_a_cell[group]] = "not_a_cell"

    reason = np.full(len(cells), "", dtype=object)
    for row in np.flatnonzero(verdict != "keep"):
        number = group[row]
        if verdict[row] == "not_a_cell":
            under = f" under {many(int(labels[number]), 'label')}" if labels[number] else ""
            reason[row] = f"stands {size[number]:,} times{under}: not a cell"
        elif verdict[row] == "copy":
            there = keeper[number]
            reason[row] = f"{_pixels_in_words(hashes[row], hashes[there])} as {cells.ids[there]}"
        else:
            # The labels of a group stand together and differ here, so that its first or its last is not this row's.
            first, end = np.searchsorted(label_group, [number, number + 1])
            there = label_row[first] if label_of[first] != cells.labels[row] else label_row[end - 1]
            mine = label_name(cells, row)
            here = f"{mine} here" if mine else "otherwise elsewhere"
            same = _pixels_in_words(hashes[row], hashes[there])
            reason[row] = f"{same} as {cells.ids[there]}, labelled {label_name(cells, there)} there and {here}"
    return Copies(group, size[group], verdict, reason)


def leaks(
    cells: Cells,
    against: Cells | None = None,
    *,
    hashes: NDArray[Any] | None = None,
    against_hashes: NDArray[Any] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Find the rows whose exact pixels also stand where they must not.

    With `against`: the rows of `cells` that are also in `against`. Without it: the rows that stand in a later split
    of the same cells too (train before validation, calibration and test); none when the source brings no split.
    There `groups` (n,), such as `near_copy_groups` gives, says which rows are one cell when not only exact copies are.

    Returns one line for each such row, in order: row and other_row (int64; the first such row of `against`, or the
    first of the most held-out split), id, other_id, where (the two sources or splits), other_label (bool: both are
    labelled and the class names differ) and reason, in words. A picture that repeats on both sides costs no pairs.
    """
    import pandas as pd

    hashes = pixel_hashes(cells) if hashes is None else hashes
    if against is None:
        other, other_hashes = cells, hashes
        group, rank = same_pixels(hashes, cells) if groups is None else groups, split_ranks(cells)
        held_out = first_of_each(group, -rank)[group]
        rows = np.flatnonzero(rank < rank[held_out])
        others = held_out[rows]
        splits = np.full(len(cells), "") if cells.split is None else cells.split
        where = [f"{splits[row]} and {splits[there]}" for row, there in zip(rows, others, strict=True)]
    else:
        other = against
        other_hashes = pixel_hashes(against) if against_hashes is None else against_hashes
        group = same_pixels(np.concatenate([hashes, other_hashes]), cells, against)
        first = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
        first[group[len(cells) :][::-1]] = np.arange(len(against))[::-1]
        there_or_none = first[group[: len(cells)]]
        rows = np.flatnonzero(there_or_none >= 0)
        others = there_or_none[rows]
        where = [f"{cells.source} and {against.source}"] * len(rows)

    differs, reasons = np.zeros(len(rows), bool), []
    for at, (row, there) in enumerate(zip(rows, others, strict=True)):
        name, other_name = label_name(cells, row), label_name(other, there)
        differs[at] = bool(name and other_name) and name != other_name
        near = against is None and groups is not None and hashes[row] != hashes[there]
        same = "the same cell" if near else _pixels_in_words(hashes[row], other_hashes[there])
        reason = f"{same} as {other.ids[there]}"
        reasons.append(f"{reason}, labelled {other_name} there and {name} here" if differs[at] else reason)
    return pd.DataFrame(
        {
            "row": rows,
            "other_row": others,
            "id": cells.ids[rows].astype(object),
            "other_id": other.ids[others].astype(object),
            "where": pd.Series(where, dtype=object),
            "other_label": differs,
            "reason": pd.Series(reasons, dtype=object),
        }
    )


def label_name(cells: Cells, row: int | np.integer[Any]) -> str:
    """The class name of a row; empty where it has no label."""
    label = int(cells.labels[row])
    return "" if label == UNKNOWN_LABEL else cells.class_names[label]


def _pixels_in_words(one: Any, other: Any) -> str:
    return "the same pixels" if one == other else f"the same pixels within {JPEG_TOLERANCE} grey levels"


def split_ranks(cells: Cells) -> NDArray[np.int64]:
    """How long each row is held out: its split's place in SPLITS, the same for all when there is no split."""
    if cells.split is None:
        return np.zeros(len(cells), np.int64)
    if unknown := sorted(set(np.unique(cells.split).tolist()) - set(SPLITS)):
        raise InputError(f"{cells.source or 'cells'}: has a split named '{unknown[0]}'; name it {', '.join(SPLITS)}.")
    return np.select([cells.split == name for name in SPLITS], list(range(len(SPLITS)))).astype(np.int64)


def first_of_each(group: NDArray[np.int64], *keys: NDArray[Any]) -> NDArray[np.int64]:
    """For each group number, its row with the smallest keys (the first key counts most, then the row itself)."""
    order = np.lexsort((np.arange(len(group)), *reversed(keys), group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return order[starts]


def same_pixels(hashes: NDArray[Any], *parts: Cells) -> NDArray[np.int64]:
    """`copy_groups` of the rows of all parts, one after the other, with what decoders do to a JPEG forgiven."""
    group = copy_groups(hashes)
    rows = sum(map(len, parts))
    if len(group) != rows:
        raise InputError(f"{parts[0].source or 'cells'}: got {len(group):,} hashes for {rows:,} images; give one each.")
    jpeg = np.concatenate([np.zeros(len(part), bool) if part.jpeg is None else part.jpeg for part in parts])
    if not jpeg.any() or len({part.images.shape[1:] for part in parts}) > 1:
        return group
    return _merge_jpeg_copies(parts, group, jpeg)


def _merge_jpeg_copies(
    parts: tuple[Cells, ...], group: NDArray[np.int64], jpeg: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Merge the groups whose pictures differ by at most JPEG_TOLERANCE where either was decoded from JPEG.

    Values that differ by so little have means that differ by so little, so that the neighbours of a picture in the
    space of its quarters' mean colours hold all its copies; each is then compared pixel by pixel. Only the nearest
    few are looked at in one pass, and a picture with more of them gets another pass over what remains, so that a
    picture that repeats costs no pairwise work.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    neighbours = 8
    means = np.concatenate([_quarter_means(images) for part in parts for _, images in part.batches()])
    while True:
        rows = first_of_each(group)
        from_jpeg = np.bincount(group, weights=jpeg) > 0
        tree = cKDTree(means[rows])
        asked = np.flatnonzero(from_jpeg)
        _, found = tree.query(
            means[rows[asked]], k=min(neighbours, len(rows)) + 1, p=np.inf, distance_upper_bound=JPEG_TOLERANCE + 1e-3
        )
        ends = np.stack([np.repeat(asked, found.shape[1]), found.reshape(-1)], 1)
        ends = np.unique(np.sort(ends[(ends[:, 1] < len(rows)) & (ends[:, 0] != ends[:, 1])], axis=1), axis=0)
        ends = ends[_agree(parts, rows[ends])]
        links = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(rows), len(rows)))
        count, component = connected_components(links, directed=False)
        group = copy_groups(component[group])
        if count == len(rows) or np.bincount(ends.reshape(-1), minlength=1).max() < neighbours:
            return group


def _quarter_means(images: Images) -> NDArray[np.float32]:
    """The mean colour of each quarter of each picture: (n, 12)."""
    height, width = ((side + 1) // 2 for side in images.shape[1:3])
    halves = [images[:, :height].sum(1, dtype=np.uint32), images[:, -height:].sum(1, dtype=np.uint32)]
    sums = [half[:, columns].sum(1) for half in halves for columns in np.s_[:width, -width:]]
    return np.asarray(np.concatenate(sums, 1) / (height * width), np.float32)


def _agree(parts: tuple[Cells, ...], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pairs of rows differ by at most JPEG_TOLERANCE in every value: bool (n,), read in blocks."""
    same = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), 256):
        block = slice(start, start + 256)
        one, other = (_read(parts, pairs[block, side]).astype(np.int16) for side in (0, 1))
        same[block] = np.abs(one - other).max((1, 2, 3)) <= JPEG_TOLERANCE
    return same


def _read(parts: tuple[Cells, ...], rows: NDArray[np.int64]) -> Images:
    """The pictures of rows that are counted through all parts."""
    images = np.empty((len(rows), *parts[0].images.shape[1:]), np.uint8)
    start = 0
    for part in parts:
        here = np.flatnonzero((rows >= start) & (rows < start + len(part)))
        if len(here):
            images[here] = part.images[rows[here] - start]
        start += len(part)
    return images
