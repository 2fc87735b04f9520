"""The figure that shows corruptions: every family at every severity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt import FAMILIES, SEVERITIES, corrupt
from hemascope.figures.cells import place, tiles
from hemascope.figures.theme import INK, MUTED, PHOTO_DENSITY, VIOLET, WIDE, in_two_lines, sheet


def corruption_sheet(
    path: Path,
    images: NDArray[np.uint8],
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    beside: int = 2,
    density: int = PHOTO_DENSITY,
) -> Path:
    """Every family of corruption, a row a family: an original and, right of it, what severities 1 to 5 make of it.

    images: uint8 (n, height, width, 3); the families take one after the other, from the start again after the last.
    names: keys of FAMILIES, all where not given. beside: how many families share a row. density: pixels an inch.
    """
    names = list(FAMILIES if names is None else names)
    margin, head = 1.55, 0.4
    block = margin + 1 + len(SEVERITIES)
    rows = -(-len(names) // beside)
    scale = WIDE / (block * beside)
    with sheet(path, WIDE, scale * (rows + head), density) as (figure, description):
        axes = tiles(figure, 0, block * beside, rows + head)
        for number, name in enumerate(names):
            left, top = number // rows * block, number % rows + head
            if number % rows == 0:
                axes.text(left + margin + 0.05, head - 0.2, "original", weight="bold", va="center", size=9)
                for severity in SEVERITIES:
                    x = left + margin + severity + 0.05
                    axes.text(x, head - 0.2, f"severity {severity}", va="center", size=9, color=MUTED)
            color = VIOLET if FAMILIES[name].group == "held-out" else INK
            words = in_two_lines(name.replace("_", " "), 13)
            axes.text(left + 0.06, top + 0.5, words, va="center", weight="bold", size=9, color=color)
            row = number % len(images)
            original = images[row : row + 1]
            place(axes, original[0], left + margin, top, edge=INK)
            for severity in SEVERITIES:
                seen = corrupt(original, name, severity, seed=seed, rows=np.array([row]))[0]
                place(axes, seen, left + margin + severity, top)
        description.append(f"{len(names)} families of corruption at five severities: {', '.join(names)}.")
    return path
