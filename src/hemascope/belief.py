"""Can the scores of a run be believed? What its own files prove, and what they leave open, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hemascope.runtime import ONE_ANSWER
from hemascope.trust.outliers import unusually_many
from hemascope.wording import capitalised, every, many

if TYPE_CHECKING:
    import pandas as pd

FEW_PICTURES = 30
FEW_GROUPS = 10
"""Patients or slides in the test below which its interval promises too much."""
WIDE_INTERVAL = 0.05
CHANCE = 0.05
"""How unlikely by chance a broken promise must be for it to be told as one."""
COSTLY_CORRUPTION = 0.10
"""A fall from the accuracy to the stress score from which on the accuracy alone misleads."""
MOSTLY_RIGHT = 0.9
"""From this share on, proved by a person's labels, a model's names are called good."""

Check = dict[str, str]


def reasons_to_believe(metrics: Mapping[str, Any], scored_on: str, split: pd.DataFrame | None) -> list[Check]:
    """What speaks for and against the scores under metrics[scored_on].

    split: the table id, label, split, group, pixel_hash, or None. Each check is a dict of kind ("good", "care" or
    "know"), title and text; those that ask for care stand first.
    """
    scores = metrics[scored_on]
    baseline = metrics.get("baseline") or constant_answer(scores)
    weights = str(metrics.get("weights") or "")
    found = [
        *_prepared(scores.get("preparation") or {}),
        *_unlike(scores.get("trust") or {}),
        *_one_side(split),
        *_enough(scores),
    ]
    if ONE_ANSWER in (weights, scores.get("weights")):
        # Held against itself, the baseline would always be found to be no better.
        text = "It names every picture alike, and is what any model has to beat."
        found.append(_check("know", "This is the baseline", text))
    else:
        found += [
            *_better_than_one_answer(scores, baseline),
            *_agreement(metrics, scored_on),
            *_corruption(metrics, scored_on, baseline),
            *_confidence(scores, baseline),
            *promises(scores),
            *_origin(weights),
        ]
    if not metrics.get("evaluated"):
        found += _elsewhere(metrics.get("files") or {})
    return _in_order(found)


def without_labels(facts: Mapping[str, Any]) -> list[Check]:
    """The same for pictures without labels. facts: what `hemascope.unlabelled` finds."""
    return _in_order(
        [
            *_spot_checked(facts),
            *_prepared(facts.get("preparation") or {}),
            *_unlike(facts),
            *_doubted(facts),
            *_trained_on(facts),
        ]
    )


def _in_order(found: Iterable[Check]) -> list[Check]:
    order = ("care", "good", "know")
    return sorted(found, key=lambda check: order.index(check["kind"]))


def constant_answer(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What naming every picture after the most frequent class of those scored would reach: class, accuracy."""
    classes = [row for row in scores.get("per_class") or () if row.get("support")]
    if not classes:
        return {}
    largest = max(classes, key=lambda row: int(row["support"]))
    return {"class": largest["class"], "accuracy": largest["support"] / sum(row["support"] for row in classes)}


def _check(kind: str, title: str, text: str) -> Check:
    return {"kind": kind, "title": title, "text": text}


def _prepared(done: Mapping[str, Any]) -> Iterator[Check]:
    """What was done to the pictures before they were named."""
    if done.get("field", 1) != 1 or done.get("colours") is not None:
        told = "; ".join(str(note) for note in done.get("notes") or ())
        yield _check(
            "care",
            "The pictures were changed before they were named",
            f"{capitalised(told)}. The set seemed less strange to the model so; with --crop whole --stain "
            "keep it is named as it is: where that scores higher, the change was a mistake.",
        )


def _unlike(trust: Mapping[str, Any]) -> Iterator[Check]:
    """Whether the pictures differ from those that trained the model."""
    if drift := [str(line["sentence"]) for line in trust.get("drift") or () if line.get("sentence")]:
        told = "; ".join(drift).removesuffix(".")
        yield _check(
            "care",
            "These pictures differ from those of training",
            f"{capitalised(told)}. What was proved on training's own kind need not hold here.",
        )
    strange, kept, rows = trust.get("strange"), trust.get("usual_kept"), trust.get("rows") or 0
    if strange is not None and kept is not None and unusually_many(strange, kept, rows):
        yield _check(
            "care",
            "Many are unlike any training picture",
            f"{strange:.1%} of these pictures, of usual cells {1 - kept:.0%}; the column `trust` of `hemascope "
            "predict` says which.",
        )


