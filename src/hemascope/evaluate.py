"""A model and labelled cells: how good it is, how sure of that one can be, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope import metrics
from hemascope.audit.copies import find_copies
from hemascope.data import Cells, Images, load, pixel_hashes
from hemascope.data.cells import Pictures
from hemascope.errors import InputError
from hemascope.files import replacing, write_json
from hemascope.judgement import drifted, judge_labelled, known
from hemascope.progress import Progress
from hemascope.runtime import Answers, Model, answers_of, load_model, training_hashes
from hemascope.wording import every, many

if TYPE_CHECKING:
    import pandas as pd

Scores = dict[str, Any]

CONFIDENCE = 0.95
DRAWS = 2000
CONSTANT_SHARE = 0.9
CONSTANT_ROWS = 50
BATCH = 256


class Classifier(Protocol):
    """Anything that names the classes and gives their probabilities."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def predict(self, images: Images) -> NDArray[np.float32]:
        """The probabilities, float32 (n, classes), of uint8 (n, height, width, 3)."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    scores: what `score` gives for the rows that count, with the source, what was left out and the mistakes.
    predictions: a line for each picture, in order: id, label, predicted (class names), confidence, correct, left_out,
    and p_<class> for each class.
    warnings: sentences for the user. believe: sentences on how far the model should be believed on these pictures.
    """

    scores: Scores
    predictions: pd.DataFrame
    warnings: tuple[str, ...] = ()
    believe: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Write metrics.json (scores and warnings) and predictions.parquet into a folder, each at once."""
        with replacing(folder / "predictions.parquet") as temporary:
            self.predictions.to_parquet(temporary, index=False)
        write_json(folder / "metrics.json", {**self.scores, "warnings": list(self.warnings)})


def evaluate(
    model: Classifier | str | Path,
    cells: Cells | str | Path,
    *,
    trained_on: Collection[Any] | None = None,
    seed: int = 0,
    shown: Pictures | None = None,
    views: int = 1,
) -> Evaluation:
    """Let a model name labelled cells, and score it.

    model: a run folder, its model.onnx, or anything that predicts. cells: Cells, or a path for `hemascope.load`.
    Classes are matched by name. trained_on: the `pixel_hashes` of the pictures that made the model, which a run folder
    knows; rows that show the same pixels are left out of the scores, and the accuracy with them is told beside. For
    the bootstrap intervals the rows of a patient or slide are resampled together, or those with the same pixels when
    the cells have no groups. shown: the pictures of the same rows as the model is to see them, where they are prepared
    for it. views: over how many poses of a picture an answer is averaged, for a model that is loaded here.

    Raises InputError when a picture has no label or a class that the model does not know, when no picture remains, or
    when the model gives something else than probabilities.
    """
    by_fingerprint = False
    if isinstance(model, (str, Path)):
        trained_on = training_hashes(model) if trained_on is None else trained_on
        # A file alone knows its pictures by their fingerprints.
        by_fingerprint = trained_on is None
        model = load_model(model).with_views(views)
    trust = model.trust if isinstance(model, Model) else None
    if not isinstance(cells, Cells):
        cells = load(cells, classes=model.class_names)
    source = cells.source or "cells"
    check_labels(cells, source)
    cells = cells.with_classes(model.class_names)
    hashes = pixel_hashes(cells)
    if by_fingerprint and isinstance(model, Model) and (made := known(model, cells)) is not None:
        trained_on = hashes[made].tolist()
    seen = seen_rows(hashes, trained_on, source)
    verdict = find_copies(cells, hashes).verdict
    cells = cells if shown is None else replace(cells, images=shown)
    answers = None
    if isinstance(model, Model):
        answers = answers_of(model, cells, "evaluating")
        probabilities = checked_probabilities(answers.probabilities, cells.class_names, cells.ids)
    else:
        probabilities = _probabilities(model, cells)

    kept = np.flatnonzero(~seen)
    groups = copy_groups(cells, hashes)
    scores: Scores = {"source": cells.source}
    scores |= score(probabilities[kept], cells.labels[kept], cells.class_names, groups=groups[kept], seed=seed)
    scores["left_out"] = None
    found = []
    if trained_on is not None:
        with_them = metrics.accuracy(probabilities, cells.labels)
        scores["left_out"] = {"count": int(seen.sum()), "of": len(cells), "accuracy_with_them": with_them}
        if seen.any():
            they, them = ("it is", "it") if seen.sum() == 1 else ("they are", "them")
            found.append(
                f"{source}: {int(seen.sum()):,} of these {len(cells):,} pictures went into this model; {they} left out"
                f": accuracy {scores['accuracy']:.4f}, with {them} {with_them:.4f}."
            )
    mistakes = confident_mistakes(probabilities[kept], cells.labels[kept], cells.ids[kept], cells.class_names)
    scores["confident_mistakes"] = [{**mistake, "row": int(kept[mistake["row"]])} for mistake in mistakes]
    unsure = np.isin(verdict[kept], ("not_a_cell", "copy_other_label"))
    if doubtful := int(unsure.sum()):
        sure = kept[~unsure]
        stand, them = ("stands", "it") if doubtful == 1 else ("stand", "them")
        without = f"{metrics.accuracy(probabilities[sure], cells.labels[sure]):.4f}" if len(sure) else "–"
        found.append(
            f"{source}: {doubtful:,} of the pictures scored {stand} under several labels, so no answer can be right; "
            f"without {them} the accuracy is {without}. hemascope audit names {them}, and its --apply leaves "
            f"{them} out."
        )
    by_intention = isinstance(model, Model) and model.one_answer
    if not by_intention and (warning := constant_class_warning(probabilities, cells.labels, cells.class_names)):
        found.append(f"{source}: {warning}")
    told: tuple[str, ...] = ()
    if trust is not None and answers is not None:
        given, held = Answers(*(column[kept] for column in answers[:3])), cells.take(kept)
        judged = judge_labelled(trust, given, held, groups[kept])
        drift, differs = drifted(trust, given, held)
        scores["trust"] = judged.facts | {"drift": drift}
        told = (*judged.sentences, *differs)
    return Evaluation(scores, _table(cells, probabilities, seen), tuple(found), told)


def score(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Scores:
    """Everything that is measured, ready for JSON; what is undefined is None.

    probabilities: (n, classes) float. labels: (n,) int, positions in class_names. groups: (n,), equal for rows to be
    resampled together; each row alone when None. Raises ValueError when the shapes disagree.

    Proportions (accuracy, recall, precision) have Wilson intervals; balanced accuracy, macro-F1 and the macro AUC have
    bootstrap intervals over the groups, or None where no draw differs: resampling rows without a mistake says nothing
    about the mistakes that other rows would show.
    """
    confusion = metrics.confusion_matrix(probabilities, labels)
    table = metrics.per_class(confusion)
    areas = metrics.one_vs_rest_auc(probabilities, labels)
    right, rows = int(np.trace(confusion)), len(labels)
    groups = np.arange(rows) if groups is None else np.asarray(groups)

    def resampled(weights: metrics.Counts) -> metrics.Floats:
        drawn = metrics.per_class(metrics.confusion_matrix(probabilities, labels, weights))
        drawn_areas = metrics.one_vs_rest_auc(probabilities, labels, weights)
        return np.stack([metrics.macro_mean(values) for values in (drawn.recall, drawn.f1, drawn_areas)], axis=1)

    low, high = metrics.bootstrap_interval(resampled, groups, seed, DRAWS, CONFIDENCE)
    scores: Scores = {
        "n": rows,
        "class_names": list(class_names),
        "accuracy": right / rows,
        "accuracy_interval": _wilson(right, rows),
    }
    for place, (name, values) in enumerate(
        (("balanced_accuracy", table.recall), ("macro_f1", table.f1), ("auc", areas))
    ):
        scores[name] = _number(metrics.macro_mean(values))
        scores[f"{name}_interval"] = [float(low[place]), float(high[place])] if low[place] < high[place] else None
    predicted = confusion.sum(0)
    scores["per_class"] = [
        {
            "class": name,
            "support": int(table.support[at]),
            "predicted": int(predicted[at]),
            "recall": _number(table.recall[at]),
            "recall_interval": _wilson(int(confusion[at, at]), int(table.support[at])),
            "precision": _number(table.precision[at]),
            "precision_interval": _wilson(int(confusion[at, at]), int(predicted[at])),
            "f1": _number(table.f1[at]),
            "auc": _number(areas[at]),
        }
        for at, name in enumerate(class_names)
    ]
    scores["confusion_matrix"] = confusion.tolist()
    scores["most_confused"] = [
        {"true": class_names[pair.true], "predicted": class_names[pair.predicted]}
        | {"count": pair.count, "share": pair.share}
        for pair in metrics.most_confused_pairs(confusion)
    ]
    scores["calibration"] = {
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "adaptive_calibration_error": metrics.adaptive_calibration_error(probabilities, labels),
        "brier": metrics.brier(probabilities, labels),
        "negative_log_likelihood": metrics.negative_log_likelihood(probabilities, labels),
    }
    scores["intervals"] = {
        "confidence": CONFIDENCE,
        "bootstrap_draws": DRAWS,
        "bootstrap_groups": len(np.unique(groups)),
        "seed": seed,
    }
    return scores


def confident_mistakes(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    ids: NDArray[np.str_],
    class_names: Sequence[str],
    most: int = 24,
) -> list[dict[str, Any]]:
    """The wrong answers given with the highest confidence, at most `most` of them, surest first.

    probabilities: (n, classes) float. labels: (n,) int. ids: (n,) str. Each is a dict of row (the position among
    these n), id, label and predicted (class names), confidence, and label_probability (what the true class got).
    """
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        {
            "row": int(row),
            "id": str(ids[row]),
            "label": class_names[labels[row]],
            "predicted": class_names[predicted[row]],
            "confidence": float(confidence[row]),
            "label_probability": float(probabilities[row, labels[row]]),
        }
        for row in surest
    ]


def constant_class_warning(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], class_names: Sequence[str]
) -> str | None:
    """A sentence when a model names over 90% of 50 or more pictures alike, and their labels do not; else None.

    probabilities: (n, classes). labels: (n,) int.
    """
    rows = len(probabilities)
    if rows < CONSTANT_ROWS:
        return None
    counts = np.bincount(probabilities.argmax(1), minlength=len(class_names))
    largest = int(counts.argmax())
    labelled = int((labels == largest).sum())
    if counts[largest] <= CONSTANT_SHARE * rows or labelled > CONSTANT_SHARE * rows:
        return None
    return (
        f"{int(counts[largest]):,} of {rows:,} pictures ({counts[largest] / rows:.1%}) are named "
        f"{class_names[largest]}, but only {labelled:,} labelled so; check the pixel range: a network that expects "
        "0..255 and gets 0..1 does this, and so one with 0.93 on its own test can score below a constant on another."
    )


def check_labels(cells: Cells, source: str) -> None:
    """Raise InputError unless there are pictures and each has a label."""
    if not len(cells):
        raise InputError(f"{source}: has no pictures; evaluation needs some, with a label for each.")
    if not cells.labelled:
        missing = int((cells.labels < 0).sum())
        raise InputError(
            f"{source}: {missing:,} of {many(len(cells), 'picture')} {'has' if missing == 1 else 'have'} no label, and "
            "evaluation needs one for each; "
            "name pictures without labels with `hemascope predict`."
        )


def seen_rows(hashes: NDArray[np.uint64], trained_on: Collection[Any] | None, source: str) -> NDArray[np.bool_]:
    """Which rows show the same pixels as pictures that made the model: bool (n,).

    hashes: (n,), as `pixel_hashes` gives them. Raises InputError when there are no others.
    """
    known = frozenset(() if trained_on is None else trained_on)
    seen = np.fromiter((value in known for value in hashes.tolist()), bool, len(hashes))
    if seen.all():
        raise InputError(
            f"{source}: {every(len(hashes), 'picture')} trained this model, so that it may only be remembering; "
            "give pictures that it has not seen."
        )
    return seen


def copy_groups(cells: Cells, hashes: NDArray[np.uint64]) -> NDArray[Any]:
    """What is resampled together: the rows of a patient or slide, or those with the same pixels. Returns (n,)."""
    return hashes if cells.groups is None else cells.groups


def checked_predictions(model: Classifier, images: Images, ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """What the model gives for some pictures: float32 (n, classes). Raises InputError unless it is probabilities."""
    return checked_probabilities(np.asarray(model.predict(images)), model.class_names, ids)


def checked_probabilities(
    given: NDArray[np.float32], class_names: Sequence[str], ids: NDArray[np.str_]
) -> NDArray[np.float32]:
    """The same array, what a model gave for pictures of these ids. Raises InputError unless it is probabilities."""
    expected = (len(ids), len(class_names))
    if given.shape != expected:
        raise InputError(
            f"the model gives an array of shape {given.shape} for {len(ids)} pictures of "
            f"{len(class_names)} classes; expected {expected}, a probability for each."
        )
    unsound = ~np.isfinite(given).all(1) | (np.abs(given.sum(1) - 1) > 0.005) | (given < 0).any(1)
    if unsound.any():
        row = int(np.flatnonzero(unsound)[0])
        raise InputError(
            f"{ids[row]}: the model gives {np.array2string(given[row], precision=3)}, "
            "expected probabilities that sum to 1; train it again or end it with a softmax."
        )
    return given


def _probabilities(model: Classifier, cells: Cells) -> NDArray[np.float32]:
    """What the model gives for each row: float32 (n, classes), checked."""
    probabilities = np.empty((len(cells), len(model.class_names)), np.float32)
    with Progress("evaluating", len(cells), "pictures") as progress:
        for rows, images in cells.batches(BATCH):
            probabilities[rows] = checked_predictions(model, images, cells.ids[rows])
            progress.advance(len(images))
    return probabilities


def _table(cells: Cells, probabilities: NDArray[np.float32], left_out: NDArray[np.bool_]) -> pd.DataFrame:
    import pandas as pd

    names = np.array(cells.class_names, dtype=object)
    predicted = probabilities.argmax(1)
    columns: dict[str, Any] = {
        "id": cells.ids.astype(object),
        "label": names[cells.labels],
        "predicted": names[predicted],
        "confidence": probabilities.max(1),
        "correct": predicted == cells.labels,
        "left_out": left_out,
    }
    return pd.DataFrame(columns | {f"p_{name}": probabilities[:, at] for at, name in enumerate(cells.class_names)})


def _wilson(successes: int, total: int) -> list[float] | None:
    return list(metrics.wilson_interval(successes, total, CONFIDENCE)) if total else None


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
