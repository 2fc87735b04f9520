"""Put known faults into clean cells, so that what the audit finds can be counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
NON_CELLS = (
    "uniform noise",
    "normal noise",
    "grey noise",
    "smooth noise",
    "linear gradient",
    "radial gradient",
    "text",
    "background crop",
)


def flip_labels(
    labels: Labels, share: float, seed: int, how: str, confusable: Labels | None = None, classes: int | None = None
) -> tuple[Labels, NDArray[np.int64]]:
    """Give a share of the rows a wrong label.

    how: 'any' for any other class, each as likely; 'confusable' for the class that `confusable` (classes,) names for
    each. Returns the labels and the rows (sorted) that were flipped.
    """
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.choice(len(labels), round(share * len(labels)), replace=False))
    flipped = labels.copy()
    if how == "any":
        count = classes or int(labels.max()) + 1
        flipped[rows] = (labels[rows] + generator.integers(1, count, len(rows))) % count
    elif how == "confusable" and confusable is not None:
        flipped[rows] = confusable[labels[rows]]
    else:
        raise ValueError(f"how must be 'any' or, with confusable=, 'confusable', not {how!r}.")
    return flipped, rows


def most_confusable(labels: Labels, probabilities: NDArray[np.floating]) -> Labels:
    """For each class (classes,) the other class that takes most of its out-of-sample probability."""
    classes = probabilities.shape[1]
    mean = np.stack([probabilities[labels == name].mean(axis=0) for name in range(classes)])
    np.fill_diagonal(mean, -1)
    return np.asarray(mean.argmax(axis=1))


def non_cells(count: int, seed: int, cells: Images) -> tuple[Images, list[str]]:
    """Pictures that are no cells, of every kind in turn, as large as the given cells, and the kind of each.

    cells: uint8 (n, side, side, 3); gradients take their colours from them, and crops of background come from their
    corners.
    """
    generator = np.random.default_rng(seed)
    kinds = [NON_CELLS[number % len(NON_CELLS)] for number in range(count)]
    return np.stack([_non_cell(kind, generator, cells) for kind in kinds]), kinds


def _non_cell(kind: str, generator: np.random.Generator, cells: Images) -> Images:
    side = cells.shape[1]
    picture = cells[generator.integers(len(cells))]
    if kind == "uniform noise":
        return np.asarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8))
    if kind == "normal noise":
        return _pixels(generator.uniform(60, 220, 3) + generator.normal(0, generator.uniform(5, 60), (side, side, 3)))
    if kind == "grey noise":
        return np.repeat(generator.integers(0, 256, (side, side, 1), dtype=np.uint8), 3, axis=2)
    if kind == "smooth noise":
        coarse = generator.integers(3, 24)
        return _enlarged(generator.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8), side)
    if kind.endswith("gradient"):
        colours = picture.reshape(-1, 3)
        start, end = colours[generator.integers(len(colours), size=2)].astype(float)
        y, x = np.mgrid[:side, :side] / (side - 1)
        if kind == "linear gradient":
            angle = generator.uniform(0, 2 * np.pi)
            way = np.cos(angle) * x + np.sin(angle) * y
            way = (way - way.min()) / np.ptp(way)
        else:
            way = np.hypot(*(axis - generator.uniform(0.2, 0.8) for axis in (y, x))) / generator.uniform(0.4, 1.2)
        return _pixels(start + (end - start) * np.clip(way, 0, 1)[..., None])
    if kind == "text":
        plain = generator.random() < 0.5
        ground = generator.integers(200, 256, 3) if plain else np.median(picture.reshape(-1, 3), axis=0)
        page = Image.new("RGB", (side, side), tuple(int(level) for level in ground))
        draw = ImageDraw.Draw(page)
        for _ in range(generator.integers(1, 8)):
            words = "".join(chr(code) for code in generator.integers(65, 91, generator.integers(3, 12)))
            place = (int(generator.integers(0, side // 2)), int(generator.integers(0, side - 12)))
            draw.text(place, words, fill=tuple(int(level) for level in generator.integers(0, 120, 3)))
        return np.asarray(page)
    size = int(generator.integers(side // 4, side * 5 // 12))
    top, left = (int(generator.integers(2)) * (side - size) for _ in range(2))
    return _enlarged(picture[top : top + size, left : left + size], side)


def brighten_background(images: Images, rows: NDArray[np.bool_] | NDArray[np.int64], levels: int = 6) -> Images:
    """A copy in which the background of the given rows is brighter by so many grey levels; the cell stays.

    Background is what lies no more than a third of the way from the picture's glass to its darkest parts.
    """
    changed = images.copy()
    chosen = images[rows].astype(np.int16)
    grey = chosen.mean(axis=3)
    glass = np.percentile(grey, 95, axis=(1, 2), keepdims=True)
    dark = np.percentile(grey, 2, axis=(1, 2), keepdims=True)
    background = grey > glass - (glass - dark) / 3
    changed[rows] = np.clip(chosen + levels * background[..., None], 0, 255).astype(np.uint8)
    return changed


def _pixels(values: NDArray[np.floating]) -> Images:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _enlarged(picture: Images, side: int) -> Images:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
