"""How unseen a corruption is to a recipe: measured as a distance to what its augmentation does, not asserted.

Every draw of an augmentation or a corruption is applied alike to a fixed set of pictures, and the mean of their
features says what it does to pictures in general. How near the recipe's nearest draw comes to a corruption is the
minimal sample distance of Mintun, Kirillov and Xie, On Interaction Between Augmentations and Corruptions in Natural
Corruption Robustness, 2021, arXiv 2102.11273. The features here are plain ones that keep what a network may trip over
(brightness, colour, blur, noise, blocks, stripes, shade), where those of `hemascope.audit` are made to ignore it.

Two things differ from the paper. The distance is told as a share of the corruption's own shift away from the clean
pictures: 1 when no draw of the recipe comes nearer to it than a clean picture does, 0 when a draw does the same. A
plain distance would call every slight corruption seen beside a recipe of strong colours, whose draws lie far apart. And
it is the median over the corruption's draws, not that of their mean: where each draw shifts the pictures another way,
the mean is no shift at all, however far each draw goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt import FAMILIES, SEVERITIES, corrupt
from hemascope.data import Cells, Images
from hemascope.draws import permutation, word
from hemascope.progress import Progress
from hemascope.resize import resize

if TYPE_CHECKING:
    from hemascope.recipe import Augmentation

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

SIDE = 96
"""Larger pictures are measured at this side, so that a blur of one pixel is the same in every set."""
PICTURES = 16
DRAWS = 512
"""Of all of a recipe's steps in their order; each step alone gets half as many, however many steps there are."""
OWN_DRAWS = 3
"""Of each family at each severity."""
SEEN = 0.95
"""How surely a family that is one of the recipe's own augmentations is called seen.

The threshold is what such a family would show: of as many draws of one augmentation as a family has, each set against
all other draws of the recipe, the median share; and of many such medians the 95th percentile, the largest over the
recipe's augmentations, each alone, and all of them in their order. It comes from the recipe and the pictures alone,
before any corruption is looked at. A recipe that augments nothing, or does the same few things always, has the
threshold 0, and only what it does is seen. Shares near the threshold can be wrong either way, so they are told.
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

    threshold: the share up to which a family counts as seen. shares: family -> the median over its severities and draws
    of the distance to the recipe's nearest draw, as a share of the distance to the clean pictures, in [0, 1].
    shifts: family -> the median distance to the clean pictures, in standard deviations of their features.
    """

    threshold: float
    shares: dict[str, float]
    shifts: dict[str, float]
    draws: int
    pictures: int

    def seen(self, family: str) -> bool:
        """Whether the recipe's draws come as near to a family as to each other."""
        return self.shares[family] <= self.threshold

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON file."""
        return {
            "threshold": self.threshold,
            "draws": self.draws,
            "pictures": self.pictures,
            "families": {
                name: {"share": share, "shift": self.shifts[name], "seen": self.seen(name)}
                for name, share in self.shares.items()
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
    """How far each family of corruption lies from what a recipe's augmentation does.

    cells: some clean pictures, of which `pictures` are used, as evenly over the classes as can be. augmentation: a
    recipe's. families: of `hemascope.corrupt`, all when None. The clean pictures themselves are one of the draws.
    """
    images = _fixed(cells, pictures)
    clean = features(images)
    middle, spread = clean.mean(0), clean.std(0)
    used = spread > _LEAST

    def place(changed: Images) -> Floats:
        # Beyond a standard deviation only the logarithm grows, so that one loud change does not drown all others.
        return np.asarray(np.arcsinh((features(changed).mean(0) - middle)[used] / spread[used]) / np.sqrt(used.sum()))

    places, ways = [place(images)], [-1]
    trials = [
        (way, steps, draw)
        for way, steps in enumerate(_ways(augmentation))
        for draw in range(draws if way == 0 else draws // 2)
    ]
    names = list(FAMILIES if families is None else families)
    shares, shifts = {}, {}
    count = len(trials) + len(names) * len(SEVERITIES) * own_draws
    with Progress("how unseen each family is", count, "draws") as progress:
        for way, steps, draw in trials:
            places.append(place(_augmented(images, steps, word(seed, way, draw, "novelty"), draw)))
            ways.append(way)
            progress.advance()
        points, origin = np.array(places), np.array(ways)
        for name in names:
            own = []
            for severity, draw in product(SEVERITIES, range(own_draws)):
                own.append(
                    place(corrupt(images, name, severity, seed=word(seed, 0, draw, "own"), rows=_alike(draw, images)))
                )
                progress.advance()
            shift = np.linalg.norm(own, axis=1)
            shares[name] = float(np.median(_share(_distances(np.array(own), points).min(1), shift)))
            shifts[name] = float(np.median(shift))
    threshold = seen_share(points, origin, len(SEVERITIES) * own_draws)
    return Novelty(threshold, shares, shifts, len(points) - 1, len(images))


def seen_share(points: Floats, origin: NDArray[np.int64], count: int, trials: int = 2000) -> float:
    """The threshold that SEEN explains, from the places of the recipe's draws: a share in [0, 1].

    points: (1 + draws, features), the first of them the clean pictures. origin: (1 + draws,), which of the recipe's
    ways to augment each draw came from. count: how many draws a family has.
    """
    between = _distances(points, points)
    np.fill_diagonal(between, np.inf)
    shares = _share(between.min(1), np.linalg.norm(points - points[0], axis=1))
    found = [0.0]
    for way in np.unique(origin[1:]):
        own = shares[1:][origin[1:] == way]
        chosen = np.random.default_rng(0).integers(len(own), size=(trials, count))
        found.append(float(np.quantile(np.median(own[chosen], axis=1), SEEN)))
    return max(found)


def _share(distance: Floats, shift: Floats) -> Floats:
    """A distance as a share of a shift; nothing of nothing is 0."""
    return np.divide(distance, shift, out=np.zeros_like(shift), where=shift > 0)


def _distances(points: Floats, others: Floats) -> Floats:
    """The distance from each of `points` (n, features) to each of `others` (m, features): (n, m)."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(points, others))


