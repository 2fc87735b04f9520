"""Near copies: the same cell turned, mirrored, moved, zoomed, brightened, recompressed or resampled.

Candidates are the nearest neighbours by a description that no turn, mirror or shift changes, measured in units of
what the other changes do to it. Each candidate is then laid over the other picture, first by spectra, then by pixels,
so that cells that merely look alike do not count.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hemascope.audit.alignment import changes, fine_overlay, likeness, sampled
from hemascope.audit.copies import copy_groups, label_name, same_pixels
from hemascope.audit.spectra import ZOOMS, Floats, Overlay, Spectra, coarse_overlay, description, packed, spectra
from hemascope.data.cells import Cells, Images
from hemascope.data.hashes import pixel_hashes
from hemascope.resize import resize

if TYPE_CHECKING:
    import pandas as pd

SIMILARITY = 0.96
"""From here on two pictures show one cell: between planted copies (0.97 and more) and other cells (0.95 and less)."""
SIMILARITY_AFTER = {3: 0.98, 4: 0.99}
"""What is wanted where so many changes, or more, lay one picture over the other: many make two small round cells
alike. Copies reach 0.983 after three changes and 0.995 after four, two different platelets hardly ever do."""
UNCHANGED = "recompressed or resampled"
NEIGHBOURS = 4

_SMALL_SIDE, _FINE_SIDE, _PIXEL_SIDE = 48, 32, 64
_COARSE_AGREEMENT, _FINE_AGREEMENT = 0.86, 0.96
"""What a candidate must reach in the two quick alignments to be compared by pixels; copies reach 0.87 and 0.99."""
_METRIC_SAMPLES, _SAMPLES_A_ROW, _METRIC_DIMENSIONS = 1_500, 4, 64
_EXACT_SEARCH = 50_000
_BLOCK, _SPECTRA_BLOCK = 256, 32_768
# Small pictures whose intermediate results stay in a core's cache.
_CACHED = 64
# Pictures are read so many values at a time.
_READ_VALUES = 2**24
# Lightness and two differences of colours.
_CHANNELS = np.array([[1 / 3, 1 / 3, 1 / 3], [1, -1, 0], [-0.5, -0.5, 1]], np.float32)


def near_copies(
    cells: Cells,
    *,
    against: Cells | None = None,
    threshold: float = SIMILARITY,
    neighbours: int = NEIGHBOURS,
    hashes: NDArray[Any] | None = None,
    against_hashes: NDArray[Any] | None = None,
) -> pd.DataFrame:
    """Find the pairs of rows that show the same cell, other than as exact copies.

    Pairs are sought within `cells` or, with `against`, between the two; each row is compared with its `neighbours`
    nearest. Of rows with the same pixels only the first is compared. hashes, against_hashes: (n,), what
    `pixel_hashes` gives, to spare a reading.

    Returns one line for each pair with a similarity of at least `threshold`, ordered by row, and of at least
    SIMILARITY_AFTER so many changes that lay one over the other: row and other_row (int64, row < other_row within one
    set), id, other_id, similarity (float in [0, 1]), transform (in words, what makes the first picture of the other),
    other_label (bool: both are labelled and the class names differ).
    """
    import pandas as pd

    hashes = pixel_hashes(cells) if hashes is None else hashes
    if against is None:
        exact = same_pixels(hashes, cells)
    else:
        against_hashes = pixel_hashes(against) if against_hashes is None else against_hashes
        exact = same_pixels(np.concatenate([hashes, against_hashes]), cells, against)
    other = cells if against is None else against
    exact_here, exact_there = exact[: len(cells)], exact[-len(other) :] if len(other) else exact[:0]
    rows, other_rows = _first_rows(exact_here), _first_rows(exact_there)
    pairs, overlay = _candidates(cells, rows, other, other_rows, neighbours)
    different = exact_here[rows[pairs[:, 0]]] != exact_there[other_rows[pairs[:, 1]]]
    pairs, overlay = pairs[different], overlay.take(different)
    similarity, changed = _compared(cells, other, rows[pairs[:, 0]], other_rows[pairs[:, 1]], overlay)
    found = pd.DataFrame(
        {
            "row": rows[pairs[:, 0]],
            "other_row": other_rows[pairs[:, 1]],
            "similarity": similarity,
            "transform": pd.Series([", ".join(words) or UNCHANGED for words in changed], dtype=object),
        }
    )
    wanted = np.array([max(threshold, _wanted_after(len(words))) for words in changed], float)
    found = found[found["similarity"] >= wanted].sort_values(["row", "other_row"], ignore_index=True)
    names = [label_name(cells, row) for row in found["row"]]
    other_names = [label_name(other, row) for row in found["other_row"]]
    found.insert(2, "id", cells.ids[found["row"]].astype(object))
    found.insert(3, "other_id", other.ids[found["other_row"]].astype(object))
    differs = [bool(one and two) and one != two for one, two in zip(names, other_names, strict=True)]
    found["other_label"] = np.array(differs, bool)
    return found


def near_copy_groups(groups: NDArray[np.int64], pairs: pd.DataFrame) -> NDArray[np.int64]:
    """Join the groups of exact copies that near copies connect, so that a split keeps each on one side.

    groups: int64 (n,), from `copy_groups` or `Copies.group`. pairs: what `near_copies` found within the same rows.
    Returns int64 (n,), numbered by first appearance.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(groups.max(initial=-1)) + 1
    ends = groups[pairs["row"].to_numpy(np.int64)], groups[pairs["other_row"].to_numpy(np.int64)]
    links = coo_array((np.ones(len(pairs), np.int8), ends), shape=(count, count))
    return copy_groups(connected_components(links, directed=False)[1][groups]) if count else groups


