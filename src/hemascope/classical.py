"""Models from hand-made features: scikit-learn in the place of a network, made in a minute on two cores.

The features of a picture are standardised, an estimator turns them into a score for each class, and a softmax makes
probabilities of the scores, as sharp as the validation rows bear out. Asghar, Kumar, Hynds and Mahfooz, Classification
of all blood cell images using ML and DL models, 2023 (arXiv 2308.06300), compare such models with networks.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax, softmax

from hemascope import draws
from hemascope.audit.features import THREADS, over_batches
from hemascope.augment import augment
from hemascope.data import Cells, Images
from hemascope.data.cells import Pictures
from hemascope.errors import InputError
from hemascope.features import CURRENT, Floats, feature_set
from hemascope.metrics import balanced_accuracy
from hemascope.progress import Progress, Say
from hemascope.recipe import Recipe

Doubles = NDArray[np.float64]
Seen = NDArray[np.floating[Any]]
Settings = Mapping[str, float]

LIMIT = 10.0
"""How many standard deviations from the mean a feature is taken to lie at most, however odd the picture."""
STEEPNESS = 4.0
"""What a margin of an SVM is multiplied with before the logistic function: at its own border, 1, that gives 0.98."""
LEAST = 1e-3
"""The probability below which an estimator's own is not believed: a vote of trees or neighbours is never certain."""


@dataclass(frozen=True)
class Kind:
    """One kind of classical model.

    build: (settings, seed, class_weight of scikit-learn) -> an estimator. grid: the settings that validation chooses
    from. margins: whether its scores are the margins of an SVM, and not the logarithms of probabilities. discriminants:
    whether it sees the features on the axes that part the classes best, and not as they are.
    """

    build: Callable[[Settings, int, str | None], Any]
    grid: tuple[Settings, ...]
    margins: bool = False
    discriminants: bool = False

    def scores(self, estimator: Any, seen: Seen) -> Doubles:
        """A score for each of the estimator's classes: standardised features (n, d) -> float64 (n, classes)."""
        if not self.margins:
            return np.asarray(np.log(np.maximum(estimator.predict_proba(seen), LEAST)))
        sides, owners = comparisons(len(estimator.classes_))
        margins = estimator.decision_function(seen).reshape(len(seen), -1)
        return np.asarray(log_expit(STEEPNESS * margins @ sides) @ owners)


@dataclass(frozen=True)
class Standardiser:
    """Features -> what an estimator sees: float32 (n, d) -> float32 (n, d), or float64 (n, axes).

    mean, inverse: float32 (d,), of the training rows: what is taken off, and what the rest is multiplied with.
    axes: float64 (d, axes), or None to leave the features as they are. They take 64 bits, as a sum of many products
    differs in its last digits from library to library, and which neighbour is the nearer one hangs on digits.
    """

    mean: Floats
    inverse: Floats
    axes: Doubles | None = None

    def __call__(self, features: Floats) -> Seen:
        scaled = np.clip((features - self.mean) * self.inverse, np.float32(-LIMIT), np.float32(LIMIT))
        return np.asarray(scaled if self.axes is None else scaled.astype(np.float64) @ self.axes)


@dataclass(frozen=True)
class ClassicalModel:
    """A fitted model. kind: its backbone in a recipe. features: the name of the feature set that it takes."""

    kind: str
    class_names: tuple[str, ...]
    features: str
    standardise: Standardiser
    estimator: Any
    sharpness: float

    @property
    def placed(self) -> Floats:
        """float32 (classes of the estimator, classes): where each of its classes stands among all."""
        return np.asarray(np.eye(len(self.class_names), dtype=np.float32)[self.estimator.classes_])

    def probabilities(self, features: Floats) -> Doubles:
        """float32 (n, d) -> float64 (n, classes)."""
        scores = KINDS[self.kind].scores(self.estimator, self.standardise(features))
        return np.asarray(softmax(self.sharpness * scores, axis=1) @ self.placed)


@dataclass(frozen=True)
class Fitted:
    """A model, how it was chosen, and the features of the validation rows: float32 (n, d)."""

    model: ClassicalModel
    chosen: dict[str, float]
    tried: list[dict[str, float]]
    notes: list[str]
    held_out: Floats


