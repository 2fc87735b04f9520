"""What a model's answers under corruption come to: scores, tables, and the mistakes worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope import metrics
from hemascope.corrupt import COMPOSITES, FAMILIES, HELD_OUT, MEDMNIST_C, SEVERITIES, chain, compose, corrupt, weights
from hemascope.corrupt.cache import cached
from hemascope.data import Cells, Images, Pictures
from hemascope.data.cells import Rows
from hemascope.evaluate import CONFIDENCE, DRAWS, Scores
from hemascope.robustness import chain_interval, relative_errors
from hemascope.wording import many

SCORED_MIXES = ("mild", "hidden", "extreme")
"""What the stress score is the mean of, with the weights of `hemascope.corrupt.weights`."""
CLEAN = "clean"
GROUPS = ("medmnist-c", "held-out", "mixes")
MISTAKES = 12
FEW_PICTURES = 100
"""With fewer pictures than this, the interval of the stress score is too wide to judge by."""

Answers = NDArray[np.int64]


@dataclass(frozen=True)
class Condition:
    """One way in which all pictures are spoilt: group is CLEAN or one of GROUPS; severity is 0 where there is none."""

    group: str
    name: str
    severity: int = 0

    @property
    def title(self) -> str:
        return f"{self.name} {self.severity}" if self.severity else self.name

    def applied(self, images: Images, seed: int, rows: Rows) -> Images:
        """The pictures under this condition: uint8, the same shape."""
        if self.group == CLEAN:
            return images
        if self.group == "mixes":
            return compose(images, self.name, seed=seed, rows=rows)
        return corrupt(images, self.name, self.severity, seed=seed, rows=rows)

    def pictures(self, cells: Cells, seed: int, rows: Rows, hashes: NDArray[np.uint64]) -> Pictures:
        """All pictures of the cells under this condition, kept on disk for the next model."""
        if self.group == CLEAN:
            return cells.images
        return cached(cells, self.name, self.severity or None, seed=seed, rows=rows, hashes=hashes)


@dataclass(frozen=True)
class Mistake:
    """A picture named rightly when clean and wrongly when spoilt: its place, the answer and the confidence in it."""

    condition: Condition
    place: int
    answer: int
    confidence: float


def conditions_of(what: Sequence[str]) -> Iterator[Condition]:
    """Every corruption at every severity, and every mix, of the groups named."""
    for group, families in (("medmnist-c", MEDMNIST_C), ("held-out", HELD_OUT)):
        if group in what:
            yield from (Condition(group, name, severity) for name in families for severity in SEVERITIES)
    if "mixes" in what:
        yield from (Condition("mixes", name) for name in COMPOSITES)


def line_of(condition: Condition, cells: Cells, answers: Answers) -> dict[str, Any]:
    """A line of the table of conditions, from what each of the cells was called: int64 (n,)."""
    classes = len(cells.class_names)
    counts = np.bincount(cells.labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    recall = metrics.per_class(counts).recall
    return {
        "group": condition.group,
        "corruption": condition.name,
        "severity": condition.severity,
        "n": len(cells),
        "accuracy": float((answers == cells.labels).mean()),
        "balanced_error": 1.0 - float(metrics.macro_mean(recall)),
        **{f"recall_{name}": float(value) for name, value in zip(cells.class_names, recall, strict=True)},
    }


def group_scores(group: str, lines: Sequence[Mapping[str, Any]]) -> Scores:
    """Each family of a group, their mean and the worst, as means of the five severities.

    lines: of `line_of`, the clean one first. A loss is what the balanced error rises by over the clean one. BE and rBE
    (see `hemascope.robustness`) are given where AlexNet's errors are published.
    """
    clean = lines[0]["balanced_error"]
    own: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["group"] == group:
            own.setdefault(line["corruption"], []).append(line)
    errors = {name: [line["balanced_error"] for line in severities] for name, severities in own.items()}
    relative = relative_errors(errors, clean)
    families: list[Scores] = []
    for name, severities in own.items():
        error = float(np.mean(errors[name]))
        entry: Scores = {
            "family": name,
            "sentence": FAMILIES[name].sentence,
            "accuracy": float(np.mean([line["accuracy"] for line in severities])),
            "balanced_error": error,
            "loss": error - clean,
            "by_severity": errors[name],
        }
        if name in relative:
            entry |= relative[name]._asdict()
        families.append(entry)
    worst = max(families, key=lambda entry: float(entry["balanced_error"]))
    means = ("accuracy", "balanced_error", "loss", *(("be", "rbe") if relative else ()))
    return {
        **{name: float(np.mean([entry[name] for entry in families])) for name in means},
        "worst": worst["family"],
        "worst_balanced_error": worst["balanced_error"],
        "families": families,
    }


def mix_scores(
    answers: Mapping[str, Answers],
    confidences: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    seed: int,
    rows: Rows,
    groups: NDArray[Any],
) -> Scores:
    """The accuracy on each mix and the stress score, each with the interval of `chain_interval`; and how far confidence
    keeps up with accuracy on each mix.

    answers: mix -> int64 (n,), those of SCORED_MIXES at least. confidences: mix -> float32 (n,), how sure each answer
    was. groups: (n,), equal for rows resampled together.
    """
    correct = {name: answer == labels for name, answer in answers.items()}
    chains = {name: chain(name, seed, rows).names for name in correct}
    counting = {name: weights(name, seed, rows) for name in SCORED_MIXES}

    def interval(names: Sequence[str], weighed: bool = False) -> list[float] | None:
        values, families = np.stack([correct[name] for name in names]), np.stack([chains[name] for name in names])
        given = np.stack([counting[name] for name in names]) if weighed else None
        low, high = chain_interval(values, families, groups, given, draws=DRAWS, confidence=CONFIDENCE)
        return [float(low), float(high)] if low < high else None

    mixes = {
        name: {"accuracy": float(right.mean()), "accuracy_interval": interval([name])}
        | reliability_of(confidences[name], right)
        for name, right in correct.items()
    }
    return {
        "mixes": mixes,
        "stress_score": float(np.mean([np.average(correct[name], weights=counting[name]) for name in SCORED_MIXES])),
        "stress_score_interval": interval(SCORED_MIXES, weighed=True),
        "intervals": {
            "confidence": CONFIDENCE,
            "bootstrap_draws": DRAWS,
            "bootstrap_groups": len(np.unique(groups)),
            "bootstrap_families": len(np.unique([chains[name] for name in SCORED_MIXES])),
        },
    }


def reliability_of(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> Scores:
    """The expected calibration error of answers, and the bins that it is made of, those without pictures left out.

    confidence: float (n,) in [0, 1]. right: bool (n,). As `hemascope.metrics.expected_calibration_error`, which takes
    the probabilities of all classes.
    """
    found = metrics.confidence_bins(confidence, right)
    columns = zip(found.confidence.tolist(), found.accuracy.tolist(), found.rows.tolist(), strict=True)
    return {
        "expected_calibration_error": found.error,
        "reliability": [dict(zip(("confidence", "accuracy", "rows"), values, strict=True)) for values in columns],
    }


def surest_mistakes(
    conditions: Sequence[Condition],
    answers: Sequence[Answers],
    confidences: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    most: int = MISTAKES,
) -> list[Mistake]:
    """What corruption alone broke, the surest mistake first: at most `most`, no picture twice.

    conditions: the clean one first; answers and confidences: (n,) for each. The surest of each family come before a
    second one of the same, so that one family does not fill the page. Mixes are left out: what broke a picture in them
    cannot be told.
    """
    found = []
    for condition, answer, confidence in zip(conditions[1:], answers[1:], confidences[1:], strict=True):
        if condition.group != "mixes":
            broken = np.flatnonzero((answers[0] == labels) & (answer != labels))
            surest = broken[np.argsort(-confidence[broken], kind="stable")[:most]]
            found += [Mistake(condition, int(at), int(answer[at]), float(confidence[at])) for at in surest]
    found.sort(key=lambda mistake: -mistake.confidence)
    chosen: list[Mistake] = []
    for limit in (1, most):
        for mistake in found:
            of_family = sum(other.condition.name == mistake.condition.name for other in chosen)
            if len(chosen) < most and of_family < limit and all(mistake.place != other.place for other in chosen):
                chosen.append(mistake)
    return sorted(chosen, key=lambda mistake: -mistake.confidence)


def summary(scores: Mapping[str, Any]) -> str:
    """The scores of `stress` in a few aligned lines, for a terminal."""
    clean = scores["clean"]
    lines = [("clean", f"accuracy {clean['accuracy']:.4f}, balanced error {clean['balanced_error']:.4f}")]
    for key, title in (("medmnist_c", "MedMNIST-C"), ("held_out", "held-out families")):
        if group := scores.get(key):
            told = f"accuracy {group['accuracy']:.4f}, balanced error {group['balanced_error']:.4f}"
            relative = f", BE {group['be']:z.3f} and rBE {group['rbe']:z.3f} of AlexNet's" if "be" in group else ""
            lines.append((title, told + relative))
            lines.append(("  worst family", f"{group['worst']}, balanced error {group['worst_balanced_error']:.4f}"))
    for name, mix in scores.get("mixes", {}).items():
        lines.append((f"mix {name}", f"accuracy {mix['accuracy']:.4f}{_between(mix['accuracy_interval'])}"))
    if "stress_score" in scores:
        lines.append(("stress score", f"{scores['stress_score']:.4f}{_between(scores['stress_score_interval'])}"))
        lines.append(("", "it ranks models; it does not forecast your hidden test"))
        if scores["n"] < FEW_PICTURES and scores["stress_score_interval"]:
            stressed = many(scores["n"], "picture was stressed", "pictures were stressed")
            lines.append(("", f"only {stressed}: the interval is too wide to judge by"))
    width = max(len(title) for title, _ in lines) + 3
    return "\n".join(f"{title:<{width}}{text}" for title, text in lines)


def _between(interval: Sequence[float] | None) -> str:
    return f"   {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