def features(images: Images) -> Floats:
    """Numbers that move when a picture is changed: float64 (n, features).

    images: uint8 (n, height, width, 3), at least 16 pixels wide and high. Each kind of change has numbers of its own.
    Of grey and two opponent colours: the mean, the logarithm of the spread, the form of the histogram; of four bands of
    a Laplacian pyramid (Burt and Adelson, 1983) the energy against that spread, and how peaked it is. Of grey: how the
    differences at two scales lean to one of four directions, the light in a grid of three by three against the mean,
    quantiles of the local spread, and how much larger steps are at every eighth pixel.
    """
    parts = [_describe(images[start : start + _STEP]) for start in range(0, len(images), _STEP)]
    return np.concatenate(parts).astype(np.float64)


def _describe(images: Images) -> Singles:
    red, green, blue = (images[..., channel].astype(np.float32) * np.float32(1 / 255) for channel in range(3))
    grey: Singles = (red + green + blue) * np.float32(1 / 3)
    found = []
    for channel in (grey, red - green, (red + green) * np.float32(1 / 2) - blue):
        found += [*_histogram(channel), *_bands(channel)]
    found += [*_directions(grey), *_directions(_halved(grey))]
    found += [*_grid(grey), *_local_spread(grey), _blocks(grey)]
    return np.stack(found, axis=1)


def _histogram(channel: Singles) -> list[Singles]:
    """Mean, logarithm of the spread, and its form: five quantiles and skewness, mean and spread taken out."""
    flat = channel.reshape(len(channel), -1)
    mean, spread = flat.mean(1), flat.std(1) + _LEAST
    away = (flat - mean[:, None]) / spread[:, None]
    places = [round(share * (flat.shape[1] - 1)) for share in (0.02, 0.25, 0.5, 0.75, 0.98)]
    quantiles = np.partition(away, places, axis=1)[:, places].T
    return [mean, np.log(spread), *quantiles, (away * away * away).mean(1)]


def _bands(channel: Singles) -> list[Singles]:
    """Of each band the logarithm of its root mean square over the spread, and over its mean size."""
    found = []
    spread = _logarithm(channel.std((1, 2)))
    for _ in range(_BANDS):
        below = _halved(channel)
        rows, columns = (_doubling(side) for side in channel.shape[1:])
        band = channel - rows @ (below @ columns.T)
        energy, size = _logarithm(np.sqrt((band * band).mean((1, 2)))), _logarithm(np.abs(band).mean((1, 2)))
        found += [energy - spread, energy - size]
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
    """How much larger the steps along each of four directions are than along all of them, on a logarithmic scale."""
    steps = (
        grey[:, :, 1:] - grey[:, :, :-1],
        grey[:, 1:] - grey[:, :-1],
        grey[:, 1:, 1:] - grey[:, :-1, :-1],
        grey[:, 1:, :-1] - grey[:, :-1, 1:],
    )
    sizes = np.stack([_logarithm(np.abs(step).mean((1, 2))) for step in steps])
    return list(sizes - sizes.mean(0))


def _grid(grey: Singles) -> list[Singles]:
    """The light in each of three by three parts, mean and spread of the picture taken out."""
    parts = [part.mean((1, 2)) for strip in np.array_split(grey, _GRID, 1) for part in np.array_split(strip, _GRID, 2)]
    return [(part - grey.mean((1, 2))) / (grey.std((1, 2)) + _LEAST) for part in parts]


def _local_spread(grey: Singles) -> list[Singles]:
    """Five quantiles of the logarithm of the spread in blocks of eight by eight pixels, the picture's taken out."""
    rows, columns = (side // _BLOCK for side in grey.shape[1:])
    blocks = grey[:, : rows * _BLOCK, : columns * _BLOCK].reshape(len(grey), rows, _BLOCK, columns, _BLOCK)
    spreads = _logarithm(blocks.std(axis=(2, 4)).reshape(len(grey), -1)) - _logarithm(grey.std((1, 2)))[:, None]
    return list(np.quantile(spreads, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1))


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


def _ways(augmentation: Sequence[Augmentation]) -> list[list[Augmentation]]:
    """What counts as one of the recipe's ways to augment: all steps in their order, and each of them alone."""
    alone = [[step.model_copy(update={"probability": 1.0})] for step in augmentation]
    return [list(augmentation), *alone] if len(alone) > 1 else alone


def _augmented(images: Images, steps: Sequence[Augmentation], seed: int, draw: int) -> Images:
    """The pictures after one draw, the same for all."""
    from hemascope.augment import augment

    return augment(images, _alike(draw, images), steps, seed=seed, epoch=0, threads=1)