def _wanted_after(changes: int) -> float:
    return max((least for count, least in SIMILARITY_AFTER.items() if changes >= count), default=0.0)


def _first_rows(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.sort(np.unique(groups, return_index=True)[1])


def _candidates(
    cells: Cells, rows: NDArray[np.int64], other: Cells, other_rows: NDArray[np.int64], neighbours: int
) -> tuple[NDArray[np.int64], Overlay]:
    """The pairs of positions in rows and other_rows that the quick alignments leave: int64 (pairs, 2), and how."""
    if not len(rows) or not len(other_rows):
        return np.zeros((0, 2), np.int64), Overlay.plain(0)
    metric = _metric(cells, rows)
    small, places = _described(cells, rows, metric)
    if other is cells:
        return _aligned(small, small, _nearest(places, None, neighbours))
    other_small, other_places = _described(other, other_rows, metric)
    return _aligned(small, other_small, _nearest(places, other_places, neighbours))


def _blocks(count: int, *sets: Cells) -> Iterator[slice]:
    """Parts of `count` rows, small enough for the larger pictures of the sets."""
    values = max(int(np.prod(cells.images.shape[1:])) for cells in sets)
    size = min(max(_READ_VALUES // values, 1), _BLOCK)
    return (slice(start, start + size) for start in range(0, count, size))


def _square(images: Images) -> Images:
    height, width = images.shape[1:3]
    return images if height == width else resize(images, max(height, width))


def _channels(planes: NDArray[Any]) -> Floats:
    """Pictures (n, side, side, 3) as lightness and two colour differences: (3, n, side, side)."""
    return np.ascontiguousarray(np.moveaxis(planes @ _CHANNELS.T, 3, 0))


def _shrunk(images: Images) -> Images:
    """Pictures (n, height, width, 3) brought to the small side, each place by the mean of what lies under it."""
    small = np.empty((len(images), _SMALL_SIDE, _SMALL_SIDE, 3), np.uint8)
    for image, room in zip(images, small, strict=True):
        cv2.resize(image, (_SMALL_SIDE, _SMALL_SIDE), dst=room, interpolation=cv2.INTER_AREA)
    return small


def _description(channels: Floats) -> Floats:
    return description([spectra(channel) for channel in channels])


def _described(cells: Cells, rows: NDArray[np.int64], metric: Floats) -> tuple[Images, Floats]:
    """The lightness of the rows at the small side, uint8, and where they stand in the metric: (n, dimensions)."""
    small = np.empty((len(rows), _SMALL_SIDE, _SMALL_SIDE), np.uint8)
    places = np.empty((len(rows), metric.shape[1]), np.float32)
    for block in _blocks(len(rows), cells):
        shrunk = _shrunk(cells.images[rows[block]])
        for start in range(0, len(shrunk), _CACHED):
            part = slice(block.start + start, block.start + min(start + _CACHED, len(shrunk)))
            channels = _channels(shrunk[start : start + _CACHED])
            small[part] = channels[0] + 0.5
            places[part] = _description(channels) @ metric
    return small, places


def _metric(cells: Cells, rows: NDArray[np.int64]) -> Floats:
    """The directions of descriptions in which pictures differ most for what a near copy differs: (features, d).

    A sample of the pictures is recompressed, shifted, zoomed and brightened; what that does to descriptions is the
    unit of distance. Fisher, The use of multiple measurements in taxonomic
    problems, 1936.
    """
    from scipy.linalg import eigh

    rng = np.random.default_rng(0)
    some = np.resize(rng.permutation(rows), min(_METRIC_SAMPLES, _SAMPLES_A_ROW * len(rows)))
    plain, changed = [], []
    for block in _blocks(len(some), cells):
        images = cells.images[some[block]]
        plain.append(_description(_channels(_shrunk(images))))
        changed.append(_description(_channels(_disturbed(images, rng))))
    one, other = np.concatenate(plain).astype(np.float64), np.concatenate(changed).astype(np.float64)
    within = (one - other).T @ (one - other) / (2 * len(one))
    within += (1e-2 * np.trace(within) / len(within) + 1e-12) * np.eye(len(within))
    ratio, directions = eigh(np.cov(np.concatenate([one, other]).T), within)
    return np.asarray(directions[:, np.argsort(ratio)[::-1][:_METRIC_DIMENSIONS]], np.float32)


def _disturbed(images: Images, rng: np.random.Generator) -> Floats:
    """Each picture a little zoomed, and a part of them recompressed, shifted or brightened: (n, side, side, 3)."""
    count = len(images)
    coded, moved, lit = rng.random((3, count)) < [[0.3], [0.5], [0.5]]
    images = images.copy()
    for picture in np.flatnonzero(coded):
        images[picture] = _recompressed(images[picture], int(rng.integers(50, 96)))
    planes = _shrunk(images).astype(np.float32)
    zoom, shift = 1 / (1 + rng.uniform(0, 0.14, (count, 2))), moved[:, None] * rng.uniform(-0.06, 0.06, (count, 2))
    overlay = Overlay(np.zeros(count, np.int64), zoom, shift, np.ones(count))
    planes = np.stack([sampled(planes[..., channel], _SMALL_SIDE, overlay) for channel in range(3)], 3)
    gain = np.where(lit, rng.uniform(0.88, 1.12, count), 1)[:, None, None, None]
    levels = np.where(lit, rng.uniform(-18, 18, count), 0)[:, None, None, None]
    return np.asarray(np.clip(planes * gain + levels, 0, 255), np.float32)


def _recompressed(image: Images, quality: int) -> Images:
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, "JPEG", quality=quality)
    return np.asarray(Image.open(coded))


def _nearest(places: Floats, other: Floats | None, neighbours: int) -> NDArray[np.int64]:
    """The pairs of each place and its nearest ones among the others, or within: int64 (pairs, 2), sorted.

    Exact up to some ten thousands; beyond, only the cells of a Voronoi diagram around a place are searched.
    """
    import faiss

    stored = places if other is None else other
    index: Any = faiss.IndexFlatL2(places.shape[1])
    if len(stored) > _EXACT_SEARCH:
        regions = int(4 * np.sqrt(len(stored)))
        index = faiss.IndexIVFFlat(index, places.shape[1], regions)
        index.train(stored[:: max(1, len(stored) // (40 * regions))])
        index.nprobe = 32
    index.add(stored)
    wanted = neighbours + (other is None)
    found = np.asarray(index.search(places, min(wanted, len(stored)))[1], np.int64)
    pairs = np.stack([np.repeat(np.arange(len(places)), found.shape[1]), found.reshape(-1)], 1)
    pairs = pairs[pairs[:, 1] >= 0]
    if other is None:
        pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)


def _aligned(first: Images, second: Images, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], Overlay]:
    """The pairs that agree in the two quick alignments, and how."""
    kept, overlays = [np.zeros((0, 2), np.int64)], []
    for start in range(0, len(pairs), _SPECTRA_BLOCK):
        block = pairs[start : start + _SPECTRA_BLOCK]
        both = _spectra_of_pairs(first, second, block)
        overlay = Overlay.concatenate(
            [
                coarse_overlay(*({zoom: of[zoom][at[part : part + _BLOCK]] for zoom in ZOOMS} for of, at in both))
                for part in range(0, len(block), _BLOCK)
            ]
        )
        likely = np.flatnonzero(overlay.agreement >= _COARSE_AGREEMENT)
        block, overlay = block[likely], overlay.take(likely)
        for part in range(0, len(block), _BLOCK):
            some = block[part : part + _BLOCK]
            one, other = (small[some[:, side]].astype(np.float32) for side, small in enumerate((first, second)))
            better = fine_overlay(one, other, overlay.take(slice(part, part + _BLOCK)), side=_FINE_SIDE)
            likely = np.flatnonzero(better.agreement >= _FINE_AGREEMENT)
            kept.append(some[likely])
            overlays.append(better.take(likely))
    return np.concatenate(kept), Overlay.concatenate(overlays)


def _spectra_of_pairs(
    first: Images, second: Images, pairs: NDArray[np.int64]
) -> list[tuple[dict[float, Spectra], NDArray[np.int64]]]:
    """For each side of the pairs, the spectra of its pictures by zoom, each picture once, and where each pair's is."""
    if first is second:
        known, at = _spectra_of(first, pairs)
        return [(known, at[:, 0]), (known, at[:, 1])]
    return [_spectra_of(first, pairs[:, 0]), _spectra_of(second, pairs[:, 1])]


def _spectra_of(small: Images, rows: NDArray[np.int64]) -> tuple[dict[float, Spectra], NDArray[np.int64]]:
    different, at = np.unique(rows, return_inverse=True)
    parts: dict[float, list[Spectra]] = {zoom: [] for zoom in ZOOMS}
    for start in range(0, len(different), _CACHED):
        planes = small[different[start : start + _CACHED]].astype(np.float32)
        for zoom, found in parts.items():
            found.append(packed(spectra(planes, zoom)))
    return {zoom: np.concatenate(found) for zoom, found in parts.items()}, at.reshape(rows.shape)


def _compared(
    cells: Cells, other: Cells, rows: NDArray[np.int64], other_rows: NDArray[np.int64], overlay: Overlay
) -> tuple[NDArray[np.float64], list[list[str]]]:
    """The similarity of each pair by its pixels, and in words each change that makes the first of the second."""
    similarity: list[NDArray[np.float64]] = [np.zeros(0)]
    changed: list[list[str]] = []
    for block in _blocks(len(rows), cells, other):
        one, two = _lightness(cells.images[rows[block]]), _lightness(other.images[other_rows[block]])
        best = fine_overlay(one, two, overlay.take(block), side=_PIXEL_SIDE)
        found = likeness(one, two, best, side=_PIXEL_SIDE)
        similarity.append(found.similarity)
        changed += changes(best, found, cells.images.shape[1])
    return np.concatenate(similarity), changed


def _lightness(images: Images) -> Floats:
    return np.asarray(_square(images).mean(3, dtype=np.float32))
