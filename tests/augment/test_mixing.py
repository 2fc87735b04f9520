from __future__ import annotations

import numpy as np
import pytest

from hemascope.augment import augment, label_weights
from hemascope.recipe import Augmentation, AugmentationName

ROWS = np.arange(100, 132, dtype=np.int64)
LEVELS = (8 * np.arange(len(ROWS))).astype(np.uint8)


@pytest.mark.parametrize(
    "steps",
    [
        [Augmentation(name="mixup", magnitude=1.0)],
        [Augmentation(name="cutmix", magnitude=1.0)],
        [Augmentation(name="mixup", magnitude=0.6), Augmentation(name="cutmix", probability=0.7)],
    ],
    ids=["mixup", "cutmix", "both"],
)
def test_labels_are_mixed_as_pixels_are(steps: list[Augmentation]) -> None:
    # In pictures of one level each, the mean level is the sum of the levels by their shares.
    pictures = np.broadcast_to(LEVELS[:, None, None, None], (len(ROWS), 40, 30, 3))
    mixed = augment(pictures, ROWS, steps, seed=0, epoch=0).mean(axis=(1, 2, 3))
    weights = label_weights(ROWS, steps, (40, 30), seed=0, epoch=0)
    assert weights is not None
    assert np.allclose(weights.sum(1), 1)
    assert np.abs(weights @ LEVELS - mixed).max() <= 0.5


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_every_picture_is_the_partner_of_one_other_and_keeps_at_least_half(name: AugmentationName) -> None:
    weights = label_weights(ROWS, [Augmentation(name=name, magnitude=1.0)], (96, 96), seed=5, epoch=0)
    assert weights is not None
    assert weights.diagonal().min() >= 0.49
    partners = (weights - np.diag(weights.diagonal())) > 0
    assert (partners.sum(1) <= 1).all()
    assert (partners.sum(0) <= 1).all()
    assert partners.sum() > 25
    assert weights.diagonal().min() < 0.6


def test_a_batch_of_one_stays_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3), dtype=np.uint8)
    for name in ("mixup", "cutmix"):
        steps = [Augmentation(name=name, magnitude=1.0)]
        assert (augment(picture, ROWS[:1], steps, seed=0, epoch=0) == picture).all()
        assert label_weights(ROWS[:1], steps, (20, 20), seed=0, epoch=0) == np.ones((1, 1))
