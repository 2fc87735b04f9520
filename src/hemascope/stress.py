"""The stress test: how a model fares on pictures that it has never seen spoilt like that, and one score to choose by.

The stress score is the mean accuracy over the mixes `mild`, `hidden` and `extreme`: chains of three corruptions, a
chain of its own for every picture, weighed so that each kind of corruption counts alike. It ranks models; it does not
forecast the score on somebody's hidden test. The held-out families and `hidden-unseen` play no part in it, so that they
can say whether it ranks rightly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt import FAMILIES
from hemascope.data import SPLITS, Cells, Images, load, pixel_hashes
from hemascope.data.cells import Rows
from hemascope.draws import word
from hemascope.errors import InputError
from hemascope.evaluate import (
    BATCH,
    Classifier,
    Scores,
    check_labels,
    checked_predictions,
    copy_groups,
    seen_rows,
)
from hemascope.files import replacing, write_json
from hemascope.models import model_folder
from hemascope.novelty import novelty
from hemascope.progress import Progress
from hemascope.run import Run, recipe_of
from hemascope.runtime import load_model, training_hashes
from hemascope.stress_scores import (
    CLEAN,
    GROUPS,
    SCORED_MIXES,
    Answers,
    Condition,
    conditions_of,
    group_scores,
    line_of,
    mix_scores,
    surest_mistakes,
)

if TYPE_CHECKING:
    import pandas as pd

    from hemascope.recipe import Augmentation, Recipe

MOST_ANSWERS = 2_000_000
"""Up to so many answers are written by picture; a table of more would outgrow what it is good for."""


@dataclass(frozen=True)
class Stress:
    """What `stress` found.

    scores: everything that is measured, ready for JSON. conditions: a line for each corruption and severity, the mixes
    and the clean pictures: group, corruption, severity, n, accuracy, balanced_error, and recall_<class> for each class.
    answers: a line for each picture: id, label, and for each condition what the model called it. originals, corrupted:
    uint8 (k, height, width, 3), the pictures of scores["mistakes"], in order. notes: sentences for the user.
    """

    scores: Scores
    conditions: pd.DataFrame
    answers: pd.DataFrame
    originals: Images
    corrupted: Images
    notes: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Write stress.json, stress.csv (the conditions) and stress.parquet (the answers) into a folder."""
        with replacing(folder / "stress.csv") as temporary:
            self.conditions.to_csv(temporary, index=False, float_format="%.6f")
        if self.answers.size <= MOST_ANSWERS:
            with replacing(folder / "stress.parquet") as temporary:
                self.answers.to_parquet(temporary, index=False)
        write_json(folder / "stress.json", self.scores)


def seed_for(part: str, seed: int = 0) -> int:
    """The seed of the corruptions for one part of the data: validation and test rows never share one.

    part: one of SPLITS, or "evaluation" for other files. A model that was chosen on validation rows is so reported on
    other pictures and on other corruptions of them.
    """
    return word(seed, 0, [*SPLITS, "evaluation"].index(part), "stress test")


def stress(
    model: Classifier | str | Path,
    cells: Cells | str | Path,
    *,
    seed: int | None = None,
    rows: Rows | None = None,
    what: Sequence[str] = GROUPS,
    augmentation: Sequence[Augmentation] | None = None,
    trained_on: Collection[Any] | None = None,
) -> Stress:
    """Let a model name labelled cells, clean and under every corruption, and score it.

    model: a run folder, its model.onnx, or anything that predicts. cells: Cells, or a path for `hemascope.load`.
    seed: decides every corruption; `seed_for("evaluation")` when None. rows: int64 (n,), the number of each picture,
    which with the seed decides how it is corrupted; its place in the cells when None. what: which of GROUPS to
    measure. augmentation: that of the model's recipe, which a run folder knows; then how unseen each family is to it is
    measured. trained_on: as in `evaluate`; rows that show the pixels of training pictures
    are left out.

    Raises InputError as `evaluate` does.
    """
    if unknown := [name for name in what if name not in GROUPS]:
        raise InputError(f"the stress test has no part '{unknown[0]}'; name some of {', '.join(GROUPS)}.")
    notes, named = [], {}
    if isinstance(model, (str, Path)):
        trained_on = training_hashes(model) if trained_on is None else trained_on
        recipe, note = _recipe_of(model_folder(model))
        named = {"model": str(model), "recipe": recipe.name if recipe else None}
        if augmentation is None:
            augmentation = recipe.augmentation if recipe else None
            notes += [note] if note else []
        model = load_model(model)
    if not isinstance(cells, Cells):
        cells = load(cells, classes=model.class_names)
    source = cells.source or "cells"
    check_labels(cells, source)
    cells = cells.with_classes(model.class_names)
    hashes = pixel_hashes(cells)
    kept = np.flatnonzero(~seen_rows(hashes, trained_on, source))
    rows = np.arange(len(cells), dtype=np.int64) if rows is None else np.asarray(rows, np.int64)
    seed = seed_for("evaluation") if seed is None else seed
    left_out = len(cells) - len(kept)
    cells, rows, hashes = cells.take(kept), rows[kept], hashes[kept]

    conditions = [Condition(CLEAN, CLEAN), *conditions_of(what)]
    answers, confidences = _answers(model, cells, conditions, seed, rows, hashes)
    lines = [line_of(condition, cells, answer) for condition, answer in zip(conditions, answers, strict=True)]
    scores: Scores = {
        **named,
        "source": cells.source,
        "n": len(cells),
        "left_out": left_out,
        "class_names": list(cells.class_names),
        "seed": seed,
        "clean": {name: lines[0][name] for name in ("accuracy", "balanced_error")},
    }
    for group in ("medmnist-c", "held-out"):
        if group in what:
            scores[group.replace("-", "_")] = group_scores(group, lines)
    if "mixes" in what:
        mixes = {each.name: answer for each, answer in zip(conditions, answers, strict=True) if each.group == "mixes"}
        sure = {each.name: one for each, one in zip(conditions, confidences, strict=True) if each.group == "mixes"}
        scores |= mix_scores(mixes, sure, cells.labels, seed, rows, copy_groups(cells, hashes))
    families = [name for name in FAMILIES if FAMILIES[name].group in what]
    if augmentation is not None and families:
        scores["novelty"] = novelty(cells, augmentation, families).as_json()

    mistakes = surest_mistakes(conditions, answers, confidences, cells.labels)
    scores["mistakes"] = [
        {
            "id": str(cells.ids[mistake.place]),
            "row": int(rows[mistake.place]),
            "corruption": mistake.condition.name,
            "severity": mistake.condition.severity,
            "label": cells.class_names[cells.labels[mistake.place]],
            "predicted": cells.class_names[mistake.answer],
            "confidence": mistake.confidence,
        }
        for mistake in mistakes
    ]
    originals = np.asarray(cells.images[np.array([mistake.place for mistake in mistakes], np.int64)])
    corrupted = [
        mistake.condition.applied(originals[at : at + 1], seed, rows[mistake.place : mistake.place + 1])
        for at, mistake in enumerate(mistakes)
    ]
    tables = _table(lines), _answer_table(conditions, answers, cells)
    return Stress(scores, *tables, originals, np.concatenate([originals[:0], *corrupted]), tuple(notes))


