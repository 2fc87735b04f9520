"""How unseen a corruption is to a recipe: measured as a distance to what its augmentation does, not asserted.

Every draw of an augmentation or a corruption is applied alike to a fixed set of pictures, and the mean of their
features says what it does to pictures in general. How near the recipe's nearest draw comes to a corruption is the
minimal sample distance of Mintun, Kirillov and Xie, On Interaction Between Augmentations and Corruptions in Natural
Corruption Robustness, 2021, arXiv 2102.11273. The features here are plain ones that keep what a network may trip over
(brightness, colour, blur, noise, blocks, stripes, shade), where those of `hemascope.audit` are made to ignore it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt import FAMILIES, SEVERITIES, corrupt
from hemascope.data import Cells, Images
from hemascope.draws import permutation, word
from hemascope.resize import resize

if TYPE_CHECKING:
    from hemascope.recipe import Augmentation

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

SIDE = 96
"""Larger pictures are measured at this side, so that a blur of one pixel is the same in every set."""
PICTURES = 32
DRAWS = 512
OWN_DRAWS = 3
"""Of each family at each severity."""
SEEN = 0.95
"""The share of the recipe's own draws that counts as seen when each is looked for among the others.

The draws are parted in two halves, and the distance from each draw of one half to the nearest of the other is what a
draw of the recipe itself would show. Their 95th percentile is the threshold: a family whose distance is no larger lies
as near to the recipe's draws as these lie to each other, so that training has seen its like; were a family the recipe's
own augmentation, it would be called seen at that rate. The threshold comes from the recipe and the pictures alone,
before any corruption is looked at, and a recipe that augments nothing has the threshold 0.
"""

_BANDS = 4
_GRID = 3
_BLOCK = 8
_STEP = 8
_LEAST = 1e-3
"""What is added before a logarithm, a quarter of a grey level: below it a difference is none."""


@dataclass(frozen=True)
class Novelty:
    """What `novelty` found.

    threshold: the distance up to which a family counts as seen. distances: family -> the median, over its severities
    and draws, of the distance to the recipe's nearest draw. shifts: family -> the same to the clean pictures, for
    comparison. Distances are in standard deviations of the clean pictures' features, root mean square over the
    features.
    """

    threshold: float
    distances: dict[str, float]
    shifts: dict[str, float]
    draws: int
    pictures: int

    def seen(self, family: str) -> bool:
        """Whether the recipe's draws come as near to a family as to each other."""
        return self.distances[family] <= self.threshold

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON file."""
        return {
            "threshold": self.threshold,
            "draws": self.draws,
            "pictures": self.pictures,
            "families": {
                name: {"distance": distance, "shift": self.shifts[name], "seen": self.seen(name)}
                for name, distance in self.distances.items()
            },
        }


def novelty(
    cells: Cells,
    augmentation: Sequence[Augmentation],
    families: Sequence[str] | None = None,
    *,
    seed: int = 0,
    pictures: int = PICTURES,
    draws: int = DRAWS,
    own_draws: int = OWN_DRAWS,
) -> Novelty:
    """How far each family of corruption lies from what a recipe's augmentation does. Needs torch, as augmenting does.

    cells: some clean pictures, of which `pictures` are used, as evenly over the classes as can be. augmentation: a
    recipe's. families: of `hemascope.corrupt`, all when None. The clean pictures themselves are one of the draws.

    A family's distance is the median over its own draws rather than that of their mean: where each draw shifts the
    pictures another way, the mean is no shift at all, however far each draw goes.
    """
    images = _fixed(cells, pictures)
    clean = features(images)
    middle, spread = clean.mean(0), clean.std(0)
    used = spread > 1e-6
    scale = np.where(used, spread, 1.0) * np.sqrt(max(int(used.sum()), 1))

    def place(changed: Images) -> Floats:
        return np.asarray(((features(changed).mean(0) - middle) / scale)[used])

    origin = np.zeros((1, int(used.sum())))
    known = [place(changed) for changed in _augmented(images, augmentation, draws, seed)] if augmentation else []
    points = np.concatenate([origin, np.array(known).reshape(-1, origin.shape[1])])
    distances, shifts = {}, {}
    for name in FAMILIES if families is None else families:
        own = np.array(
            [
                place(corrupt(images, name, severity, seed=word(seed, 0, draw, "novelty"), rows=_alike(draw, images)))
                for severity in SEVERITIES
                for draw in range(own_draws)
            ]
        )
        distances[name] = float(np.median(nearest(own, points)))
        shifts[name] = float(np.median(np.linalg.norm(own, axis=1)))
    return Novelty(seen_distance(points), distances, shifts, len(known), len(images))


def seen_distance(points: Floats) -> float:
    """The threshold of SEEN: how near a draw lies to the others.

    points: (draws, features). Returns the SEEN quantile of the distances from each draw of one half to the nearest of
    the other, both ways; 0 with fewer than two draws.
    """
    if len(points) < 2:
        return 0.0
    first, second = points[::2], points[1::2]
    return float(np.quantile(np.concatenate([nearest(first, second), nearest(second, first)]), SEEN))


def nearest(points: Floats, others: Floats) -> Floats:
    """The distance from each of `points` (n, features) to the nearest of `others` (m, features): (n,)."""
    return np.array([np.linalg.norm(others - point, axis=1).min() for point in points])


def features(images: Images) -> Floats:
    """Numbers that move when a picture is changed: float64 (n, features).

    images: uint8 (n, height, width, 3), at least 16 pixels wide and high. Of grey and two opponent colours: quantiles,
    mean, spread and skewness, and of four bands of a Laplacian pyramid (Burt and Adelson, 1983) the logarithm of the
    energy and how peaked it is; of grey at two scales the logarithm of the differences along four directions; the light
    in a grid of three by three; quantiles of the local spread; and how much larger steps are at every eighth pixel.
    """
    parts = [_describe(images[start : start + _STEP]) for start in range(0, len(images), _STEP)]
    return np.concatenate(parts).astype(np.float64)


def _describe(images: Images) -> Singles:
    red, green, blue = (images[..., channel].astype(np.float32) * np.float32(1 / 255) for channel in range(3))
    grey: Singles = (red + green + blue) * np.float32(1 / 3)
    found = []
    for channel in (grey, red - green, (red + green) * np.float32(1 / 2) - blue):
        found += [*_moments(channel), *_bands(channel)]
    found += [*_directions(grey), *_directions(_halved(grey))]
    found += [part.mean((1, 2)) for strip in np.array_split(grey, _GRID, 1) for part in np.array_split(strip, _GRID, 2)]
    found += [*np.quantile(_logarithm(_local_spread(grey)), (0.05, 0.25, 0.5, 0.75, 0.95), axis=1), _blocks(grey)]
    return np.stack(found, axis=1)


def _moments(channel: Singles) -> list[Singles]:
    """Five quantiles, mean, spread and skewness."""
    flat = channel.reshape(len(channel), -1)
    places = [round(share * (flat.shape[1] - 1)) for share in (0.02, 0.25, 0.5, 0.75, 0.98)]
    quantiles = np.partition(flat, places, axis=1)[:, places].T
    mean, deviation = flat.mean(1), flat.std(1)
    away = (flat - mean[:, None]) / (deviation[:, None] + _LEAST)
    return [*quantiles, mean, deviation, (away * away * away).mean(1)]


def _bands(channel: Singles) -> list[Singles]:
    """Of each band the logarithm of its root mean square, and of how much larger that is than its mean size."""
    found = []
    for _ in range(_BANDS):
        below = _halved(channel)
        rows, columns = (_doubling(side) for side in channel.shape[1:])
        band = channel - rows @ (below @ columns.T)
        energy, size = np.sqrt((band * band).mean((1, 2))), np.abs(band).mean((1, 2))
        found += [_logarithm(energy), _logarithm(energy) - _logarithm(size)]
        channel = below
    return found


def _halved(channel: Singles) -> Singles:
    rows, columns = (_binomial(side) for side in channel.shape[1:])
    return np.asarray(rows @ (channel @ columns.T))


@lru_cache(maxsize=32)
def _binomial(side: int) -> Singles:
    """The matrix (side / 2, side) that smooths by 1 4 6 4 1 and keeps every second place, the border repeated."""
    weights = np.zeros((side, side), np.float32)
    for offset, tap in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
        np.add.at(weights, (np.arange(side), np.clip(np.arange(side) + offset, 0, side - 1)), tap / 16)
    return weights[::2]


@lru_cache(maxsize=32)
def _doubling(side: int) -> Singles:
    """The matrix (side, side / 2) that brings what `_binomial` has halved back to its side."""
    weights = _binomial(side).T
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _directions(grey: Singles) -> list[Singles]:
    steps = (
        grey[:, :, 1:] - grey[:, :, :-1],
        grey[:, 1:] - grey[:, :-1],
        grey[:, 1:, 1:] - grey[:, :-1, :-1],
        grey[:, 1:, :-1] - grey[:, :-1, 1:],
    )
    return [_logarithm(np.abs(step).mean((1, 2))) for step in steps]


def _local_spread(grey: Singles) -> Singles:
    """The standard deviation in each block of eight by eight pixels: (n, blocks)."""
    rows, columns = (side // _BLOCK for side in grey.shape[1:])
    blocks = grey[:, : rows * _BLOCK, : columns * _BLOCK].reshape(len(grey), rows, _BLOCK, columns, _BLOCK)
    return np.asarray(blocks.std(axis=(2, 4))).reshape(len(grey), -1)


def _blocks(grey: Singles) -> Singles:
    """How much larger steps are between blocks of eight pixels than elsewhere, on a logarithmic scale."""
    across, along = np.abs(grey[:, :, 1:] - grey[:, :, :-1]).mean(1), np.abs(grey[:, 1:] - grey[:, :-1]).mean(2)
    steps = np.concatenate([across, along], axis=1)
    between = np.concatenate([across[:, _BLOCK - 1 :: _BLOCK], along[:, _BLOCK - 1 :: _BLOCK]], axis=1)
    return _logarithm(between.mean(1)) - _logarithm(steps.mean(1))


def _logarithm(values: Singles) -> Singles:
    return np.asarray(np.log(values + _LEAST), np.float32)


def _fixed(cells: Cells, count: int) -> Images:
    """`count` pictures, one class after the other in turn: uint8 (<= count, side, side, 3), no side above SIDE."""
    order = permutation(0, 0, len(cells))
    turn = np.zeros(len(cells), np.int64)
    for label in np.unique(cells.labels):
        own = order[cells.labels[order] == label]
        turn[own] = np.arange(len(own))
    chosen = np.sort(order[np.argsort(turn[order], kind="stable")][:count])
    images = np.asarray(cells.images[chosen])
    return resize(images, SIDE) if max(images.shape[1:3]) > SIDE else images


def _alike(draw: int, images: Images) -> NDArray[np.int64]:
    """One row number for all pictures, which gives all of them the same draw."""
    return np.full(len(images), draw, np.int64)


def _augmented(images: Images, augmentation: Sequence[Augmentation], draws: int, seed: int) -> Any:
    """The pictures after each of so many draws of the recipe, as an iterator."""
    import torch

    from hemascope.augment import augment

    batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    for draw in range(draws):
        changed = augment(batch, _alike(draw, images), augmentation, seed=word(seed, 0, draw, "novelty"), epoch=0)
        yield np.ascontiguousarray(changed.permute(0, 2, 3, 1).numpy())
