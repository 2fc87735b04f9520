"""How a network in training does on the validation rows: as they are, and under one fixed draw of corruptions.

The corrupted copies are those of the stress score that stands in the report. They are made once a run (and kept on
disk for the next), so that an epoch costs only inference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from hemascope.corrupt import weights
from hemascope.corrupt.cache import cached
from hemascope.data import Cells, pixel_hashes
from hemascope.data.cells import Pictures
from hemascope.devices import out_of_memory, reduced
from hemascope.metrics import balanced_accuracy
from hemascope.stress import seed_for
from hemascope.stress_scores import SCORED_MIXES

EVALUATION_BATCH = 256
SELECTIONS: Mapping[str, tuple[str, str]] = {
    "stress": ("validation_stress", "validation_stress_loss"),
    "clean": ("validation_balanced_accuracy", "validation_loss"),
}
"""What `select_by` makes the best epoch: the highest of the first, where equal the lowest of the second."""


class Validation:
    """The validation rows, and what a network makes of them."""

    def __init__(self, cells: Cells, select_by: str) -> None:
        self.select_by, self.labels = select_by, cells.labels
        self.clean = cells.images
        self.mixes: list[Pictures] = []
        self.weights: list[NDArray[np.float64]] = []
        if select_by == "stress":
            hashes = pixel_hashes(cells)
            seed = seed_for("validation")
            self.mixes = [cached(cells, name, seed=seed, hashes=hashes) for name in SCORED_MIXES]
            self.weights = [weights(name, seed, np.arange(len(cells))) for name in SCORED_MIXES]

    def measures(self, network: nn.Module, fabric: Fabric) -> dict[str, float]:
        """validation_loss, validation_accuracy, validation_balanced_accuracy; and validation_stress with its loss.

        validation_stress is the stress score, as in `hemascope.stress`. Of a network whose logits are no numbers
        validation_loss is all there is, and it is none either. The network is left in evaluation mode.
        """
        logits = _logits(network, self.clean, fabric)
        if not bool(logits.isfinite().all()):
            return {"validation_loss": math.nan}
        labels = torch.from_numpy(self.labels)
        found = {
            "validation_loss": float(cross_entropy(logits, labels)),
            "validation_accuracy": float((logits.argmax(1) == labels).double().mean()),
            "validation_balanced_accuracy": balanced_accuracy(logits.softmax(1).numpy(), self.labels),
        }
        if self.mixes:
            spoilt = [_logits(network, pictures, fabric) for pictures in self.mixes]
            right = [(each.argmax(1) == labels).numpy() for each in spoilt]
            lost = [cross_entropy(each, labels, reduction="none").numpy() for each in spoilt]
            for name, values in (("validation_stress", right), ("validation_stress_loss", lost)):
                weighed = [np.average(each, weights=own) for each, own in zip(values, self.weights, strict=True)]
                found[name] = float(np.mean(weighed))
        return found

    def score(self, measures: Mapping[str, float]) -> tuple[float, float]:
        """What makes one epoch better than another; the larger, the better."""
        first, second = SELECTIONS[self.select_by]
        return measures[first], -measures[second]


@torch.inference_mode()
def _logits(network: nn.Module, pictures: Pictures, fabric: Fabric) -> torch.Tensor:
    """float64 (n, classes) on the CPU; of several processes each computes a run of the rows."""
    network.eval()
    count, size = len(pictures), EVALUATION_BATCH
    first, last = (count * number // fabric.world_size for number in (fabric.global_rank, fabric.global_rank + 1))
    outputs: list[torch.Tensor] = []
    start = first
    while start < last:
        images = np.ascontiguousarray(pictures[start : min(start + size, last)])
        try:
            outputs.append(network(_on(images, fabric.device)).double())
        except RuntimeError as error:
            if not out_of_memory(error) or size == 1:
                raise
            size //= 2
            continue
        start += len(images)
    own = torch.cat(outputs) if outputs else torch.zeros(0)
    if fabric.world_size == 1:
        return own.cpu()
    # A process without rows does not know how many classes there are.
    widths = torch.tensor([0] * fabric.world_size, device=fabric.device)
    widths[fabric.global_rank] = own.shape[-1]
    classes = int(reduced(fabric, widths, "sum").max())
    whole = torch.zeros((count, classes), dtype=torch.float64, device=fabric.device)
    if outputs:
        whole[first:last] = own
    return reduced(fabric, whole, "sum").cpu()


def _on(images: np.ndarray, device: torch.device) -> torch.Tensor:
    # Entries of the cache are mapped read-only, which torch warns of though nobody writes to them.
    return torch.from_numpy(images if images.flags.writeable else images.copy()).permute(0, 3, 1, 2).to(device)