def stress_score(model: Classifier, cells: Cells, seed: int, rows: Rows | None = None) -> Scores:
    """The stress score alone, which is quick: three mixes.

    model: anything that predicts. cells: labelled. seed, rows: as in `stress`. Returns n, seed, mixes (the accuracy on
    each with its interval), stress_score and stress_score_interval, which is None where no draw differs.
    """
    check_labels(cells, cells.source or "cells")
    cells = cells.with_classes(model.class_names)
    rows = np.arange(len(cells), dtype=np.int64) if rows is None else np.asarray(rows, np.int64)
    conditions = [Condition("mixes", name) for name in SCORED_MIXES]
    hashes = pixel_hashes(cells)
    answers, confidences = _answers(model, cells, conditions, seed, rows, hashes)
    found = dict(zip(SCORED_MIXES, answers, strict=True))
    sure = dict(zip(SCORED_MIXES, confidences, strict=True))
    scores = mix_scores(found, sure, cells.labels, seed, rows, copy_groups(cells, hashes))
    return {"n": len(cells), "seed": seed, **scores}


def _recipe_of(model: Path) -> tuple[Recipe | None, str]:
    """The recipe of a run, or None and a sentence that says why it is not at hand."""
    told = "how unseen the families are to the recipe was not measured"
    if not model.is_dir():
        return None, f"{told}: {model} is no run folder, so that its recipe is not known."
    try:
        return recipe_of(Run(model)), ""
    except InputError as error:
        return None, f"{told}: {error}"


def _answers(
    model: Classifier, cells: Cells, conditions: Sequence[Condition], seed: int, rows: Rows, hashes: NDArray[np.uint64]
) -> tuple[list[Answers], list[NDArray[np.float32]]]:
    """What the model calls each picture under each condition, int64 (n,), and how sure it is, float32 (n,)."""
    answers = [np.zeros(len(cells), np.int64) for _ in conditions]
    confidences = [np.zeros(len(cells), np.float32) for _ in conditions]
    with Progress("stress test", len(cells) * len(conditions), "pictures") as progress:
        for condition, answer, confidence in zip(conditions, answers, confidences, strict=True):
            spoilt = replace(cells, images=condition.pictures(cells, seed, rows, hashes))
            for part, images in spoilt.batches(BATCH):
                probabilities = checked_predictions(model, images, cells.ids[part])
                answer[part], confidence[part] = probabilities.argmax(1), probabilities.max(1)
                progress.advance(len(images))
    return answers, confidences


def _table(lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(lines)


def _answer_table(conditions: Sequence[Condition], answers: Sequence[Answers], cells: Cells) -> pd.DataFrame:
    import pandas as pd

    names = pd.Index(cells.class_names)
    columns: dict[str, Any] = {"id": cells.ids.astype(object), "label": cells.labels}
    columns |= {condition.title: answer for condition, answer in zip(conditions, answers, strict=True)}
    return pd.DataFrame(
        {
            name: values if name == "id" else pd.Categorical(names[values], categories=names)
            for name, values in columns.items()
        }
    )
