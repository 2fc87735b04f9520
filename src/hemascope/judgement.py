"""Whether a model should be believed on some pictures: what its file knows of itself, held against what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data import Cells
from hemascope.runtime import Answers, Model
from hemascope.trust import coverage_table, reliability, risk_coverage
from hemascope.trust.appearance import appearance
from hemascope.trust.drift import CHANCE, LEAST_ROWS, compare, drift_sentences
from hemascope.trust.fingerprint import known_rows
from hemascope.trust.fitted import Trust
from hemascope.trust.outliers import unusually_many
from hemascope.trust.scale import SCALE, USUALLY_FAR, CellSizes
from hemascope.trust.slices import slice_sentences, slices
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

ANSWERED = 0.95
"""The share of pictures answered at which accuracy is told."""
LABELS_ASKED = 60
WORST = 8
MOST_WORDS = 6
SMALLEST_FAR = 0.05
"""A smaller share of cells of another size is not told."""


@dataclass(frozen=True)
class Judgement:
    """What is found. facts: for JSON. sentences: for people, what matters most first."""

    facts: dict[str, Any]
    sentences: tuple[str, ...]


def known(model: Model, cells: Cells) -> NDArray[np.bool_] | None:
    """Which of some cells made the model, by the fingerprints in its file: bool (n,); None when it has none."""
    if model.trust is None or model.trust.fingerprint is None:
        return None
    return known_rows(model.trust.fingerprint, cells.images).known


def judge_labelled(trust: Trust, answers: Answers, cells: Cells, groups: Sequence[Any] | NDArray[Any]) -> Judgement:
    """How far a model keeps on labelled cells what its file promises: its confidence, sets, rejections, weak slices.

    answers: of these cells. groups: (n,), equal for rows of one patient or one picture.
    """
    probabilities, labels = answers.probabilities.astype(np.float64), cells.labels
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    right = predicted == labels
    curve = risk_coverage(confidence, right)
    bins = reliability(probabilities, labels)
    facts: dict[str, Any] = {
        "rows": len(labels),
        "reliability": [
            {name: float(value) for name, value in zip(bins._fields, row, strict=True)}
            for row in zip(*bins, strict=True)
        ],
        "area_under_risk_coverage": curve.aurc,
        "accuracy_at_95_percent_answered": curve.accuracy_at(ANSWERED),
    }
    sentences = []
    if (rule := trust.usual_rule) is not None:
        answered = rule.answers(confidence)
        wrong = int((answered & ~right).sum())
        facts["rejection"] = {
            **rule.as_json(),
            "here": {"answered": float(answered.mean()), "error": wrong / max(int(answered.sum()), 1)},
        }
        sentences.append(
            f"answering only where it is sure enough for {rule.max_error:.0%} mistakes: {answered.mean():.1%} of "
            f"pictures answered, {wrong:,} of {int(answered.sum()):,} wrongly"
        )
    if (held := trust.sets_of(probabilities)) is not None and trust.sets is not None:
        table = coverage_table(held, labels)
        facts["sets"] = {
            "asked": trust.sets.coverage,
            "coverage": table.overall.coverage,
            "interval": [table.overall.low, table.overall.high],
            "mean_size": table.mean_size,
            "single": table.single,
            "per_class": {
                name: {"coverage": one.coverage, "interval": [one.low, one.high], "rows": one.rows}
                for name, one in zip(cells.class_names, table.per_class, strict=True)
                if one.rows
            },
        }
        met = table.overall.high >= trust.sets.coverage
        sentences.append(
            f"sets asked to hold the truth in {trust.sets.coverage:.0%}: they hold it in {table.overall.coverage:.1%} "
            f"({table.overall.low:.1%} to {table.overall.high:.1%}), {table.mean_size:.2f} classes each"
            + ("" if met else "; these pictures are not like those that set them, and nothing is promised for them")
        )
    facts |= _strange(trust, answers)
    numbers = appearance(cells.images)
    weak = slices(labels, predicted, cells.class_names, numbers, groups=groups)
    facts["slices"] = _lines(weak, ("slice", "rows", "accuracy", "low", "high", "worse"))
    sentences += [f"{'weak: ' if weak['worse'].any() else ''}{sentence}" for sentence in slice_sentences(weak, 3)]
    return Judgement(facts, tuple(sentences))


def judge_unlabelled(trust: Trust, answers: Answers, cells: Cells) -> Judgement:
    """What can be said of the accuracy on cells without looking at a label, and how they differ from training."""
    facts: dict[str, Any] = {"rows": len(cells)} | _strange(trust, answers)
    sentences = []
    if trust.estimate is not None:
        found = trust.estimate.estimate(answers.probabilities)
        facts["estimate"] = found._asdict()
        sentences.append(
            f"if these are degraded pictures from the laboratory that trained the model, about {found.accuracy:.0%} "
            f"are right ({found.low:.0%} to {found.high:.0%}); otherwise it is unknown: label {LABELS_ASKED} of them "
            f"(--spot-check {LABELS_ASKED})"
            + ("; they look worse than anything this was fitted on" if found.extrapolated else "")
        )
    drift, told = drifted(trust, answers, cells)
    return Judgement(facts | {"drift": drift}, (*sentences, *told))


def drifted(trust: Trust, answers: Answers, cells: Cells) -> tuple[list[dict[str, Any]], list[str]]:
    """How cells differ from those that trained the model: a line for each thing that drifted, and sentences."""
    sentences = []
    scale = _scale(trust, answers, cells)
    sentences += [line["sentence"] for line in scale]
    strange = _strange(trust, answers).get("strange")
    if strange is not None and trust.outliers is not None and unusually_many(strange, trust.outliers.kept, len(cells)):
        sentences.append(
            f"{strange:.1%} of these pictures are unlike the training pictures; of usual cells "
            f"{1 - trust.outliers.kept:.0%} are"
        )
    if trust.reference is None:
        return scale, sentences
    reference = trust.reference if trust.tells_classes else trust.reference.whatever_class()
    table = compare(reference, cells.images, answers.embedding, answers.probabilities.argmax(1))
    words = drift_sentences(table)
    if not table["drifted"].any():
        # Nothing, or that there are too few pictures to tell.
        sentences += words
    elif words:
        more = f"; and {many(len(words) - MOST_WORDS, 'thing')} more" if len(words) > MOST_WORDS else ""
        sentences.append("these pictures differ from those of training: " + "; ".join(words[:MOST_WORDS]) + more)
    return scale + _lines(table[table["drifted"]], ("name", "value", "expected", "effect", "p", "sentence")), sentences


def _scale(trust: Trust, answers: Answers, cells: Cells) -> list[dict[str, Any]]:
    """A line like those of drift where more cells than usual are of another size than training cells; else none."""
    from scipy.stats import binom

    if trust.reference is None or not trust.tells_classes or len(cells) < LEAST_ROWS:
        return []
    sizes, predicted = CellSizes.of(trust.reference), answers.probabilities.argmax(1)
    marked = sum(bool(reason) for rows, images in cells.batches() for reason in sizes.reasons(images, predicted[rows]))
    share, p = marked / len(cells), float(binom.sf(marked - 1, len(cells), USUALLY_FAR))
    if share < SMALLEST_FAR or p > CHANCE:
        return []
    told = (
        f"{share:.0%} of the cells are much larger or smaller than training cells of their class ({SCALE}), of usual "
        f"pictures {USUALLY_FAR:.0%}; look at how they were cut"
    )
    return [{"name": SCALE, "value": share, "expected": USUALLY_FAR, "effect": None, "p": p, "sentence": told}]


def _strange(trust: Trust, answers: Answers) -> dict[str, Any]:
    if trust.outliers is None:
        return {}
    return {
        "strange": float(trust.outliers.is_outlier(answers.outlier_score).mean()),
        "usual_kept": trust.outliers.kept,
    }


def _lines(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The first lines of a table, ready for JSON."""
    rows = table.loc[:, list(columns)].head(WORST).to_dict("records")
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value
