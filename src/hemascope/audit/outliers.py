"""Pictures that are unlike the rest of their set: odd in a simple statistic, blank, or far from every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import UNKNOWN_LABEL, Cells
from hemascope.errors import InputError
from hemascope.features import Floats

if TYPE_CHECKING:
    import pandas as pd

MIN_ROWS = 30
"""With fewer pictures than this, nothing is called far from a class: a spread cannot be told from so few."""

# The least spread that is taken for real, in each statistic's unit, so that a set of near-equal pictures is not
# called full of outliers for a difference that nobody sees.
_LEAST_SPREAD = {"mean": 2.0, "contrast": 1.0, "sharpness": 0.05, "saturation": 0.01, "entropy": 0.05, "distance": 0.05}
_NORMAL = 1.4826  # the standard deviation of a normal distribution over its median absolute deviation
_FOLDS = 5
_FIT_ROWS = 20_000
_BLOCK = 4096
_TRIM = 0.1
_LEAST_SHRINKAGE = 0.1
# In a set of near-equal pictures these keep a difference that nobody sees from counting as a distance; in others,
# where a distance is about 10, they hardly change it.
_LEAST_SCALE = 0.02
_LEAST_VARIANCE = 0.01
_LEAST_DISTANCE = 1.0
_LEAST_CLASS = 3


@dataclass(frozen=True)
class OutlierThresholds:
    """How far from this set's median a picture may be, in MADs (median absolute deviations scaled to be a standard
    deviation where the values are normal), on either side.

    sharpness and distance are compared by their logarithms. distance counts only far, never near.
    blank: a picture whose pixels differ by no more than this many grey levels in every channel is blank.
    """

    mean: float = 6.0
    contrast: float = 6.0
    sharpness: float = 6.0
    saturation: float = 6.0
    entropy: float = 6.0
    distance: float = 4.5
    blank: float = 16.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise InputError(f"the outlier threshold '{name}' is {value}; give a number above 0.")

    @staticmethod
    def parsed(entries: Sequence[str]) -> OutlierThresholds:
        """Thresholds from words such as "sharpness=5", the rest as they are. Raises InputError for a wrong word."""
        known = [field.name for field in fields(OutlierThresholds)]
        given: dict[str, float] = {}
        for entry in entries:
            name, _, value = entry.partition("=")
            if name not in known:
                raise InputError(
                    f"--outlier is '{entry}', but the thresholds are {', '.join(known)}; give one as NAME=VALUE."
                )
            try:
                given[name] = float(value)
            except ValueError:
                raise InputError(f"--outlier is '{entry}', expected {name}=VALUE such as {name}=5.") from None
        return OutlierThresholds(**given)


def find_outliers(
    cells: Cells,
    statistics: Mapping[str, Floats],
    features: Floats | None = None,
    thresholds: OutlierThresholds | None = None,
    learn: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Score every picture by the worst of its deviations from what is usual in this set.

    statistics: what `picture_statistics` gives. features: what `cell_features` gives; without them the distance to the
    classes is left out. learn: bool (n,), the rows from which to learn what is usual, all of them when it is None;
    leave out copies, so that a picture that stands a thousand times does not become usual.

    Returns one row for each picture: `outlier_score` in [0, 1], 0.5 at the threshold and 0 where blank, `is_outlier`,
    `outlier_reason` (worst first, empty where the picture is none), and the deviations in MADs, signed, each under its
    statistic's name. Raises InputError when the rows disagree.
    """
    import pandas as pd

    limits = asdict(thresholds or OutlierThresholds())
    count = len(cells)
    learn = np.ones(count, bool) if learn is None else learn
    given = {**statistics, **({} if features is None else {"features": features}), "learn": learn}
    for name, values in given.items():
        if len(values) != count:
            raise InputError(f"'{name}' has {len(values):,} rows for {count:,} pictures; compute it from these cells.")

    measured: dict[str, NDArray[np.float64]] = {
        name: np.asarray(statistics[name], np.float64) for name in ("mean", "contrast", "saturation", "entropy")
    }
    # Blur and noise multiply sharpness rather than add to it.
    measured["sharpness"] = np.log(np.asarray(statistics["sharpness"], np.float64) + 0.5)
    if features is not None and learn.sum() >= MIN_ROWS:
        measured["distance"] = np.log(_distance_to_classes(features, cells.labels, learn))
    deviations = {name: _deviations(values, learn, _LEAST_SPREAD[name]) for name, values in measured.items()}
    if "distance" in deviations:
        deviations["distance"] = np.maximum(deviations["distance"], 0)

    score = np.ones(count)
    causes: list[list[tuple[float, str]]] = [[] for _ in range(count)]
    for name, values in deviations.items():
        excess = np.abs(values) / limits[name]
        score = np.minimum(score, 0.5**excess)
        for row in np.flatnonzero(excess > 1):
            causes[row].append((excess[row], _in_words(name, values[row])))
    spread = np.asarray(statistics["range"], np.float64)
    for row in np.flatnonzero(spread <= limits["blank"]):
        score[row] = 0.0
        flat = "one colour" if spread[row] == 0 else f"its pixels differ by {spread[row]:.0f} grey levels at most"
        causes[row] = [(np.inf, f"blank: {flat}")]
    return pd.DataFrame(
        {
            "outlier_score": score,
            "is_outlier": np.array([bool(found) for found in causes], bool),
            "outlier_reason": ["; ".join(words for _, words in sorted(found, reverse=True)) for found in causes],
            **deviations,
        }
    )


