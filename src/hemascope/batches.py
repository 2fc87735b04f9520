"""The batches of an epoch: which rows, what augmentation makes of them, and what they then show.

The pictures lie on the device as uint8 where they fit into a share of its memory. Where they do not, they stay where
the data keep them, on disk for a large set, and threads read the batches ahead of the network.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot

from hemascope import draws
from hemascope.augment import MIXING, augment, label_weights
from hemascope.augment.on_tensors import on_device
from hemascope.data.cells import Pictures, PictureView
from hemascope.devices import memory_of
from hemascope.recipe import Recipe

MEMORY_SHARE = 0.25
"""Up to this share of the device's memory is taken by pictures; a larger set is streamed."""
BLOCK_PIXELS = 256 * 96**2
"""Steps of fewer pixels are augmented several at a time: a call has its costs however little it has to do."""
_COPIED_ROWS = 4096

Rows = NDArray[np.int64]


class Source(NamedTuple):
    """Pictures ready to be taken from.

    pictures: uint8, a tensor (n, 3, height, width) on the device, or `Pictures` (n, height, width, 3).
    streamed: whether reading them takes time that somebody should spend beforehand.
    """

    pictures: torch.Tensor | Pictures
    streamed: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many, their height and their width."""
        count, *sides = self.pictures.shape
        height, width = sides[1:] if isinstance(self.pictures, torch.Tensor) else sides[:2]
        return count, height, width


def hold(pictures: Pictures, device: torch.device) -> Source:
    """Bring pictures to the device, or leave them where they are when they are more than MEMORY_SHARE of its memory."""
    below = pictures.pictures if isinstance(pictures, PictureView) else pictures
    in_memory = isinstance(below, np.ndarray) and not isinstance(below, np.memmap)
    if device.type == "cpu" and in_memory:
        return Source(pictures, streamed=False)
    if math.prod(pictures.shape) > MEMORY_SHARE * memory_of(device):
        return Source(pictures, streamed=True)
    if device.type == "cpu":
        read = pictures[:]
        return Source(np.array(read) if isinstance(read, np.memmap) else read, streamed=False)
    held = torch.empty(pictures.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(pictures), _COPIED_ROWS):
        part = slice(start, start + _COPIED_ROWS)
        held[part] = torch.from_numpy(np.ascontiguousarray(pictures[part]))
    return Source(held.permute(0, 3, 1, 2), streamed=False)


class Batch(NamedTuple):
    """One step's pictures and what they show.

    pictures: uint8 (own, 3, h, w), this process's share. targets: of the whole batch, a class each
    (size,), or the shares of all classes (size, classes) where the recipe mixes pictures. share: which of the targets
    are those of the pictures. Both are on the device.
    """

    pictures: torch.Tensor
    targets: torch.Tensor
    share: slice


class Batches:
    """The augmented batches of one epoch.

    Arrays are augmented where the network is on the CPU, elsewhere tensors on the network's device. rank, processes: of
    several processes each takes a run of every batch's rows, so that all together do what one alone would.
    """

    def __init__(
        self,
        source: Source,
        labels: NDArray[np.int64],
        classes: int,
        recipe: Recipe,
        seed: int,
        epoch: int,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.source, self.recipe, self.seed, self.epoch, self.device = source, recipe, seed, epoch, device
        self.labels, self.classes = labels, classes
        self.size, self.steps = batch_size(len(labels), recipe), steps_of(len(labels), recipe)
        self.share = slice(self.size * rank // processes, self.size * (rank + 1) // processes)
        self.order = draws.permutation(seed, epoch, len(labels))
        if recipe.sampling == "balanced":
            self.order = balanced_order(labels, seed, epoch)
        # Reading and augmenting on the CPU can be done ahead; what is on a GPU already needs nobody.
        host = device.type == "cpu" or not isinstance(source.pictures, torch.Tensor)
        self.ahead = max(recipe.workers, int(source.streamed)) if host else 0
        self.mixes = any(family.name in MIXING for family in recipe.augmentation)
        pixels = math.prod(source.shape[1:]) * (self.share.stop - self.share.start)
        self.block = 1 if self.mixes else max(1, BLOCK_PIXELS // max(pixels, 1))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        blocks = [range(first, min(first + self.block, self.steps)) for first in range(0, self.steps, self.block)]
        if not self.ahead:
            for block in blocks:
                yield from self._finished(block, self._read(block))
            return
        with ThreadPoolExecutor(self.ahead) as pool:
            coming: deque[Future[torch.Tensor]] = deque()
            try:
                for place in range(len(blocks) + self.ahead):
                    if place < len(blocks):
                        coming.append(pool.submit(self._read, blocks[place]))
                    if place >= self.ahead:
                        yield from self._finished(blocks[place - self.ahead], coming.popleft().result())
            finally:
                for future in coming:
                    future.cancel()

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < self.steps:
            raise IndexError(step)
        block = range(step, step + 1)
        return next(self._finished(block, self._read(block)))

    def _numbers(self, step: int) -> Rows:
        """Which rows, each time with another number where an epoch shows one several times, as it draws anew then."""
        return self.order[step * self.size : (step + 1) * self.size]

    def _parts(self, block: range) -> list[Rows]:
        """What this process must read for each step: its share, or all where pictures mix with any of the batch."""
        return [self._numbers(step) if self.mixes else self._numbers(step)[self.share] for step in block]

    def _read(self, block: range) -> torch.Tensor:
        """What can be done ahead: the pictures off their place, on the CPU augmented too."""
        numbers = np.concatenate(self._parts(block))
        rows = numbers % len(self.labels)
        if isinstance(self.source.pictures, torch.Tensor):
            return self.source.pictures[on_device(rows, self.device)]
        pictures = np.asarray(self.source.pictures[rows])
        if self.device.type == "cpu":
            threads = 1 if self.ahead else 0
            pictures = augment(
                pictures, numbers, self.recipe.augmentation, seed=self.seed, epoch=self.epoch, threads=threads
            )
            return torch.from_numpy(pictures).permute(0, 3, 1, 2)
        return torch.from_numpy(pictures).pin_memory()

    def _finished(self, block: range, pictures: torch.Tensor) -> Iterator[Batch]:
        parts = self._parts(block)
        if self.device.type != "cpu":
            if not isinstance(self.source.pictures, torch.Tensor):
                pictures = pictures.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            families, numbers = self.recipe.augmentation, np.concatenate(parts)
            pictures = augment(pictures, numbers, families, seed=self.seed, epoch=self.epoch)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        for step, own in zip(block, pictures.tensor_split(ends.tolist()), strict=True):
            yield Batch(own[self.share] if self.mixes else own, self._targets(self._numbers(step)), self.share)

    def _targets(self, numbers: Rows) -> torch.Tensor:
        labels = self.labels[numbers % len(self.labels)]
        shape = self.source.shape[1:]
        weights = label_weights(numbers, self.recipe.augmentation, shape, seed=self.seed, epoch=self.epoch)
        if weights is None:
            return on_device(labels, self.device)
        shares = torch.from_numpy(weights).float() @ one_hot(torch.from_numpy(labels), self.classes).float()
        return on_device(shares.numpy(), self.device)


def batch_size(rows: int, recipe: Recipe) -> int:
    """Pictures in a step: the recipe's, or all rows where there are fewer."""
    return min(recipe.batch_size, rows)


def steps_of(rows: int, recipe: Recipe) -> int:
    """Whole batches in an epoch, at least one."""
    return max(rows // recipe.batch_size, 1)


def balanced_order(labels: NDArray[np.int64], seed: int, epoch: int) -> Rows:
    """An epoch in which every class comes equally often: int64 (n,), n being the number of labels.

    A row that comes again has its number plus n, plus 2 n and so on; it comes again only after all of its class.
    """
    count = len(labels)
    present = np.unique(labels)
    parts = []
    for place, label in enumerate(present):
        rows = np.flatnonzero(labels == label)
        wanted = count // len(present) + (place < count % len(present))
        turns = [
            rows[np.argsort(draws.words(seed, epoch, rows + turn * count, "balanced")[:, 0])] + turn * count
            for turn in range(-(-wanted // len(rows)))
        ]
        parts.append(np.concatenate(turns)[:wanted])
    numbers = np.concatenate(parts)
    return numbers[draws.permutation(seed, epoch, count)]
