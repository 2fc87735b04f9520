"""The batches of an epoch: which rows, what augmentation makes of them, and what they then show."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot
from torch.utils.data import Dataset

from hemascope import draws
from hemascope.augment import augment, label_weights
from hemascope.recipe import Recipe


class Batches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The augmented batches of one epoch, by number: pictures uint8 (size, 3, h, w) and what they show.

    That is a class each (size,), or the shares of all classes (size, classes) where the recipe mixes pictures. OpenCV
    augments where the network is on the CPU; elsewhere torch does on the network's device, which needs no workers.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: torch.Tensor,
        classes: int,
        recipe: Recipe,
        seed: int,
        epoch: int,
        steps: int,
        device: torch.device,
    ) -> None:
        self.images, self.labels, self.recipe, self.seed, self.epoch = images, labels, recipe, seed, epoch
        self.steps, self.device = steps, device
        self.workers = recipe.workers if device.type == "cpu" else 0
        self.size = min(recipe.batch_size, len(images))
        self.classes = classes
        self.order = draws.permutation(seed, epoch, len(images))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step >= self.steps:
            raise IndexError(step)
        rows = self.order[step * self.size : (step + 1) * self.size]
        return self._pictures(rows), self._targets(rows)

    def _pictures(self, rows: NDArray[np.int64]) -> torch.Tensor:
        families = self.recipe.augmentation
        pictures = self.images[rows]
        if self.device.type == "cpu":
            threads = 1 if self.workers else 0
            pictures = augment(pictures, rows, families, seed=self.seed, epoch=self.epoch, threads=threads)
            return torch.from_numpy(pictures).permute(0, 3, 1, 2)
        moved = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2)
        return augment(moved, rows, families, seed=self.seed, epoch=self.epoch)

    def _targets(self, rows: NDArray[np.int64]) -> torch.Tensor:
        labels = self.labels[torch.from_numpy(rows)]
        height, width = self.images.shape[1:3]
        weights = label_weights(rows, self.recipe.augmentation, (height, width), seed=self.seed, epoch=self.epoch)
        if weights is None:
            return labels
        return torch.from_numpy(weights).float() @ one_hot(labels, self.classes).float()