def _spot_checked(facts: Mapping[str, Any]) -> Iterator[Check]:
    """What is known of the accuracy: from a person's labels, or else next to nothing."""
    if found := facts.get("spot_check"):
        yield _check(
            "good" if found["low"] >= MOSTLY_RIGHT else "care",
            f"Between {found['low']:.1%} and {found['high']:.1%} of them are named rightly",
            f"{found['right']:,} of {many(found['labelled'], 'picture that was', 'pictures that were')} drawn at "
            "random (exact 95% interval).",
        )
        return
    told = "No picture has a label, so that nothing is proved; let --spot-check draw some for a person to label."
    if estimate := facts.get("estimate"):
        told = (
            f"If these are degraded pictures from the laboratory that trained the model, about "
            f"{estimate['accuracy']:.0%} are right ({estimate['low']:.0%} to {estimate['high']:.0%}); otherwise it is "
            "unknown. Let --spot-check draw some for a person to label."
        )
    yield _check("care", "How many are right is not known", told)


def _doubted(facts: Mapping[str, Any]) -> Iterator[Check]:
    rows, doubted = facts.get("rows") or 0, facts.get("doubted") or 0
    if doubted:
        text = f"{doubted:,} of {rows:,}; the column `trust` of `hemascope predict` says which, and why."
        yield _check("know", f"It doubts {doubted / rows:.1%} of its answers", text)


def _trained_on(facts: Mapping[str, Any]) -> Iterator[Check]:
    if made := facts.get("trained_on"):
        them = "it" if made == 1 else "them"
        text = f"The model may know {them} by heart, so that its confidence there says little."
        yield _check("care", f"{made:,} of these pictures trained the model", text)


def _one_side(split: pd.DataFrame | None) -> Iterator[Check]:
    """Whether a patient, a slide or a picture stands in two splits."""
    if split is None or split.empty:
        return
    if "group" not in split or split["group"].isna().all():
        yield _check(
            "care",
            "Patients are unknown",
            "The data name no patient or slide, so pictures of one patient may stand on both sides of the split: the "
            "scores say nothing about new patients. Where a column names them, give it with --group-by.",
        )
    else:
        total, crossing = _crossing(split, "group")
        if crossing:
            yield _check(
                "care",
                many(crossing, f"of {total:,} groups stands", f"of {total:,} groups stand") + " in two splits",
                "The model was tested on patients or slides that it was trained on, which flatters it.",
            )
        else:
            yield _check(
                "good",
                "No patient or slide stands in two splits",
                f"Checked for {every(total, 'group')} that the data name.",
            )
        tested = int(split.loc[split["split"] == "test", "group"].nunique())
        if 0 < tested < FEW_GROUPS:
            yield _check(
                "care",
                f"The test is {many(tested, 'patient or slide', 'patients or slides')}",
                "The interval of the accuracy takes pictures as independent, which those of one patient are not: the "
                "score of new patients may lie far outside it.",
            )
    if "pixel_hash" in split and split["pixel_hash"].notna().any():
        total, crossing = _crossing(split, "pixel_hash")
        if crossing:
            yield _check(
                "care",
                f"{many(crossing, 'picture stands', 'pictures stand')} in two splits",
                "The same pixels were trained on and tested on, which flatters the model.",
            )
        else:
            yield _check(
                "good",
                "No picture stands in two splits",
                f"Checked by a hash of the pixels of {every(total, 'picture')}.",
            )


def _crossing(split: pd.DataFrame, column: str) -> tuple[int, int]:
    """How many values a column has, and how many of them occur in more than one split."""
    used = split[split["split"] != "unused"]
    sides = used.dropna(subset=[column]).groupby(column)["split"].nunique()
    return len(sides), int((sides > 1).sum())


