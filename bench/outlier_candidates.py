"""Scores for outliers from the literature, and sums of them: what `hemascope.trust.outliers` was chosen from.

Each is fitted on the embeddings (n, d), logits (n, classes) and labels (n,) of training cells, and gives float64 (n,),
higher for stranger pictures. What is stored stays near 1 MB for an embedding of 256 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import ledoit_wolf

from hemascope.trust.outliers import OutlierScore

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
Score = Callable[[Floats, Floats], Floats]
Fit = Callable[[Floats, Floats, Labels], Score]

STORED, NEIGHBOUR = 2048, 10
PROTOTYPES = 512
PRINCIPAL = 64
"""The directions that ViM calls principal, a quarter of the embedding's."""


def energy(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """Liu et al., Energy-based out-of-distribution detection, 2020, at temperature 1."""
    return lambda e, z: -np.asarray(logsumexp(z, axis=1))


def largest_logit(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """Hendrycks et al., Scaling out-of-distribution detection for real-world settings, 2022."""
    return lambda e, z: -z.max(axis=1)


def largest_probability(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """Hendrycks and Gimpel, A baseline for detecting misclassified and out-of-distribution examples, 2017; its
    logarithm, which orders alike and does not end at 1."""
    return lambda e, z: -np.asarray(log_softmax(z.astype(np.float64), axis=1)).max(axis=1)


def mahalanobis(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """Lee et al., A simple unified framework for detecting out-of-distribution samples, 2018, on the embedding."""
    means, whiten = _classes(embeddings, labels)
    return lambda e, z: _squares(e @ whiten, means @ whiten).min(axis=1)


def relative_mahalanobis(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """Ren et al., A simple fix to Mahalanobis distance for improving near-OOD detection, 2021."""
    near = mahalanobis(embeddings, logits, labels)
    every = mahalanobis(embeddings, logits, np.zeros_like(labels))
    return lambda e, z: near(e, z) - every(e, z)


def nearest_neighbour(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """Sun et al., Out-of-distribution detection with deep nearest neighbors, 2022: to the tenth of 2,048 stored."""
    stored = _directions(embeddings[np.random.default_rng(0).permutation(len(embeddings))[:STORED]])
    return lambda e, z: np.partition(_squares(_directions(e), stored), NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1]


def nearest_prototype(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """The same to the nearest of 512 k-means prototypes of all training cells."""
    means = MiniBatchKMeans(PROTOTYPES, random_state=0, n_init=1, batch_size=4096).fit(_directions(embeddings))
    stored = _directions(means.cluster_centers_)
    return lambda e, z: _squares(_directions(e), stored).min(axis=1)


def vim(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """Wang et al., ViM: out-of-distribution with virtual-logit matching, 2022; about the mean of the embeddings."""
    centre = embeddings.mean(axis=0)
    axes = np.linalg.eigh(np.cov(embeddings - centre, rowvar=False))[1]
    rest = axes[:, : axes.shape[1] - PRINCIPAL]

    def length(e: Floats) -> Floats:
        return np.asarray(np.linalg.norm((e - centre) @ rest, axis=1))

    scale = logits.max(axis=1).mean() / length(embeddings).mean()
    return lambda e, z: scale * length(e) - np.asarray(logsumexp(z, axis=1))


def hemascope_score(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
    """What the package has."""
    return OutlierScore.fit(embeddings, logits, labels).score


def total(*parts: Fit) -> Fit:
    """The sum of several scores, each brought to one standard deviation on the training cells."""

    def fit(embeddings: Floats, logits: Floats, labels: Labels) -> Score:
        scores = [part(embeddings, logits, labels) for part in parts]
        spreads = [float(score(embeddings, logits).std()) for score in scores]
        return lambda e, z: np.sum([one(e, z) / spread for one, spread in zip(scores, spreads, strict=True)], axis=0)

    return fit


OWN = "distance of rank 128 + largest logit"
CANDIDATES: dict[str, Fit] = {
    "energy": energy,
    "largest logit": largest_logit,
    "largest probability": largest_probability,
    "Mahalanobis": mahalanobis,
    "relative Mahalanobis": relative_mahalanobis,
    "nearest neighbour": nearest_neighbour,
    "nearest prototype": nearest_prototype,
    "ViM": vim,
    "Mahalanobis + energy": total(mahalanobis, energy),
    "Mahalanobis + largest probability": total(mahalanobis, largest_probability),
    "Mahalanobis + relative": total(mahalanobis, relative_mahalanobis),
    "Mahalanobis + nearest neighbour": total(mahalanobis, nearest_neighbour),
    "relative + energy": total(relative_mahalanobis, energy),
    "nearest neighbour + largest logit": total(nearest_neighbour, largest_logit),
    "ViM + relative": total(vim, relative_mahalanobis),
    OWN: hemascope_score,
}


def _classes(embeddings: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """The means of the classes (k, d) and the matrix (d, d) that makes their common covariance the identity."""
    place = np.unique(labels, return_inverse=True)[1]
    means = np.stack([embeddings[place == number].mean(axis=0) for number in range(place.max() + 1)])
    covariance = ledoit_wolf(embeddings - means[place], assume_centered=True)[0]
    return means, np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)).T)


def _squares(rows: Floats, others: Floats) -> Floats:
    """Squared distances (n, m)."""
    found = (rows * rows).sum(axis=1)[:, None] + (others * others).sum(axis=1) - 2 * rows @ others.T
    return np.asarray(np.maximum(found, 0))


def _directions(embeddings: Floats) -> Floats:
    return np.asarray(embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12))