def _deviations(values: NDArray[np.float64], learn: NDArray[np.bool_], least: float) -> NDArray[np.float64]:
    if not learn.any():
        return np.zeros(len(values))
    middle = np.median(values[learn])
    spread = max(_NORMAL * float(np.median(np.abs(values[learn] - middle))), least)
    return np.asarray((values - middle) / spread)


def _in_words(name: str, deviation: float) -> str:
    if name == "distance":
        return f"unlike every class: {deviation:.1f} MADs farther off than is usual in this set"
    return f"{name} {abs(deviation):.1f} MADs {'above' if deviation > 0 else 'below'} this set's median"


def _distance_to_classes(features: Floats, labels: NDArray[np.int64], learn: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mahalanobis distance (n,) of each picture to the nearest class.

    Each picture is measured by the pictures of the other folds, so that in a small set an outlier does not stretch the
    ruler by which it is measured. The classes share one covariance, shrunk toward a multiple of the identity, and the
    farthest tenth is left out before it is taken again: the outliers are not to say what is usual. Rousseeuw and
    Van Driessen, A fast algorithm for the minimum covariance determinant estimator, 1999, for the second step; Lee et
    al., A simple unified framework for detecting out-of-distribution samples, 2018, for one covariance.
    """
    generator = np.random.default_rng(0)
    fold = generator.permutation(len(features)) % _FOLDS
    sample = np.sort(generator.permutation(np.flatnonzero(learn))[:_FIT_ROWS])
    unit = 0.3 * np.median(np.abs(features[sample]), axis=0) + 1e-6
    known = _spread_out(features[sample], unit)
    middle = np.median(known, axis=0)
    scale = np.maximum(_NORMAL * np.median(np.abs(known - middle), axis=0), _LEAST_SCALE)
    known = (known - middle) / scale
    tags = labels[sample] if (labels[sample] != UNKNOWN_LABEL).any() else _clusters(known)

    distance = np.ones(len(features))
    for number in range(_FOLDS):
        others = fold[sample] != number
        means, whiten = _class_shapes(known[others], tags[others])
        rows = np.flatnonzero(fold == number)
        for at in range(0, len(rows), _BLOCK):
            block = rows[at : at + _BLOCK]
            described = (_spread_out(features[block], unit) - middle) / scale
            distance[block] = _distances(described, means, whiten).min(axis=1)
    return np.maximum(distance, _LEAST_DISTANCE)


def _spread_out(features: Floats, unit: Floats) -> Floats:
    """Signed logarithm: an empty picture, whose measures are all near 0, is then as far off as a crowded one."""
    return np.asarray(np.sign(features) * np.log1p(np.abs(features) / unit), np.float32)


def _class_shapes(known: Floats, tags: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The whitened means of the classes (classes, features) and the matrix that whitens (features, features)."""
    names, counts = np.unique(tags[tags != UNKNOWN_LABEL], return_counts=True)
    names = names[counts >= min(_LEAST_CLASS, counts.max())]
    inside = np.isin(tags, names)
    known, tags = known[inside], np.searchsorted(names, tags[inside])
    means, whiten = _shape(known, tags)
    own = _distances(known, means, whiten)[np.arange(len(tags)), tags]
    usual = np.ones(len(tags), bool)
    for tag in range(len(names)):
        # Within each class, so that a rare one is not left out whole.
        usual[tags == tag] = own[tags == tag] <= np.quantile(own[tags == tag], 1 - _TRIM)
    return _shape(known[usual], tags[usual])


def _shape(known: Floats, tags: NDArray[np.int64]) -> tuple[Floats, Floats]:
    means = np.stack([known[tags == tag].mean(axis=0) for tag in range(tags.max() + 1)])
    rest = known - means[tags]
    rows, size = rest.shape
    covariance = (rest.T @ rest).astype(np.float64) / rows
    shrinkage = max(_LEAST_SHRINKAGE, size / (size + rows))
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(size)] += shrinkage / (1 - shrinkage) * np.trace(covariance) / size + _LEAST_VARIANCE
    values, vectors = np.linalg.eigh(covariance)
    whiten = (vectors / np.sqrt(values)).astype(np.float32)
    return means @ whiten, whiten


def _distances(known: Floats, means: Floats, whiten: Floats) -> NDArray[Any]:
    """(n, classes), from each row to each whitened mean."""
    white = known @ whiten
    square = (white * white).sum(1)[:, None] + (means * means).sum(1) - 2 * white @ means.T
    return np.asarray(np.sqrt(np.maximum(square, 0)))


def _clusters(known: Floats, most: int = 8) -> NDArray[np.int64]:
    """Stand-ins for classes (n,) where nothing is labelled."""
    from sklearn.cluster import MiniBatchKMeans

    count = int(np.clip(len(known) // 50, 1, most))
    return np.asarray(MiniBatchKMeans(count, random_state=0, n_init=3).fit_predict(known), np.int64)
