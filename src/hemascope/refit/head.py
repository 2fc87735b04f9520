"""A model fitted again to a few labelled pictures of another laboratory: seconds on a CPU, and no torch.

The network stays. Before it, pictures are brought to its scale and colours where that helps; behind it stands a
regularised logistic regression on its embedding that begins from its own answers. Whether the result is better is
measured on pictures that each fit has not seen, and only then is it kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hemascope.colour import ColourMatch, Colours
from hemascope.data import Cells, Images
from hemascope.front import Front
from hemascope.metrics import McNemar, mcnemar, wilson_interval
from hemascope.runtime import Model

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

FIELDS = (1.0, 0.85, 0.72, 0.6, 0.5, 1.25, 1.5)
"""What is tried as the share of a picture that shows what the model's pictures show."""
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
FOLDS = 5
POSES = 8
LEAST = 1e-6
"""The probability of a class that the model does not know, before it has seen pictures of it."""
STEPS = 200


@dataclass(frozen=True)
class Head:
    """A logistic regression behind a model: log p = own * log q + embedding @ weights + bias, made to sum to 1.

    q are the model's own probabilities, with LEAST for classes that it does not know. own: how much they count.
    weights: float64 (d, classes). bias: float64 (classes,).
    """

    own: float
    weights: Floats
    bias: Floats

    def logits(self, logarithms: Floats, embedding: Floats) -> Floats:
        """float64 (n, classes), from log q (n, classes) and embeddings (n, d)."""
        return self.own * logarithms + embedding @ self.weights + self.bias


@dataclass(frozen=True)
class Fitted:
    """A front and a head for a model, and how good they are.

    logits: float64 (n, classes), of pictures that the fit which gave them had not seen. unchanged, refitted: how many
    of the n pictures each names rightly, the latter on those logits. test: McNemar's test between the two.
    """

    front: Front
    head: Head
    class_names: tuple[str, ...]
    penalty: float
    logits: Floats
    labels: Labels
    unchanged: int
    refitted: int
    test: McNemar

    @property
    def better(self) -> bool:
        return self.refitted > self.unchanged

    def right_of(self, name: str) -> int:
        """How many pictures of a class the refitted model names rightly, in cross-validation."""
        place = self.class_names.index(name)
        return int((self.logits[self.labels == place].argmax(1) == place).sum())

    def sentence(self) -> str:
        rows = len(self.labels)
        after, before = (
            "{:.3f} ({:.3f} to {:.3f})".format(right / rows, *wilson_interval(right, rows))
            for right in (self.refitted, self.unchanged)
        )
        return (
            f"cross-validated on {rows:,} pictures: {after} right, the unchanged model {before}; McNemar p "
            f"{self.test.p:.2g}"
        )


