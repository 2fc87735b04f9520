"""How strange a picture is to a network: none of the eight cells, or nothing like the pictures that it learnt from.

The score is a small fixed formula of what the network gives anyway, so that it costs no second pass and can stand in
the model's own file; the training pictures are not needed once it is fitted. `bench/trust_outliers.py` says which
scores it was chosen from, on what, and what it reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.errors import InputError

_TOLD, _CHANCE = 0.01, 0.01
"""By so much the share of strange pictures has to exceed the usual one to be told."""

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

RANK = 128
"""The most directions of an embedding that are told apart: what bounds the arrays of a network with a wide one."""
KEPT = 0.95

# Variances below this share of the mean one are not told from 0: a direction that the few training pictures hardly use.
_LEAST_VARIANCE = 1e-3
_NOTHING = 1e-6
_BLOCK = 4096


@dataclass(frozen=True)
class OutlierScore:
    """Distance to the nearest class and the height of the largest logit, in one number: higher is stranger.

    For embeddings e (n, d) and logits (n, classes), with the names of the arrays below:

        from_centre = e - centre                                             (n, d)
        inside      = from_centre @ directions                               (n, r)
        rest        = from_centre - inside @ directions.T                    (n, d)
        white       = inside @ whiten                                        (n, r)
        distance    = min over k of sum((white - means[k]) ** 2)             (n,)
                      + outside * sum(rest ** 2)
        score       = distance_weight * distance - logit_weight * max(logits) + offset

    centre: (d,), the mean training embedding. directions: (d, r), orthonormal, the main axes of the training
    embeddings. whiten: (r, r), makes the classes' common covariance in them the identity. means: (k, r), those of the
    classes in the white axes. outside: one over the variance in each of the other directions. All float32, and scalars
    of shape (); the score is their float32 arithmetic. Each of the two parts has the mean 0 and the standard deviation
    1 on the training cells; one that does not vary there weighs nothing.

    The distance is that of Lee et al., A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks, 2018, with one variance for all directions but the main ones (Tipping and Bishop, Probabilistic
    principal component analysis, 1999). The largest logit is the score of Hendrycks et al., Scaling out-of-distribution
    detection for real-world settings, 2022; adding it to a distance follows Wang et al., ViM: out-of-distribution with
    virtual-logit matching, 2022. Unlike the energy that they add, it also tells something where a network gives
    logarithms of probabilities, whose log-sum-exp is 0 always.
    """

    kind: ClassVar[str] = "class-distance-and-largest-logit"

    centre: Singles
    directions: Singles
    whiten: Singles
    means: Singles
    outside: Singles
    distance_weight: Singles
    logit_weight: Singles
    offset: Singles

    @staticmethod
    def fit(embeddings: ArrayLike, logits: ArrayLike, labels: ArrayLike, *, rank: int = RANK) -> OutlierScore:
        """Learn what the training cells look like to the network.

        embeddings: float (n, d). logits: float (n, classes). labels: int (n,), the true classes; a class without cells
        is no class to be near to. rank: the most directions r that are told apart. Raises InputError when the arrays
        disagree, are not finite, or hold fewer than two cells.
        """
        given, heights = _checked(embeddings, logits)
        for name, values in (("embeddings", given), ("logits", heights)):
            if wrong := int((~np.isfinite(values)).any(axis=1).sum()):
                raise InputError(
                    f"the {name} of {wrong:,} of {len(values):,} pictures are not finite; look for pictures or weights "
                    "that give no numbers."
                )
        tags = np.asarray(labels)
        if tags.shape != given.shape[:1] or not (np.issubdtype(tags.dtype, np.integer) and (tags >= 0).all()):
            raise InputError(
                f"the labels are {tags.dtype} {tags.shape} with {int((tags < 0).sum())} unknown for {len(given):,} "
                "embeddings; give the class of each training cell as a whole number from 0 up."
            )
        if len(given) < 2:
            raise InputError(f"{len(given)} training cells were given, but a spread needs two or more; give more.")
        names, place = np.unique(tags, return_inverse=True)
        centre = given.mean(axis=0)
        from_centre = given - centre
        variances, axes = np.linalg.eigh(from_centre.T @ from_centre / len(given))
        variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
        used = min(rank, given.shape[1], len(given) - 1)
        directions = axes[:, :used]
        least = max(_LEAST_VARIANCE * variances.mean(), _NOTHING)
        outside = 1 / max(variances[used:].mean(), least) if used < len(variances) else 0.0

        inside = from_centre @ directions
        means = np.stack([inside[place == number].mean(axis=0) for number in range(len(names))])
        whiten = _whitening(inside - means[place], least)
        plain = OutlierScore(
            *(np.asarray(array, np.float32) for array in (centre, directions, whiten, means @ whiten, outside, 1, 1, 0))
        )
        distance, height = plain._distance(given.astype(np.float32)), heights.max(axis=1)
        weights = [1 / spread if spread > _NOTHING else 0.0 for spread in (distance.std(), height.std())]
        offset = weights[1] * height.mean() - weights[0] * distance.mean()
        return OutlierScore.from_arrays(
            plain.arrays() | {"distance_weight": weights[0], "logit_weight": weights[1], "offset": offset}
        )

    def score(self, embeddings: ArrayLike, logits: ArrayLike) -> Singles:
        """How strange each picture is: float32 (n,), higher is stranger, about 0 for a usual cell.

        embeddings: float (n, d). logits: float (n, classes). A row that is not finite scores NaN or infinity. Raises
        InputError when they do not fit what was learnt.
        """
        given, heights = _checked(embeddings, logits)
        if given.shape[1] != len(self.centre):
            raise InputError(
                f"the embeddings have {given.shape[1]:,} numbers a picture, but the outlier score was fitted on "
                f"{len(self.centre):,}; give those of the same network."
            )
        height = heights.astype(np.float32).max(axis=1)
        distance = self._distance(given.astype(np.float32))
        return np.asarray(self.distance_weight * distance - self.logit_weight * height + self.offset, np.float32)

    def arrays(self) -> dict[str, Singles]:
        """What the formula needs, name -> float32 array: for a model's file beside the `kind` of the formula."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, ArrayLike]) -> OutlierScore:
        """The score that gave `arrays`. Raises InputError when one is missing."""
        names = [field.name for field in fields(OutlierScore)]
        if missing := [name for name in names if name not in arrays]:
            raise InputError(
                f"the outlier score has no '{missing[0]}' among {', '.join(arrays) or 'nothing'}; fit it again."
            )
        return OutlierScore(**{name: np.asarray(arrays[name], np.float32) for name in names})

    def _distance(self, embeddings: Singles) -> Singles:
        """The squared distance to the nearest class: float32 (n,)."""
        found = np.empty(len(embeddings), np.float32)
        for start in range(0, len(embeddings), _BLOCK):
            from_centre = embeddings[start : start + _BLOCK] - self.centre
            inside = from_centre @ self.directions
            rest = from_centre - inside @ self.directions.T
            white = inside @ self.whiten
            nearest = np.stack([((white - mean) ** 2).sum(axis=1) for mean in self.means]).min(axis=0)
            found[start : start + _BLOCK] = nearest + self.outside * (rest**2).sum(axis=1)
        return found