def fit_classical(
    cells: Cells, recipe: Recipe, seed: int = 0, max_minutes: float | None = None, say: Say = print
) -> Fitted:
    """Fit a classical recipe on the rows whose split is "train", choose its settings by those of "validation".

    max_minutes: no further settings are tried after so long. Raises InputError when the training rows show one class.
    """
    start = time.monotonic()
    training, validation = cells.in_split("train"), cells.in_split("validation")
    if len(np.unique(training.labels)) < 2:
        raise InputError(f"{cells.source}: the training rows show one class only; training needs at least two.")
    parts = [training, *_copies(training, recipe, seed)]
    learnt = np.concatenate([describe(part, f"features, {at + 1} of {len(parts)}") for at, part in enumerate(parts)])
    labels = np.concatenate([part.labels for part in parts])
    held_out = describe(validation, "features of validation")
    say(
        f"{recipe.name}: {learnt.shape[1]} features of {len(learnt):,} training and {len(held_out):,} validation "
        f"pictures in {time.monotonic() - start:.0f} s"
    )
    kind = KINDS[recipe.backbone]
    standardise = standardiser(learnt, labels, kind.discriminants)
    seen, held_seen = standardise(learnt), standardise(held_out)
    word = draws.word(seed, 0, 0, recipe.backbone) % 2**32
    weights = "balanced" if recipe.class_weights == "balanced" else None
    best: ClassicalModel | None = None
    best_score = (-1.0, -math.inf)
    tried: list[dict[str, float]] = []
    notes: list[str] = []
    for settings in kind.grid:
        if tried and max_minutes is not None and time.monotonic() - start > max_minutes * 60:
            notes.append(
                f"{len(tried)} of {len(kind.grid)} settings {'was' if len(tried) == 1 else 'were'} tried: the time "
                "given was used up."
            )
            say(notes[-1])
            break
        begun = time.monotonic()
        estimator = kind.build(settings, word, weights).fit(seen, labels)
        sharpness = fitted_sharpness(kind.scores(estimator, held_seen), estimator.classes_, validation.labels)
        model = ClassicalModel(recipe.backbone, cells.class_names, CURRENT, standardise, estimator, sharpness)
        row = {**settings, **_scores(model.probabilities(held_out), validation.labels)}
        row["seconds"] = round(time.monotonic() - begun, 2)
        tried.append(row)
        score = (row["validation_balanced_accuracy"], -row["validation_loss"])
        mark = " (best so far)" if score > best_score else ""
        say(
            f"{recipe.name}, {_words(settings)}: validation accuracy {row['validation_accuracy']:.4f}{mark}, "
            f"{row['seconds']:.1f} s"
        )
        if score > best_score:
            best, best_score, chosen = model, score, dict(settings)
    assert best is not None
    notes.insert(0, f"Chosen by validation from {len(tried)} settings: {_words(chosen)}.")
    return Fitted(best, chosen, tried, notes, held_out)


def describe(cells: Cells, title: str = "features") -> Floats:
    """The current features of every picture: float32 (n, d)."""
    function = feature_set(CURRENT)
    found = np.empty((len(cells), function(np.zeros((0, 8, 8, 3), np.uint8)).shape[1]), np.float32)
    with Progress(title, len(cells), "images") as progress:
        for rows, values in over_batches(cells, function):
            found[rows] = values
            progress.advance(len(values))
    return found