def fit_head(logarithms: Floats, embeddings: Floats, labels: Labels, penalty: float) -> Head:
    """The head that makes labels (n,) most probable, weights on standardised embeddings being penalised.

    logarithms: log q, float64 (n, classes). embeddings: float64 (n, d).
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    mean, spread = embeddings.mean(0), embeddings.std(0) + 1e-3
    standard = (embeddings - mean) / spread
    (rows, width), classes = standard.shape, logarithms.shape[1]
    truth = np.eye(classes)[labels]

    def loss(values: Floats) -> tuple[float, Floats]:
        weights, bias, own = values[: width * classes].reshape(width, classes), values[width * classes : -1], values[-1]
        told = log_softmax(own * logarithms + standard @ weights + bias, axis=1)
        error = (np.exp(told) - truth) / rows
        # A little on the rest, too: a class that few rows show has no bias of its own, and the model's answers count.
        gradient = np.concatenate(
            [
                (standard.T @ error + penalty * weights).reshape(-1),
                error.sum(0) + 1e-3 * bias,
                [(error * logarithms).sum() + 1e-2 * (own - 1)],
            ]
        )
        cost = penalty / 2 * (weights**2).sum() + 5e-4 * (bias**2).sum() + 5e-3 * (own - 1) ** 2
        return float(cost - (told * truth).sum() / rows), gradient

    start = np.zeros(width * classes + classes + 1)
    start[-1] = 1
    # The matrices are small: threads would wait for each other, for minutes on a busy machine.
    with threadpool_limits(1):
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    weights = found[: width * classes].reshape(width, classes) / spread[:, None]
    return Head(float(found[-1]), weights, found[width * classes : -1] - mean @ weights)


def fit(model: Model, cells: Cells, seed: int = 0) -> Fitted:
    """Fit a front and a head to labelled cells of another laboratory, and measure them against the model unchanged.

    The classes are the model's, and after them those of the cells that it does not know. Each row is named by a fit
    that has not seen it, the choice of front and penalty included (nested cross-validation, folds stratified by class);
    only the colours to match are measured on all pictures together, without their labels.
    """
    labels, names = _known_first(model, cells)
    seen = _Seen(model, np.asarray(cells.images[:]), len(names))
    rows = np.arange(len(labels))
    logits = np.empty((len(labels), len(names)))
    for train, held_out in _folds(labels, rows, seed):
        place, penalty = _choice(seen, labels, train, seed)
        head = fit_head(*seen.in_all_poses(place, train), np.tile(labels[train], POSES), penalty)
        logits[held_out] = head.logits(*seen.upright(place, held_out))
    place, penalty = _choice(seen, labels, rows, seed)
    head = fit_head(*seen.in_all_poses(place, rows), np.tile(labels, POSES), penalty)
    before, after = seen.upright(0, rows)[0].argmax(1) == labels, logits.argmax(1) == labels
    test = mcnemar(after, before)
    return Fitted(seen.fronts[place], head, names, penalty, logits, labels, int(before.sum()), int(after.sum()), test)


class _Seen:
    """What a model says of n pictures behind each front that is tried; each is asked once.

    Answers are log q, float64 (n, classes), and embeddings, float64 (n, d).
    """

    def __init__(self, model: Model, images: Images, classes: int) -> None:
        self.model, self.images, self.classes = model, images, classes
        self.fronts = list(_fronts(model, images))
        self._upright = [self._asked(front(images)) for front in self.fronts]
        self._posed: dict[int, tuple[Floats, Floats]] = {}

    def upright(self, front: int, rows: Labels) -> tuple[Floats, Floats]:
        """The answers for some rows, as they are."""
        logarithms, embeddings = self._upright[front]
        return logarithms[rows], embeddings[rows]

    def in_all_poses(self, front: int, rows: Labels) -> tuple[Floats, Floats]:
        """The same in all POSES poses, one after the other: a cell has no upper side, and few rows become many."""
        if front not in self._posed:
            parts = [self._asked(pose) for pose in _poses(self.fronts[front](self.images))]
            logarithms, embeddings = (np.stack(part) for part in zip(*parts, strict=True))
            self._posed[front] = logarithms, embeddings
        logarithms, embeddings = (part[:, rows] for part in self._posed[front])
        return logarithms.reshape(-1, logarithms.shape[2]), embeddings.reshape(-1, embeddings.shape[2])

    def _asked(self, images: Images) -> tuple[Floats, Floats]:
        answers = self.model.answers(np.ascontiguousarray(images))
        known = np.log(np.maximum(answers.probabilities.astype(np.float64), LEAST))
        new = np.full((len(known), self.classes - known.shape[1]), np.log(LEAST))
        return np.concatenate([known, new], axis=1), answers.embedding.astype(np.float64)


def _known_first(model: Model, cells: Cells) -> tuple[Labels, tuple[str, ...]]:
    """The labels as positions in the classes of the model followed by those that are new to it."""
    shown = [cells.class_names[label] for label in np.unique(cells.labels)]
    names = (*model.class_names, *(name for name in shown if name not in model.class_names))
    places = np.array([names.index(name) if name in names else -1 for name in cells.class_names])
    return places[cells.labels], names


def _fronts(model: Model, images: Images) -> Iterator[Front]:
    """What is tried in front of the model, the pictures as they are first."""
    size = model.image_size
    yield Front(size)
    if "features" in model.metadata:
        return
    colours: list[ColourMatch | None] = [None]
    if model.colours is not None:
        colours.append(ColourMatch.between(Colours.of(images), model.colours))
    yield from (Front(size, field, match) for match in colours for field in FIELDS if (field, match) != (1.0, None))


def _poses(images: Images) -> Iterator[Images]:
    for one in (images, images.transpose(0, 2, 1, 3)):
        yield from (one, one[:, ::-1], one[:, :, ::-1], one[:, ::-1, ::-1])


def _folds(labels: Labels, rows: Labels, seed: int) -> Iterator[tuple[Labels, Labels]]:
    """Some rows in FOLDS parts of about the same classes: those to fit on and those held out, FOLDS times."""
    rng = np.random.default_rng(seed)
    order = rows[rng.permutation(len(rows))]
    order = order[np.argsort(labels[order], kind="stable")]
    part = np.arange(len(order)) % FOLDS
    for fold in range(FOLDS):
        yield np.sort(order[part != fold]), np.sort(order[part == fold])


def _choice(seen: _Seen, labels: Labels, rows: Labels, seed: int) -> tuple[int, float]:
    """The front behind which the model's own answers fit best, and the penalty that cross-validation prefers there."""
    truth = labels[rows]
    fits = [float(_losses(_tempered(seen.upright(at, rows)[0], truth), truth).mean()) for at in range(len(seen.fronts))]
    best = int(np.argmin(fits))
    costs = np.zeros(len(PENALTIES))
    for train, held_out in _folds(labels, rows, seed + 1):
        given = *seen.in_all_poses(best, train), np.tile(labels[train], POSES)
        for place, penalty in enumerate(PENALTIES):
            logits = fit_head(*given, penalty).logits(*seen.upright(best, held_out))
            costs[place] += _losses(logits, labels[held_out]).sum()
    return best, PENALTIES[int(costs.argmin())]


def _tempered(logits: Floats, labels: Labels) -> Floats:
    """Logits (n, classes) divided by the temperature that makes the labels (n,) most probable."""
    temperatures = np.geomspace(0.25, 8, 21)
    return min((logits / one for one in temperatures), key=lambda found: float(_losses(found, labels).sum()))


def _losses(logits: Floats, labels: Labels) -> Floats:
    """The negative log-likelihood of each label, in nats: float64 (n,)."""
    from scipy.special import log_softmax

    told: Floats = log_softmax(logits, axis=1)
    return -told[np.arange(len(labels)), labels]
