"""Cross entropy with classes or shares of classes as targets, whole or in parts that sum to the mean over a batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy


def soft_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    class_weights: torch.Tensor | None,
    label_smoothing: float,
    whole: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weighted mean over pictures, a scalar; or what a part of a batch adds to the mean over the whole of it.

    logits: (n, classes). targets: classes (n,), or shares of classes (n, classes), whose rows sum to 1; shares of 0
    and 1 give what their classes give, which torch's own does not. whole: the targets of the batch, where `targets`
    are a part of them.
    """
    if whole is None and (targets.ndim == 1 or class_weights is None):
        return cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing)
    total = cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing)
    return total / _weight(targets if whole is None else whole, class_weights)


def _weight(targets: torch.Tensor, class_weights: torch.Tensor | None) -> torch.Tensor | int:
    if class_weights is None:
        return len(targets)
    return (class_weights[targets] if targets.ndim == 1 else targets @ class_weights).sum()


def balanced_weights(labels: NDArray[np.int64], classes: int) -> torch.Tensor:
    """The weight of each class against its share of the rows: float32 (classes,); 0 where a class has no row."""
    counts = np.bincount(labels, minlength=classes)
    balanced = np.where(counts > 0, counts.sum() / np.maximum(counts, 1) / (counts > 0).sum(), 0.0)
    return torch.from_numpy(balanced.astype(np.float32))
