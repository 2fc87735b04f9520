from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from hemascope.loss import balanced_weights, soft_cross_entropy


@pytest.mark.parametrize("weights", [None, torch.tensor([0.1, 2.0, 1.0, 0.0, 3.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_parts_sum_to_the_mean_with_classes_and_with_their_shares(
    weights: torch.Tensor | None, smoothing: float
) -> None:
    logits = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 5
    expected = float(cross_entropy(logits, labels, weights, label_smoothing=smoothing))
    for targets in (labels, one_hot(labels, 5).float()):
        assert float(soft_cross_entropy(logits, targets, weights, smoothing)) == pytest.approx(expected, rel=1e-5)
        parts = [
            float(soft_cross_entropy(logits[part], targets[part], weights, smoothing, targets))
            for part in (slice(0, 5), slice(5, 12))
        ]
        assert sum(parts) == pytest.approx(expected, rel=1e-5)


def test_rare_classes_weigh_more_and_missing_ones_nothing() -> None:
    weights = balanced_weights(np.array([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([2 / 3, 0.0, 2.0])
