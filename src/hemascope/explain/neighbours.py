"""The training cells that a picture looks most alike to the network, as a person is shown the cases next to his own."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images
from hemascope.draws import permutation
from hemascope.errors import InputError
from hemascope.features.stain import Floats
from hemascope.files import replacing
from hemascope.progress import Progress
from hemascope.resize import resize

if TYPE_CHECKING:
    from hemascope.data import Cells
    from hemascope.runtime import Model

FILE = "neighbours.npz"
"""The name of the table in a run's model folder."""
MOST = 2000
"""So many training cells stand in a run's table at most."""
SIDE = 48
"""The side of their small pictures."""
_BATCH = 256


class NearestCells(NamedTuple):
    """rows: int (n, k), where the nearest stand in the table, the nearest first; labels: int (n, k); cosine: float32
    (n, k), 1 for an embedding that points the same way."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    cosine: Floats


@dataclass(frozen=True)
class KnownCells:
    """Training cells of a model: what a run folder holds of them.

    embeddings: float16 (n, d) of length 1. labels: int (n,), positions in class_names. ids: str (n,). thumbnails: uint8
    (n, SIDE, SIDE, 3), or None where no picture is kept.
    """

    embeddings: NDArray[np.float16]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    thumbnails: Images | None = None

    def __post_init__(self) -> None:
        if not len(self.embeddings) == len(self.labels) == len(self.ids):
            raise InputError(
                f"{len(self.embeddings):,} embeddings, {len(self.labels):,} labels and {len(self.ids):,} ids were "
                "given for the training cells; give one of each for each cell."
            )
        if self.thumbnails is not None and self.thumbnails.shape != (len(self.labels), SIDE, SIDE, 3):
            raise InputError(
                f"pictures of shape {self.thumbnails.shape} were given for {len(self.labels):,} training cells; give "
                f"one of {SIDE} x {SIDE} pixels for each, or none."
            )

    def nearest(self, embedding: Floats, k: int = 6) -> NearestCells:
        """The k nearest for embeddings float (n, d). Raises InputError as `nearest_training_cells`."""
        return nearest_training_cells(embedding, self.embeddings, self.labels, k)

    def sentence(self, labels: NDArray[np.int64], cosine: Floats) -> str:
        """What the neighbours of one picture are, from its row (k,) of `nearest`, in words."""
        counts = Counter(self.class_names[label] for label in labels.tolist())
        told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        near = distance(cosine[0])
        if len(labels) == 1:
            return f"The nearest training cell is {told}; its distance is {near:.3f}."
        return f"The {len(labels)} nearest training cells are {told}; the distance of the nearest is {near:.3f}."

    def save(self, path: Path) -> None:
        """Write the table as npz."""
        columns: dict[str, Any] = {
            "embeddings": self.embeddings,
            "labels": self.labels.astype(np.int16),
            "ids": self.ids,
            "class_names": np.array(self.class_names),
        }
        columns |= {} if self.thumbnails is None else {"thumbnails": self.thumbnails}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **columns)


def distance(cosine: float | np.floating[Any]) -> float:
    """The cosine distance of two embeddings: 0 where they point the same way, 1 where they have nothing in common."""
    return max(1.0 - float(cosine), 0.0)


def reference_rows(labels: NDArray[Any], most: int = MOST, seed: int = 0) -> NDArray[np.int64]:
    """Which of some rows stand for all: as many of each class as `most` allows, or all where it has fewer; sorted.

    labels: int (n,). The same labels and seed give the same rows.
    """
    counts = np.bincount(labels)
    each = max(most, 0)
    while np.minimum(counts, each).sum() > most:
        each -= 1
    chosen = [
        np.flatnonzero(labels == label)[permutation(seed, label, int(counts[label]))[:each]]
        for label in np.flatnonzero(counts).tolist()
    ]
    return np.sort(np.concatenate([*chosen, np.zeros(0, np.int64)]))


def training_cells(model: Model, cells: Cells, seed: int = 0, most: int = MOST) -> KnownCells:
    """The table of some training rows, equally many of each class, with small pictures, by a model that they trained.

    cells: split. It takes as long as naming `most` pictures.
    """
    training = cells.in_split("train")
    chosen = training.take(reference_rows(training.labels, most, seed))
    embeddings = [model.answers(np.asarray(chosen.images[:0])).embedding]
    thumbnails = [np.zeros((0, SIDE, SIDE, 3), np.uint8)]
    with Progress("keeping training cells", len(chosen), "images") as progress:
        for _, images in chosen.batches(_BATCH):
            embeddings.append(model.answers(images).embedding)
            thumbnails.append(resize(images, SIDE))
            progress.advance(len(images))
    table = known_cells(np.concatenate(embeddings), chosen.labels, chosen.ids, cells.class_names)
    return replace(table, thumbnails=np.concatenate(thumbnails))


def known_cells(
    embeddings: Floats, labels: NDArray[Any], ids: Sequence[str] | NDArray[np.str_], class_names: Sequence[str]
) -> KnownCells:
    """The table of training cells, their embeddings float (n, d) brought to length 1 and half precision.

    Raises InputError when the counts disagree.
    """
    return KnownCells(
        unit(embeddings).astype(np.float16), np.asarray(labels, np.int64), np.asarray(ids, np.str_), tuple(class_names)
    )


def load_known_cells(path: Path) -> KnownCells:
    """Read what `KnownCells.save` wrote. Raises InputError when there is no such table."""
    if not path.is_file():
        raise InputError(f"{path}: there is no table of training cells; give a run that was trained with one.")
    try:
        with np.load(path, allow_pickle=False) as table:
            names = tuple(str(name) for name in table["class_names"])
            pictures = table.get("thumbnails")
            return KnownCells(table["embeddings"], table["labels"].astype(np.int64), table["ids"], names, pictures)
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is no table of training cells ({error}); train the run again.") from error


def nearest_training_cells(
    embedding: Floats, known_embeddings: NDArray[np.floating[Any]], labels: NDArray[Any], k: int
) -> NearestCells:
    """The training cells whose embeddings point most alike, by cosine.

    embedding: float (n, d). known_embeddings: float (known, d), of any length above 0 and any precision. labels: int
    (known,). k: how many for each picture, at most `known`. Raises InputError when the shapes disagree or k is below 1.
    """
    if embedding.ndim != 2 or embedding.shape[1:] != known_embeddings.shape[1:]:
        raise InputError(
            f"embeddings of shape {embedding.shape} were given beside known ones of shape {known_embeddings.shape}; "
            "give both (cells, features) from one network."
        )
    if not 1 <= k <= len(known_embeddings):
        raise InputError(f"{k} neighbours were asked for; ask for 1 to {len(known_embeddings):,}.")
    cosine = unit(embedding) @ unit(known_embeddings).T
    some = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(cosine, some, 1), axis=1, kind="stable")
    rows = np.take_along_axis(some, order, 1)
    return NearestCells(rows, np.asarray(labels, np.int64)[rows], np.take_along_axis(cosine, rows, 1))


def unit(embeddings: NDArray[np.floating[Any]]) -> Floats:
    """The embeddings (n, d) brought to length 1, float32; one of length 0 stays so."""
    whole = np.asarray(embeddings, np.float32)
    return np.asarray(whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12))
