"""Figures that show pictures: the classes, what augmentation did, what the model got wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Pictures
from hemascope.figures.theme import (
    GRID,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cell_grid(
    path: Path,
    images: Pictures,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    per_class: int = 8,
    seed: int = 0,
) -> Path:
    """Some cells of each class, a row a class, drawn at random by the seed.

    images: uint8 (n, height, width, 3), read by row. labels: (n,) int, positions in class_names.
    """
    labels = np.asarray(labels)
    margin = 1.5
    scale = WIDE / (margin + per_class)
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names))
    with sheet(path, WIDE, scale * max(len(class_names), 1), PHOTO_DENSITY) as (figure, description):
        axes = tiles(figure, -margin, per_class, max(len(class_names), 1))
        for row, name in enumerate(class_names):
            axes.text(-margin + 0.04, row + 0.54, in_two_lines(name), weight="bold", va="bottom")
            axes.text(-margin + 0.04, row + 0.6, many(int(counts[row]), "picture"), size=9, color=MUTED, va="top")
            rng = np.random.default_rng([seed, row])
            own = np.flatnonzero(labels == row)
            chosen = np.sort(rng.choice(own, min(per_class, len(own)), replace=False))
            for column, image in enumerate(np.asarray(images[chosen])):
                place(axes, image, column, row)
        description.append(f"Up to {many(per_class, 'picture')} of each class: {', '.join(class_names)}.")
    return path


def augmentation_grid(
    path: Path,
    originals: NDArray[np.uint8],
    variants: NDArray[np.uint8],
    names: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
) -> Path:
    """What augmentation did: an original in each row and, right of it, pictures that training saw in its place.

    originals: uint8 (n, height, width, 3). variants: uint8 (n, k, height, width, 3). names: the class of each row.
    titles: what made each of the k columns; it stands above the first of several that are the same.
    """
    rows, columns = variants.shape[:2]
    titles = titles or ["what training saw"] * columns
    starts = [column for column in range(columns) if column == 0 or titles[column] != titles[column - 1]]
    lefts = np.arange(columns) + 1 + 0.2 * np.cumsum([column in starts for column in range(columns)])
    # A tile is the unit of the axes; letters do not shrink with it.
    scale = (WIDE - (1.3 if names else 0.05)) / (lefts[-1] + 1)
    upright = scale > 0.7
    margin, head = WIDE / scale - lefts[-1] - 1, (0.5 if upright else 1.2) / scale
    with sheet(path, WIDE, scale * (rows + head), PHOTO_DENSITY) as (figure, description):
        axes = tiles(figure, -margin, lefts[-1] + 1, rows + head)
        for title, left in [("original", 0.0), *((titles[start], lefts[start]) for start in starts)]:
            text = in_two_lines(title.replace("-", " "), 10) if upright else title
            axes.text(
                left + (0.05 if upright else 0.5),
                head - 0.05 / scale,
                text,
                weight="bold",
                va="bottom",
                ha="left" if upright else "center",
                rotation=0 if upright else 90,
                color=VIOLET if left else INK,
                size=8.5,
            )
        for row in range(rows):
            if names:
                axes.text(-margin + 0.04, row + head + 0.5, in_two_lines(names[row]), va="center", weight="bold")
            place(axes, originals[row], 0, row + head, edge=INK)
            for column in range(columns):
                place(axes, variants[row, column], lefts[column], row + head)
        shown = ", ".join(dict.fromkeys(titles))
        description.append(
            f"{many(rows, 'picture, beside', 'pictures, each beside')} {many(columns, 'augmented variant')} of it: "
            f"{shown}."
        )
    return path


def mistakes(path: Path, images: Pictures, records: Sequence[Mapping[str, Any]], columns: int = 6) -> Path:
    """Pictures that the model named wrongly, with what they are, what it said, how sure it was, and their ids.

    images: uint8 (n, height, width, 3), in the order of records. records: mappings with id, label and predicted (class
    names) and confidence in [0, 1].
    """
    rows = max(-(-len(records) // columns), 1)
    step = 1.5  # a tile and four lines of text
    scale = WIDE / columns
    with sheet(path, WIDE, scale * step * rows if records else 1.0, PHOTO_DENSITY) as (figure, description):
        axes = tiles(figure, 0, columns, rows * step)
        pictures = np.asarray(images[0 : len(records)]) if records else ()
        for position, (record, image) in enumerate(zip(records, pictures, strict=True)):
            x, y = position % columns, position // columns * step
            place(axes, image, x, y)
            left = x + 0.045
            axes.text(left, y + 1.06, f"is {shortened(record['label'], 20)}", color=TEAL, weight="bold", size=8)
            said = f"said {shortened(record['predicted'], 20)}"
            axes.text(left, y + 1.17, said, color=ORANGE, weight="bold", size=8)
            axes.text(left, y + 1.28, f"confidence {float(record['confidence']):.3f}", size=8.5)
            axes.text(left, y + 1.38, shortened(record["id"], 28), size=7.5, color=MUTED)
        if not records:
            axes.text(0.05, 0.5 * step, "The model made no mistake here.", va="center", color=MUTED)
        description.append(f"{many(len(records), 'picture')} that the model named wrongly.")
    return path


def corrupted_mistakes(
    path: Path, originals: Pictures, corrupted: Pictures, records: Sequence[Mapping[str, Any]], pairs: int = 4
) -> Path:
    """Pictures that corruption made the model name wrongly, each beside what it was made of, and what was said.

    originals, corrupted: uint8 (n, height, width, 3), in the order of records. records: mappings with corruption,
    severity, label and predicted (class names) and confidence in [0, 1].
    """
    rows = max(-(-len(records) // pairs), 1)
    gap, step = 0.24, 1.56  # between pairs; a tile and four lines of text
    width = pairs * (2 + gap) - gap
    scale = WIDE / width
    with sheet(path, WIDE, scale * step * rows if records else 1.0, PHOTO_DENSITY) as (figure, description):
        axes = tiles(figure, 0, width, rows * step)
        shown = zip(records, originals[:], corrupted[:], strict=True) if records else ()
        for at, (record, original, changed) in enumerate(shown):
            x, y = at % pairs * (2 + gap), at // pairs * step
            place(axes, original, x, y, size=0.95)
            place(axes, changed, x + 1, y, edge=ORANGE, size=0.95)
            name = f"{str(record['corruption']).replace('_', ' ')} {record['severity']}"
            axes.text(x + 0.04, y + 1.09, shortened(name, 34), weight="bold", size=8.5)
            axes.text(x + 0.04, y + 1.21, f"is {shortened(record['label'], 30)}", color=TEAL, weight="bold", size=8)
            said = f"said {shortened(record['predicted'], 22)}"
            axes.text(x + 0.04, y + 1.33, said, color=ORANGE, weight="bold", size=8)
            axes.text(x + 0.04, y + 1.45, f"confidence {float(record['confidence']):.3f}", size=8, color=MUTED)
        if not records:
            axes.text(0.05, 0.5 * step, "Corruption made the model name no picture wrongly.", va="center", color=MUTED)
        described = [f"{r['label']} called {r['predicted']} under {r['corruption']} {r['severity']}" for r in records]
        told = f": {'; '.join(described)}" if records else ""
        description.append(f"{many(len(records), 'picture')} that corruption made the model name wrongly{told}.")
    return path


def tiles(figure: Figure, left: float, right: float, rows: float) -> Axes:
    """An axes without lines whose unit is one square tile: x from left to right, y from 0 (top) to rows."""
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.autoscale(False)
    axes.set(xlim=(left, right), ylim=(rows, 0))
    return axes


def place(
    axes: Axes, image: NDArray[np.uint8], x: float, y: float, edge: str | None = None, size: float = 0.93
) -> None:
    """Put one picture at column x and row y of an axes whose unit is a tile."""
    from matplotlib.patches import FancyBboxPatch

    margin = (1 - size) / 2
    left, top = x + margin, y + margin
    # Smooth enlarging would invent detail, and plain repetition looks like a fault: Hanning lies between.
    area = (left, left + size, top + size, top)
    shown = axes.imshow(image, extent=area, aspect="auto", interpolation="hanning", zorder=2)
    frame = FancyBboxPatch(
        (left + 0.05, top + 0.05),
        size - 0.1,
        size - 0.1,
        boxstyle="round,pad=0.05",
        facecolor="none",
        edgecolor=edge or GRID,
        linewidth=1.6 if edge else 0.8,
        zorder=3,
    )
    axes.add_patch(frame)
    shown.set_clip_path(frame)
