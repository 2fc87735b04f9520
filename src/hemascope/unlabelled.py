"""A model on pictures without labels: what it calls them, what can be said of that, and the page that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.belief import without_labels
from hemascope.data import Cells, Pictures
from hemascope.files import write_json, write_text
from hemascope.judgement import judge_unlabelled, known
from hemascope.report import render
from hemascope.runtime import Model, answers_of
from hemascope.spotcheck import in_words
from hemascope.trust.fingerprint import known_sentence
from hemascope.trust.verdict import verdict_of
from hemascope.version import __version__

if TYPE_CHECKING:
    from hemascope.trust import SpotCheck

NO_TRUST = "the model's file does not say when to believe it; export its run again"


@dataclass(frozen=True)
class Unlabelled:
    """What is found.

    facts: for JSON. sentences: for people. predicted: str (n,), what each picture is called. guess: that of the
    sentences which says how many may be right; empty where none does.
    """

    facts: dict[str, Any]
    sentences: tuple[str, ...]
    predicted: NDArray[np.str_]
    guess: str = ""

    def with_spot_check(self, found: SpotCheck) -> Unlabelled:
        """The same, and in the place of a guess what a person's labels of some of the pictures prove."""
        sentences = (in_words(found), *(told for told in self.sentences if told != self.guess))
        return replace(self, facts=self.facts | {"spot_check": found._asdict()}, sentences=sentences)

    def write(self, folder: Path) -> Path:
        """Write metrics.json and report.html into a folder; returns the page."""
        facts = self.facts
        write_json(folder / "metrics.json", facts)
        counts = sorted(facts["predicted"].items(), key=lambda pair: -int(pair[1]))
        page = folder / "report.html"
        context = {
            "title": f"{facts['model']} on {facts['source'] or 'pictures'}",
            "version": __version__,
            "facts": facts,
            "counts": [(name, number, number / max(facts["rows"], 1)) for name, number in counts if number],
            "checks": without_labels(facts),
        }
        write_text(page, render("unlabelled.html.j2", context))
        return page


def look_at(
    model: Model,
    cells: Cells,
    name: str,
    *,
    shown: Pictures | None = None,
    preparation: Mapping[str, Any] | None = None,
) -> Unlabelled:
    """Let a model name cells, and say what can be said of it without a label.

    name: what the model is called. shown: the pictures of the same rows as the model is to see them, where they are
    prepared for it. preparation: how, for the record.
    """
    seen = cells if shown is None else replace(cells, images=shown)
    answers = answers_of(model, seen, "evaluating")
    predicted = np.array(model.class_names)[answers.probabilities.argmax(1)]
    facts: dict[str, Any] = {
        "model": name,
        "source": cells.source,
        "rows": len(cells),
        "predicted": {each: int((predicted == each).sum()) for each in model.class_names},
        "doubted": sum(map(bool, verdict_of(model).of_cells(answers, seen))),
        "unreadable": dict(cells.unreadable),
        "preparation": dict(preparation or {}),
    }
    if model.trust is None:
        return Unlabelled(facts, (NO_TRUST,), predicted)
    judged = judge_unlabelled(model.trust, answers, seen)
    sentences = list(judged.sentences)
    made = known(model, cells)
    if made is not None and made.any():
        facts["trained_on"] = int(made.sum())
        sentences.append(known_sentence(made))
    guess = judged.sentences[0] if model.trust.estimate is not None else ""
    return Unlabelled(facts | judged.facts, tuple(sentences), predicted, guess)
