"""Plant near copies of known kinds among pictures, to measure how many of them an audit finds."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]
COMBINED_PART = 0.4
"""The part of the planted pictures that are changed in two ways."""


def plant(images: Images, count: int, seed: int) -> tuple[Images, NDArray[np.int64], list[str]]:
    """Append `count` near copies of as many different pictures.

    images: uint8 (n, height, width, 3), with n >= count. Returns the n + count pictures, the pairs int64 (count, 2)
    of the row copied and the row planted, and the kind of each, such as "turned" or "mirrored + recompressed". Every
    kind of KINDS comes up equally often alone, and every pair of them in the part that is combined.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(images), count, replace=False))
    combined = round(count * COMBINED_PART)
    pairs = list(combinations(KINDS, 2))
    recipes: list[tuple[str, ...]] = [(tuple(KINDS)[at % len(KINDS)],) for at in range(count - combined)]
    recipes += [pairs[at % len(pairs)] for at in range(combined)]
    recipes = [recipes[at] for at in rng.permutation(count)]
    planted = []
    for row, recipe in zip(rows, recipes, strict=True):
        image = images[row]
        for kind in recipe:
            image = KINDS[kind](image, rng)
        planted.append(image)
    together = np.concatenate([images, np.stack(planted)])
    return together, np.stack([rows, len(images) + np.arange(count)], 1), [" + ".join(recipe) for recipe in recipes]


def turned(image: Images, rng: np.random.Generator) -> Images:
    return np.rot90(image, int(rng.integers(1, 4)))


def mirrored(image: Images, rng: np.random.Generator) -> Images:
    return np.flip(image, axis=int(rng.integers(2)))


def recompressed(image: Images, rng: np.random.Generator) -> Images:
    coded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(coded, "JPEG", quality=int(rng.integers(50, 96)))
    return np.asarray(Image.open(coded))


def shifted(image: Images, rng: np.random.Generator) -> Images:
    """Moved by up to a 16th of a side each way, never by none; what comes in at the border is unknown: invented."""
    height, width = image.shape[:2]
    most = max(height // 16, 1)
    down, right = 0, 0
    while down == right == 0:
        down, right = rng.integers(-most, most + 1, 2)
    border = ((most, most), (most, most), (0, 0))
    wide = np.pad(image, border, mode="reflect") if rng.random() < 0.5 else np.pad(image, border, mode="edge")
    return wide[most - down : most - down + height, most - right : most - right + width]


def brightened(image: Images, rng: np.random.Generator) -> Images:
    """A gain and an offset, either way up to about 30 grey levels, cut off at white and black."""
    gain, levels = rng.uniform(0.88, 1.12), rng.uniform(4, 18) * rng.choice([-1, 1])
    return np.asarray(np.clip(np.rint(image * gain + levels), 0, 255), np.uint8)


def zoomed(image: Images, rng: np.random.Generator) -> Images:
    """All but a border of up to a 16th on each side, brought back to the old size."""
    height, width = image.shape[:2]
    left, top, right, bottom = rng.integers(1, max(height // 16, 1) + 1, 4)
    box = (left, top, width - right, height - bottom)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), _filter(rng), box))


def resampled(image: Images, rng: np.random.Generator) -> Images:
    """Made smaller, to 40 to 85% of its side, and brought back to the old size."""
    height, width = image.shape[:2]
    part = rng.uniform(0.4, 0.85)
    small = Image.fromarray(np.ascontiguousarray(image)).resize(
        (round(width * part), round(height * part)), _filter(rng)
    )
    return np.asarray(small.resize((width, height), _filter(rng)))


def _filter(rng: np.random.Generator) -> Image.Resampling:
    return (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)[rng.integers(3)]


KINDS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "turned": turned,
    "mirrored": mirrored,
    "recompressed": recompressed,
    "shifted": shifted,
    "brightened": brightened,
    "zoomed": zoomed,
    "resampled": resampled,
}