@dataclass(frozen=True)
class OutlierThreshold:
    """From which score on a picture is called an outlier.

    value: the largest score of a usual cell. kept: the share of clean cells that are to stay below. cells: how many
    cells it was set by.
    """

    value: float
    kept: float
    cells: int

    @staticmethod
    def fit(scores: ArrayLike, kept: float = KEPT) -> OutlierThreshold:
        """Set the threshold by cells that trained nothing, such as the calibration rows.

        scores: float (n,). kept: the share of further cells of the same source that stay below, on average, to be
        guaranteed: the threshold is the ceil((n + 1) * kept)-th smallest score (Laxhammar and Falkman, Inductive
        conformal anomaly detection for sequential detection of anomalous sub-trajectories, 2015). Raises InputError
        when there are too few cells for that share, or when a score is not finite.
        """
        given = np.sort(np.asarray(scores, np.float64).reshape(-1))
        if not 0 < kept < 1:
            raise InputError(f"{kept} of the cells are to be kept; give a share between 0 and 1, such as {KEPT}.")
        if not np.isfinite(given).all():
            raise InputError(
                f"{int((~np.isfinite(given)).sum()):,} of {len(given):,} outlier scores are not finite; "
                "look for pictures or weights that give no numbers."
            )
        place = int(np.ceil((len(given) + 1) * kept - 1e-9))
        if place > len(given):
            needed = int(np.ceil(kept / (1 - kept) - 1e-9))
            raise InputError(
                f"{len(given):,} cells cannot say below which score {kept:.0%} of cells stay; give {needed:,} or more."
            )
        return OutlierThreshold(float(given[place - 1]), float(kept), len(given))

    def is_outlier(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which scores lie above the threshold: bool, of the same shape. What is no number is an outlier."""
        return np.asarray(~(np.asarray(scores, np.float64) <= self.value))

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for a JSON file."""
        return asdict(self)

    @staticmethod
    def from_json(mapping: Mapping[str, Any]) -> OutlierThreshold:
        """The threshold that gave `as_json`. Raises InputError when something is missing."""
        try:
            return OutlierThreshold(float(mapping["value"]), float(mapping["kept"]), int(mapping["cells"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the outlier threshold is {dict(mapping)}, expected numbers for value, kept and cells; fit it again."
            ) from error


def _checked(embeddings: ArrayLike, logits: ArrayLike) -> tuple[Floats, Floats]:
    given, heights = np.asarray(embeddings, np.float64), np.asarray(logits, np.float64)
    if given.ndim != 2 or heights.ndim != 2 or len(given) != len(heights) or 0 in (given.shape[1], heights.shape[1]):
        raise InputError(
            f"the embeddings are {given.shape} and the logits {heights.shape}; give (n, d) and (n, classes), a row "
            "of each for every picture."
        )
    return given, heights


def _whitening(within: Floats, least: float) -> Floats:
    """The matrix (r, r) that makes the covariance of rows (n, r) the identity, after shrinking it as few rows ask."""
    rows, size = within.shape
    covariance = within.T @ within / rows
    shrinkage = size / (size + rows)
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(size)] += shrinkage * np.trace(covariance) / size + least * _LEAST_VARIANCE
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)).T)


def unusually_many(strange: float, kept: float, rows: int) -> bool:
    """Whether more pictures are unlike training than usual cells are, beyond what chance makes of so few.

    strange, kept: shares, of these rows and of usual cells. One test of a hundred may err where cells are usual.
    """
    from scipy.stats import binom

    beyond = binom.sf(round(strange * rows) - 1, rows, 1 - kept) < _CHANCE
    return bool(strange > 1 - kept + _TOLD and beyond)
