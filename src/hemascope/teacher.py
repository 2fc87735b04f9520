"""Distillation: a finished run answers each augmented picture, and its answers join the labels as targets.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531; with a patient teacher
that sees the very pixels that the student sees, as in Beyer et al., Knowledge Distillation: A Good Teacher Is Patient
and Consistent, 2022, arXiv 2106.05237.
"""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.nn.functional import one_hot

from hemascope.batches import Batch
from hemascope.ensemble import check_same_rows, load_network
from hemascope.recipe import Recipe
from hemascope.run import Run


class Teacher:
    """What makes a batch's targets shares of classes: in part the labels, in part what a trained network says."""

    def __init__(self, recipe: Recipe, fabric: Fabric) -> None:
        """recipe: one with a teacher. Raises InputError when that is not the folder of a trained network."""
        network, self.class_names, _ = load_network(Run(Path(recipe.teacher)))
        network = network.to(fabric.device).requires_grad_(False)
        self.network = network.to(memory_format=torch.channels_last) if recipe.channels_last else network
        self.share, self.fabric = recipe.teacher_share, fabric

    @torch.no_grad()
    def joined(self, batch: Batch) -> Batch:
        """The batch with targets float (size, classes). Of other processes' pictures the labels alone are known."""
        targets = batch.targets
        if targets.ndim == 1:
            targets = one_hot(targets, len(self.class_names))
        targets = targets.float()
        with self.fabric.autocast():
            told = self.network(batch.pictures).float().softmax(1)
        targets[batch.share] = (1 - self.share) * targets[batch.share] + self.share * told
        return batch._replace(targets=targets)


def check_teacher(recipe: Recipe, class_names: tuple[str, ...], run: Run) -> None:
    """Raise InputError when a recipe's teacher is no trained network of these classes, or knows held-out pictures."""
    if recipe.teacher:
        _, names, _ = load_network(Run(Path(recipe.teacher)))
        check_same_rows(recipe.teacher, names, class_names, run)
