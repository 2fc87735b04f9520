"""The sheet that explains one answer: the picture, where the network looks, what covering costs, and cells like it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.figures.cells import place, tiles
from hemascope.figures.theme import (
    INK,
    MUTED,
    ORANGE,
    PHOTO_DENSITY,
    TEAL,
    VIOLET,
    WIDE,
    in_two_lines,
    sheet,
    shortened,
)
from hemascope.wording import many

Heat = NDArray[np.floating[Any]]

_TILES = 6
_HEAD, _NAME = 0.2, 0.38  # of a tile: what stands above the pictures, and under those of the second row
_LARGE_FALL = 0.3


class Neighbour(NamedTuple):
    """A training cell that is like a picture: its class, how far its embedding lies away, which row it is, and its
    picture, uint8 (height, width, 3) of any size, or None where that is not at hand."""

    label: str
    distance: float
    id: str
    picture: NDArray[np.uint8] | None


def explanation(
    path: Path,
    image: NDArray[np.uint8],
    heatmap: Heat,
    *,
    title: str,
    label: str | None = None,
    answer: str | None = None,
    fall: Heat | None = None,
    covered: NDArray[np.bool_] | None = None,
    neighbours: Sequence[Neighbour] = (),
    told_of_neighbours: str = "",
    sentences: Sequence[str] = (),
) -> Path:
    """One answer explained, as a PNG.

    image: uint8 (height, width, 3). heatmap: float (height, width) in [0, 1]. title: the answer and how sure it is.
    label: what the cell is, where that is known. answer: the class that was said, which neighbours are compared with
    where it is not. fall: float (height, width), what covering a place costs the answer.
    covered: bool (height, width), what changes it. neighbours: the nearest training cells, the nearest first;
    told_of_neighbours: a sentence beside them. sentences: said beside the picture.
    """
    near = list(neighbours)[:_TILES]
    scale = WIDE / _TILES
    rows = _HEAD + 1 + ((_HEAD + 1 + _NAME) if near else 0.05)
    with sheet(path, WIDE, scale * rows, PHOTO_DENSITY) as (figure, description):
        axes = tiles(figure, 0, _TILES, rows)
        shown: list[tuple[str, NDArray[np.uint8]]] = [("picture", image), ("where it looks", overlaid(image, heatmap))]
        if fall is not None:
            # A fall that matters little must not look like one that matters.
            top = max(float(fall.max(initial=0)), _LARGE_FALL)
            shown.append(("what covering costs", overlaid(image, np.clip(fall, 0, None) / top)))
        if covered is not None:
            shown.append(("covered", np.where(covered[..., None], np.uint8(255), image)))
        for column, (name, picture) in enumerate(shown):
            axes.text(column + 0.05, _HEAD - 0.06, name, weight="bold", size=9, va="bottom")
            place(axes, picture, column, _HEAD, edge=INK if column == 0 else None)
        left = len(shown) + 0.08
        axes.text(left, _HEAD + 0.06, textwrap.fill(shortened(title, 60), 24), weight="bold", color=VIOLET, va="top")
        lines = [] if label is None else [f"Labelled {shortened(label, 40)}."]
        told = "\n".join(textwrap.fill(sentence, 23 * (_TILES - len(shown))) for sentence in (*lines, *sentences))
        axes.text(left, _HEAD + 0.28, told, size=7.5, color=MUTED, va="top", linespacing=1.3)
        top_row = 2 * _HEAD + 1
        if near:
            axes.text(0.05, top_row - 0.06, "training cells that are most alike", weight="bold", size=9, va="bottom")
        for column, cell in enumerate(near):
            same = cell.label == (label or answer or cell.label)
            blank = np.full((8, 8, 3), 255, np.uint8)
            place(axes, blank if cell.picture is None else cell.picture, column, top_row, edge=TEAL if same else ORANGE)
            if cell.picture is None:
                axes.text(column + 0.5, top_row + 0.5, in_two_lines(cell.label), ha="center", va="center")
            axes.text(column + 0.05, top_row + 1.08, shortened(cell.label, 22), size=8, weight="bold", va="center")
            axes.text(column + 0.05, top_row + 1.2, f"distance {cell.distance:.3f}", size=7.5, va="center")
            axes.text(column + 0.05, top_row + 1.31, shortened(cell.id, 30), size=6.5, color=MUTED, va="center")
        if near and len(near) < _TILES and told_of_neighbours:
            beside = textwrap.fill(told_of_neighbours, 23 * (_TILES - len(near)))
            axes.text(len(near) + 0.08, top_row + 0.06, beside, size=7.5, color=MUTED, va="top", linespacing=1.3)
        alike = ", ".join(f"{cell.label} ({cell.id}, distance {cell.distance:.3f})" for cell in near)
        told = f" Nearest training cells: {alike}." if near else ""
        description.append(" ".join([f"{title}.", *lines, *sentences]) + told)
    return path


def heat_maps(
    path: Path,
    images: NDArray[np.uint8],
    maps: Heat,
    records: Sequence[Mapping[str, Any]],
    pairs: int = 4,
) -> Path:
    """Pictures, each beside where the network looks, with what it is, what was said and how sure it was.

    images: uint8 (n, height, width, 3); maps: float (n, h, w) in [0, 1], of any size; in the order of records. records:
    mappings with id, label and predicted (class names) and confidence in [0, 1]. pairs: how many stand in a row.
    """
    rows = max(-(-len(records) // pairs), 1)
    wrong = any(record["label"] != record["predicted"] for record in records)
    gap, step = 0.24, 1.42 if wrong else 1.31  # between pairs; a tile and its lines of text
    width = pairs * (2 + gap) - gap
    scale = WIDE / width
    with sheet(path, WIDE, scale * step * rows, PHOTO_DENSITY) as (figure, description):
        axes = tiles(figure, 0, width, rows * step)
        for at, (record, image, heat) in enumerate(zip(records, images, maps, strict=True)):
            x, y = at % pairs * (2 + gap), at // pairs * step
            right = record["label"] == record["predicted"]
            place(axes, image, x, y, size=0.95)
            place(axes, overlaid(image, heat), x + 1, y, edge=TEAL if right else ORANGE, size=0.95)
            lines = [(shortened(record["label"], 34), TEAL)]
            if not right:
                said = shortened(record["predicted"], 29)
                lines = [(f"is {shortened(record['label'], 31)}", TEAL), (f"said {said}", ORANGE)]
            for line, (text, colour) in enumerate(lines):
                axes.text(x + 0.04, y + 1.08 + 0.12 * line, text, color=colour, weight="bold", size=8)
            told = f"confidence {float(record['confidence']):.3f}   {shortened(record['id'], 24)}"
            axes.text(x + 0.04, y + 1.08 + 0.12 * len(lines), told, color=MUTED, size=7.5)
        named = [f"{one['label']}, named {one['predicted']}" for one in records]
        description.append(
            f"{many(len(records), 'picture, beside', 'pictures, each beside')} its heat map: {'; '.join(named)}."
        )
    return path


def overlaid(image: NDArray[np.uint8], heat: Heat) -> NDArray[np.uint8]:
    """A heat map in [0, 1] over its picture, which is shown in grey where it is cold: uint8 (height, width, 3).

    heat: float, of any size: a model gives maps of its own.
    """
    from matplotlib import colormaps

    if heat.shape != image.shape[:2]:
        import cv2

        heat = np.asarray(cv2.resize(np.asarray(heat, np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    grey = image.astype(np.float32).mean(2, keepdims=True).repeat(3, axis=2)
    warm = np.asarray(colormaps["inferno"](0.15 + 0.8 * np.clip(heat, 0, 1)))[..., :3] * 255
    share = 0.7 * np.clip(heat, 0, 1)[..., None]
    return np.asarray((1 - share) * grey + share * warm, np.uint8)
