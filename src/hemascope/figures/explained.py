"""The sheet that explains one answer: the picture, where the network looks, what covering costs, and cells like it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

Heat = NDArray[np.floating[Any]]

_TILES = 6
_HEAD, _NAME = 0.2, 0.27  # of a tile: what stands above the pictures, and under those of the second row
_LARGE_FALL = 0.3


def explanation(
    path: Path,
    image: NDArray[np.uint8],
    heatmap: Heat,
    *,
    title: str,
    label: str | None = None,
    fall: Heat | None = None,
    covered: NDArray[np.bool_] | None = None,
    neighbours: Sequence[tuple[str, float, NDArray[np.uint8] | None]] = (),
    sentences: Sequence[str] = (),
) -> Path:
    """One answer explained, as a PNG.

    image: uint8 (height, width, 3). heatmap: float (height, width) in [0, 1]. title: the answer and how sure it is.
    label: what the cell is, where that is known. fall: float (height, width), what covering a place costs the answer.
    covered: bool (height, width), what changes it. neighbours: of the nearest training cells the class, the cosine and
    the picture, uint8 (height, width, 3) of any size, or None where it is not at hand. sentences: said beside it.
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
        if near:
            top_row = 2 * _HEAD + 1
            axes.text(0.05, top_row - 0.06, "training cells that are most alike", weight="bold", size=9, va="bottom")
        for column, (name, cosine, picture_of) in enumerate(near):
            same = label is None or name == label
            blank = np.full((8, 8, 3), 255, np.uint8)
            place(axes, blank if picture_of is None else picture_of, column, top_row, edge=TEAL if same else ORANGE)
            if picture_of is None:
                axes.text(column + 0.5, top_row + 0.5, in_two_lines(name), ha="center", va="center")
            axes.text(column + 0.05, top_row + 1.08, shortened(name, 22), size=8, weight="bold", va="center")
            axes.text(column + 0.05, top_row + 1.2, f"cosine {cosine:.2f}", size=7.5, color=MUTED, va="center")
        alike = f" Nearest training cells: {', '.join(name for name, _, _ in near)}." if near else ""
        description.append(" ".join([f"{title}.", *lines, *sentences]) + alike)
    return path


def overlaid(image: NDArray[np.uint8], heat: Heat) -> NDArray[np.uint8]:
    """A heat map in [0, 1] over its picture, which is shown in grey where it is cold: uint8 (height, width, 3)."""
    from matplotlib import colormaps

    grey = image.astype(np.float32).mean(2, keepdims=True).repeat(3, axis=2)
    warm = np.asarray(colormaps["inferno"](0.15 + 0.8 * np.clip(heat, 0, 1)))[..., :3] * 255
    share = 0.7 * np.clip(heat, 0, 1)[..., None]
    return np.asarray((1 - share) * grey + share * warm, np.uint8)