def _may_be_constant(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> bool:
    """Whether one answer for all may do as well. Pictures of one class alone, where nothing does better, do not say."""
    constant, interval = baseline.get("accuracy"), scores.get("accuracy_interval")
    return constant is not None and interval is not None and interval[0] <= constant < 1


def _better_than_one_answer(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> Iterator[Check]:
    if not _may_be_constant(scores, baseline):
        return
    constant = baseline["accuracy"]
    yield _check(
        "care",
        "It may be no better than one answer for all",
        f"One class for every picture reaches {constant:.4f}, within the interval of this model or above it.",
    )


def _enough(scores: Mapping[str, Any]) -> Iterator[Check]:
    """Whether there are pictures enough to say so, overall and in each class."""
    interval = scores.get("accuracy_interval")
    if interval:
        low, high = interval
        number = many(scores["n"], "picture pins", "pictures pin") if scores.get("n") else "These pictures pin"
        text = f"{number} the accuracy to within {100 * (high - low):.1f} points (95% interval)"
        if high - low > WIDE_INTERVAL:
            yield _check("care", "The test is small", f"{text}; more pictures would narrow it.")
        else:
            yield _check("good", "The test is large enough", f"{text}, over all classes.")
    few = [row for row in scores.get("per_class") or () if 0 < row["support"] < FEW_PICTURES]
    none = [row["class"] for row in scores.get("per_class") or () if not row["support"]]
    occurring = [row for row in scores.get("per_class") or () if row["support"]]
    if few:
        named = ", ".join(f"{row['class']} ({row['support']})" for row in few)
        yield _check(
            "care",
            f"{'All' if len(few) == len(occurring) else 'Some'} classes have few test pictures",
            f"{named}: a single picture moves their scores by points.",
        )
    if none:
        yield _check("care", "Some classes were not tested", f"No test picture shows {', '.join(none)}.")


def _agreement(metrics: Mapping[str, Any], scored_on: str) -> Iterator[Check]:
    """Whether the test bears out what validation promised."""
    validation = metrics.get("validation")
    if scored_on != "test":
        yield _check(
            "care",
            "There is no test score",
            "These pictures also chose when to stop training, so that their score is flattering.",
        )
    elif isinstance(validation, Mapping) and validation.get("accuracy") is not None:
        before, after = float(validation["accuracy"]), float(metrics["test"]["accuracy"])
        low = (validation.get("accuracy_interval") or [before, before])[0]
        numbers = f"Validation {before:.4f}, test {after:.4f}."
        if after < low:
            text = f"{numbers} Choosing by validation has flattered it; believe the test."
            yield _check("care", "The test falls behind validation", text)
        else:
            yield _check("good", "The test bears out validation", numbers)


def _corruption(metrics: Mapping[str, Any], scored_on: str, baseline: Mapping[str, Any]) -> Iterator[Check]:
    """What is left of the accuracy under simulated corruption."""
    scores, stress = metrics[scored_on], (metrics.get("stress") or {}).get(scored_on)
    if not stress or _may_be_constant(scores, baseline):
        return
    clean, under = float(scores["accuracy"]), float(stress["stress_score"])
    text = (
        f"Accuracy {clean:.4f} on the pictures as they are, stress score {under:.4f} under simulated corruption. It "
        "ranks models; it does not forecast your hidden test."
    )
    if clean - under > COSTLY_CORRUPTION:
        yield _check("care", f"Corruption costs it {100 * (clean - under):.0f} points", text)
    else:
        yield _check("good", "It holds under simulated corruption", text)


def _confidence(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> Iterator[Check]:
    if _may_be_constant(scores, baseline):
        # That a model knows how little it knows is nothing to praise it for.
        return
    error = (scores.get("calibration") or {}).get("expected_calibration_error")
    if error is not None:
        kind = "care" if error > 0.05 else "good"
        title = "Its confidence is not to be taken at its word" if kind == "care" else "Its confidence means something"
        text = f"Confidence and accuracy differ by {100 * error:.1f} points on average (expected calibration error)."
        yield _check(kind, title, text)


def promises(scores: Mapping[str, Any]) -> Iterator[Check]:
    """Whether the model keeps on these pictures what its calibration rows promised."""
    from scipy.stats import binom

    trust = scores.get("trust") or {}
    if rule := trust.get("rejection"):
        here, asked = rule["here"], rule["max_error"]
        text = (
            f"Where it is sure enough for {asked:.0%} mistakes it answers {here['answered']:.1%} of these pictures, "
            f"{here['error']:.2%} of them wrongly."
        )
        answered = round(here["answered"] * scores.get("n", 0))
        # More mistakes than were promised may be chance, where few are answered.
        kept = here["error"] <= asked or binom.sf(round(here["error"] * answered) - 1, answered, asked) >= CHANCE
        title = "It knows when not to answer" if kept else "It is wrong more often than promised where it is sure"
        yield _check("good" if kept else "care", title, text)
    if sets := trust.get("sets"):
        low, high = sets["interval"]
        text = (
            f"Sets of classes that should hold the truth in {sets['asked']:.0%} hold it in {sets['coverage']:.1%} "
            f"({low:.1%} to {high:.1%}), with {sets['mean_size']:.2f} classes each."
        )
        kept = high >= sets["asked"]
        yield _check("good" if kept else "care", "Its sets of classes " + ("hold" if kept else "fail here"), text)


def _origin(weights: str) -> Iterator[Check]:
    if weights in ("", "none", "unknown"):
        return
    if weights == "random":
        text = "The network learnt from these pictures alone; pretrained weights often score higher."
        yield _check("know", "Trained from random weights", text)
    else:
        text = f"Training began from {weights}, so that the score is not one of these pictures alone."
        yield _check("know", "Trained from pretrained weights", text)


def _elsewhere(files: Mapping[str, Any]) -> Iterator[Check]:
    leaked = {
        name: scores["left_out"]["count"]
        for name, scores in files.items()
        if isinstance(scores.get("left_out"), Mapping) and scores["left_out"].get("count")
    }
    if leaked:
        named = ", ".join(f"{number:,} of {name}" for name, number in leaked.items())
        yield _check(
            "know",
            "Known pictures were left out of the further files",
            f"{named} {'shows' if sum(leaked.values()) == 1 else 'show'} the same pixels as pictures that trained the "
            "model.",
        )
    if not files:
        yield _check(
            "know",
            "One source only",
            "No file from elsewhere was scored: another stain, camera or laboratory may lower every number here.",
        )