def standardiser(features: Floats, labels: NDArray[np.int64], discriminants: bool) -> Standardiser:
    """Mean and deviation of features (n, d), and the axes that part the classes of labels (n,) when asked for."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    # A feature that hardly varies in training says nothing, and would say far too much of the first odd picture.
    inverse = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
    plain = Standardiser(mean.astype(np.float32), inverse.astype(np.float32))
    if not discriminants:
        return plain
    found = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(plain(features), labels)
    axes = found.scalings_[:, : len(found.classes_) - 1]
    return replace(plain, axes=np.ascontiguousarray(axes, np.float64))


def fitted_sharpness(scores: Doubles, classes: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """What scores (n, classes) are multiplied with before the softmax, so that labels (n,) are the most likely.

    The inverse of the temperature of Guo et al., On calibration of modern neural networks, 2017. A share of the target
    is spread over all classes, as if two more pictures of no known class had been seen: where few are all named
    rightly, that is no certainty. Platt, Probabilistic outputs for support vector machines, 1999.
    """
    known = np.isin(labels, classes)
    target = np.eye(len(classes))[np.searchsorted(classes, labels[known])]
    spread = 2 / (len(target) + 2)
    target = (1 - spread) * target + spread / len(classes)

    def loss(log_sharpness: float) -> float:
        return -float((target * log_softmax(math.exp(log_sharpness) * scores[known], axis=1)).sum())

    if not known.any():
        return 1.0
    return math.exp(float(minimize_scalar(loss, bounds=(math.log(0.02), math.log(50)), method="bounded").x))


def comparisons(classes: int) -> tuple[Doubles, Doubles]:
    """Both sides of each pairwise margin of an SVM: (pairs, sides) of 1 and -1; and whose they are: (sides, classes).

    A class is as likely as that it wins all its comparisons, each with the logistic function of its margin. A sum of
    the margins themselves would let a class that wins clearly against others that it need not fear beat the right one.
    """
    pairs = list(itertools.combinations(range(classes), 2))
    # Of two classes, scikit-learn's margin speaks for the second; of more, for the first of a pair.
    signs = (-1.0, 1.0) if classes == 2 else (1.0, -1.0)
    sides, owners = np.zeros((len(pairs), 2 * len(pairs))), np.zeros((2 * len(pairs), classes))
    for row, pair in enumerate(pairs):
        for side in (0, 1):
            sides[row, 2 * row + side], owners[2 * row + side, pair[side]] = signs[side], 1
    return sides, owners


def _svm(settings: Settings, seed: int, class_weight: str | None) -> Any:
    from sklearn.svm import SVC

    return SVC(
        C=settings["C"],
        gamma=settings["gamma"],
        class_weight=class_weight,
        decision_function_shape="ovo",
        cache_size=1000,
    )


def _random_forest(settings: Settings, seed: int, class_weight: str | None) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators=200,
        min_samples_leaf=int(settings["min_samples_leaf"]),
        class_weight=class_weight,
        random_state=seed,
        n_jobs=THREADS,
    )


def _gradient_boosting(settings: Settings, seed: int, class_weight: str | None) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=settings["learning_rate"],
        max_iter=int(settings["max_iter"]),
        max_leaf_nodes=15,
        max_features=0.3,
        early_stopping=False,
        class_weight=class_weight,
        random_state=seed,
    )


def _k_nn(settings: Settings, seed: int, class_weight: str | None) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(int(settings["neighbors"]), weights="uniform", algorithm="brute")


def _grid(**values: tuple[float, ...]) -> tuple[Settings, ...]:
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


KINDS: Mapping[str, Kind] = {
    "classical/svm": Kind(_svm, _grid(C=(3, 10), gamma=(0.0005, 0.001, 0.002)), margins=True),
    "classical/random-forest": Kind(_random_forest, _grid(min_samples_leaf=(1, 3)), discriminants=True),
    "classical/gradient-boosting": Kind(_gradient_boosting, _grid(learning_rate=(0.2,), max_iter=(60,))),
    "classical/k-nn": Kind(_k_nn, _grid(neighbors=(5, 9, 15, 25)), discriminants=True),
}


class _Augmented:
    """Pictures as a recipe's augmentation changes them, made when they are read; a copy differs from another."""

    def __init__(self, pictures: Pictures, recipe: Recipe, seed: int, copy: int) -> None:
        self.pictures, self.recipe, self.seed, self.copy = pictures, recipe, seed, copy

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pictures.shape

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: Any) -> Images:
        numbers = np.atleast_1d(np.arange(len(self), dtype=np.int64)[rows])
        pictures = np.ascontiguousarray(self.pictures[rows])
        return augment(pictures, numbers, self.recipe.augmentation, seed=self.seed, epoch=self.copy)


def _copies(training: Cells, recipe: Recipe, seed: int) -> list[Cells]:
    count = recipe.copies if recipe.augmentation else 0
    return [replace(training, images=_Augmented(training.images, recipe, seed, copy)) for copy in range(count)]


def _scores(probabilities: Doubles, labels: NDArray[np.int64]) -> dict[str, float]:
    likelihoods = np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
    return {
        "validation_accuracy": float((probabilities.argmax(1) == labels).mean()),
        "validation_balanced_accuracy": balanced_accuracy(probabilities, labels),
        "validation_loss": -float(likelihoods.mean()),
    }


def _words(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items()) or "no settings"
