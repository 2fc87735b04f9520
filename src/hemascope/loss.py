"""Cross entropy with classes or shares of classes as targets, in parts that sum to the mean over a whole batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy


def summed_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None, label_smoothing: float
) -> torch.Tensor:
    """The weighted sum over pictures, a scalar.

    logits: (n, classes). targets: classes (n,), or shares of classes (n, classes), whose rows sum to 1.
    """
    return cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing)


def total_weight(targets: torch.Tensor, class_weights: torch.Tensor | None) -> torch.Tensor | float:
    """What the sum over a batch is divided by for its mean: shares of 0 and 1 give what their classes give."""
    if class_weights is None:
        return float(len(targets))
    return (class_weights[targets] if targets.ndim == 1 else targets @ class_weights).sum()


def balanced_weights(labels: NDArray[np.int64], classes: int) -> torch.Tensor:
    """The weight of each class against its share of the rows: float32 (classes,); 0 where a class has no row."""
    counts = np.bincount(labels, minlength=classes)
    balanced = np.where(counts > 0, counts.sum() / np.maximum(counts, 1) / (counts > 0).sum(), 0.0)
    return torch.from_numpy(balanced.astype(np.float32))
