"""How much corruption costs a model: pure functions on arrays.

The balanced error is one minus the mean recall of the classes. For the corruptions of MedMNIST-C it is set against
the AlexNet of that benchmark (Di Salvo et al., MedMNIST-C: Comprehensive Benchmark and Improved Classifier Robustness
by Simulating Realistic Image Corruptions, 2024, arXiv 2406.17536): for each corruption

    BE  = mean over the severities of the model's error / the same of AlexNet
    rBE = (that mean - the model's error on clean pictures) / (the same of AlexNet)

and the benchmark's BE and rBE are the means over its corruptions. Below 1 is better than AlexNet. An rBE may be
negative, when corruption happens to help, and a model that fails on clean pictures already has a small one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.metrics import Floats

ALEXNET_CLEAN = 0.01837
ALEXNET: Mapping[str, float] = {
    "pixelate": 0.0598,
    "jpeg": 0.1398,
    "defocus_blur": 0.2240,
    "motion_blur": 0.1845,
    "brightness_up": 0.0695,
    "brightness_down": 0.0790,
    "contrast_up": 0.0522,
    "contrast_down": 0.0797,
    "saturate": 0.0348,
    "stain_deposit": 0.1854,
    "bubble": 0.1290,
}
"""The balanced errors that the paper's AlexNet makes on BloodMNIST-C, mean of the five severities, as its package
medmnistc states them."""

VALUES_AT_ONCE = 2_000_000


class Relative(NamedTuple):
    """A corruption's balanced error and its rise over clean pictures, both as multiples of AlexNet's."""

    be: float
    rbe: float


def relative_errors(errors: Mapping[str, Sequence[float]], clean: float) -> dict[str, Relative]:
    """BE and rBE of each corruption that AlexNet has an error for.

    errors: corruption -> the balanced error at each severity. clean: the balanced error on clean pictures.
    """
    found = {}
    for name, by_severity in errors.items():
        if name in ALEXNET:
            error = float(np.mean(by_severity))
            found[name] = Relative(error / ALEXNET[name], (error - clean) / (ALEXNET[name] - ALEXNET_CLEAN))
    return found


def chain_interval(
    values: ArrayLike,
    families: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    seed: int = 0,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Floats:
    """Percentile interval of the mean over chains of corruptions, when cells and families are both drawn anew.

    values: (mixes, n) float, what each cell scored in each mix, such as 1 for right and 0 for wrong, or the difference
    of two models. families: (mixes, n, links) int, which families its chain held. groups: (n,), equal for cells that
    stay together, such as copies. weights: (mixes, n) float, what each value counts; alike when None. The statistic is
    the mean over the mixes of each mix's weighted mean.

    In each draw the groups are resampled with replacement, and so are the families that occur, each once for all
    mixes; a cell weighs as often as its group was drawn, times the product of how often each family of its chain was.
    The product is what a chain weighs whose links come one by one from the families drawn, as in the bootstrap of a
    statistic of several draws (Bickel and Freedman, Some Asymptotic Theory for the Bootstrap, 1981); rows and columns
    that are resampled together are the pigeonhole bootstrap (Owen, 2007), which errs on the wide side where cells
    matter more than families. A mean of the counts in place of the product would take a third of the families' share
    of the spread. A bootstrap of few things is too narrow: the percentiles are widened for the number of families, or
    of groups where that is smaller (Hesterberg, What Teachers Should Know about the Bootstrap, 2015). Returns float64
    (2,), NaN when no draw is left; draws in which a mix has no weight are left out.
    """
    values, families = np.asarray(values, np.float64), np.asarray(families)
    groups = np.asarray(groups)
    if values.ndim != 2 or families.shape[:2] != values.shape or families.ndim != 3:
        shapes = f"{values.shape} and {families.shape}"
        raise ValueError(f"expected values (mixes, n) and families (mixes, n, links), got {shapes}")
    if groups.shape != values.shape[1:] or not values.size or draws < 1:
        raise ValueError(f"expected groups ({values.shape[1]},) and a draw, got {groups.shape} and {draws}")
    own = np.ones(values.shape) if weights is None else np.asarray(weights, np.float64)
    _, group = np.unique(groups, return_inverse=True)
    _, family = np.unique(families, return_inverse=True)
    group, family = group.reshape(-1), family.reshape(families.shape)
    rng = np.random.default_rng(seed)
    block = max(1, VALUES_AT_ONCE // values.shape[1])
    parts = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        cells = _resampled(rng, size, int(group.max()) + 1).take(group, axis=1)
        counts = _resampled(rng, size, int(family.max()) + 1)
        total = np.zeros(size)
        for value, chain, counting in zip(values, family, own, strict=True):
            drawn = cells * counting
            for link in chain.T:
                drawn *= counts.take(link, axis=1)
            weight = drawn.sum(1)
            total += np.divide(drawn @ value, weight, out=np.full(size, np.nan), where=weight > 0)
        parts.append(total / len(values))
    means = np.concatenate(parts)
    means = means[~np.isnan(means)]
    low = _expanded((1 - confidence) / 2, min(int(group.max()), int(family.max())) + 1)
    ends = [low, 1 - low]
    return np.asarray(np.quantile(means, ends) if len(means) else [np.nan, np.nan])


def _expanded(tail: float, count: int) -> float:
    """The share below the end of a bootstrap interval of `count` things that leaves out `tail` of the truth."""
    from scipy.special import ndtr, stdtrit

    if count < 2:
        return tail
    return float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, tail)))


def _resampled(rng: np.random.Generator, draws: int, count: int) -> Floats:
    """How often each of `count` things is drawn when as many are drawn with replacement: float64 (draws, count)."""
    drawn = rng.integers(count, size=(draws, count)) + np.arange(draws)[:, None] * count
    times: NDArray[np.int64] = np.bincount(drawn.reshape(-1), minlength=draws * count)
    return times.reshape(draws, count).astype(np.float64)
