"""How far the confidence of `small` can be trusted, and what was tried before it was made so.

What is chosen is fitted on the calibration rows of the challenge file and compared on its validation rows: how logits
become probabilities, by what confidence an answer is withheld, and how accuracy is estimated without labels. What is
reported is measured once on rows that chose nothing: the public test, clean and under the stress test's mixes, and for
the estimate test rows under families of corruption that neither the model nor the estimate has seen. Data are sought in
../shared beside the checkout. Takes three minutes on one free core; what the network said stands in
runs/trust-calibration and is not computed again. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from challenge import SHARED
from hemascope import metrics
from hemascope.errors import InputError
from hemascope.models import model_folder
from hemascope.run import Run, recipe_of
from hemascope.trust import (
    Calibration,
    MeasuredBatch,
    coverage_table,
    fit_calibration,
    fit_estimate,
    fit_sets,
    measured_batch,
    prediction_sets,
    reject_rule,
    risk_coverage,
)
from hemascope.trust.degradations import MIXES
from trust_answers import HALVES, MODEL, Batch, by_title, shown_parts, shown_under

COVERAGE = 0.99
ERRORS = (0.005, 0.01, 0.02)
ANSWERED = (0.8, 0.9, 0.95, 1.0)
LOW = 0.93
"""The accuracy under which a batch is one that a user should be warned of."""

Figures = dict[str, Any]
Floats = NDArray[np.float64]


def training_facts() -> tuple[NDArray[np.int64], float, Floats]:
    """Rows of each class that trained the model, the label smoothing, and the class weights of its loss."""
    run = Run(model_folder(MODEL))
    described = json.loads((run.model / "model.json").read_text(encoding="utf-8"))
    split = pd.read_csv(run.split, keep_default_na=False)
    counted = split.loc[split["split"] == "train", "label"].value_counts()
    counts = counted.reindex(described["class_names"]).to_numpy().astype(np.int64)
    weights: Floats = counts.sum() / counts / len(counts)
    return counts, recipe_of(run).label_smoothing, weights


def together(batches: Mapping[str, Batch], titles: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits and labels of several batches as one."""
    chosen = [batches[title] for title in titles]
    return np.concatenate([each.logits for each in chosen]), np.concatenate([each.labels for each in chosen])


def calibrated(batches: Sequence[Batch]) -> Calibration:
    """The calibration that is chosen: weights and smoothing out, one temperature, clean and mildly corrupted rows."""
    counts, smoothing, weights = training_facts()
    logits, labels = together(by_title(batches), ("clean", "mild"))
    return fit_calibration(logits, labels, counts, smoothing=smoothing, class_weights=weights)


def quality(probabilities: Floats, labels: NDArray[np.int64]) -> Figures:
    return {
        "accuracy": metrics.accuracy(probabilities, labels),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "adaptive_calibration_error": metrics.adaptive_calibration_error(probabilities, labels),
        "negative_log_likelihood": metrics.negative_log_likelihood(probabilities, labels),
    }


def compare_calibrations(calibration: Sequence[Batch], validation: Sequence[Batch]) -> list[Figures]:
    """Ways from logits to probabilities, fitted on calibration rows, on validation rows clean and in the mixes."""
    counts, smoothing, weights = training_facts()
    fitted_on = by_title(calibration)
    ways: dict[str, Callable[[NDArray[np.float32]], Floats]] = {"softmax": lambda logits: softmax(logits, axis=1)}
    for titles in (("clean",), ("clean", "mild"), ("clean", *MIXES)):
        logits, labels = together(fitted_on, titles)
        for name, given in (
            ("temperature", {}),
            ("weights out, temperature", {"class_weights": weights}),
            ("smoothing out, temperature", {"smoothing": smoothing}),
            ("weights and smoothing out, temperature", {"smoothing": smoothing, "class_weights": weights}),
        ):
            fitted = fit_calibration(logits, labels, counts, **given)
            ways[f"{name}; fitted on {', '.join(titles)}"] = fitted.probabilities
        name = "weights and smoothing out, temperature by energy"
        ways[f"{name}; fitted on {', '.join(titles)}"] = _by_energy(fitted, logits, labels)
    found = []
    for name, way in ways.items():
        line: Figures = {"way": name}
        for title in ("clean", *MIXES):
            batch = by_title(validation)[title]
            line[title] = quality(way(batch.logits), batch.labels)
        found.append(line)
    return found


def _by_energy(
    fitted: Calibration, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> Callable[[NDArray[np.float32]], Floats]:
    """A temperature whose logarithm is a line of the logits' log-sum-exp."""
    energy = logsumexp(logits, axis=1)
    middle, spread = energy.mean(), energy.std()

    def scaled(given: NDArray[np.float32], line: Floats) -> Floats:
        away = np.clip((logsumexp(given, axis=1) - middle) / spread, -4, 4)
        return np.asarray(np.log(fitted.probabilities(given)) * np.exp(line[0] + line[1] * away)[:, None])

    def loss(line: Floats) -> float:
        return -float(log_softmax(scaled(logits, line), axis=1)[np.arange(len(labels)), labels].mean())

    line = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return lambda given: np.asarray(softmax(scaled(given, line), axis=1))


def compare_confidences(calibration: Sequence[Batch], validation: Sequence[Batch]) -> list[Figures]:
    """What to order answers by: the area under the risk-coverage curve, on calibration and validation rows."""
    fitted = calibrated(calibration)
    clean = by_title(calibration)["clean"]
    means = np.stack([clean.embedding[clean.labels == k].mean(0) for k in range(clean.logits.shape[1])])
    inverse = LedoitWolf(assume_centered=True).fit(clean.embedding - means[clean.labels]).precision_

    def described(batch: Batch) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
        probabilities = fitted.probabilities(batch.logits)
        highest = np.sort(probabilities, axis=1)[:, ::-1]
        away = batch.embedding[:, None] - means
        distance = np.einsum("nki,ij,nkj->nk", away, inverse, away).min(1)
        ways = {
            "probability": highest[:, 0],
            "margin": highest[:, 0] - highest[:, 1],
            "negative entropy": (probabilities * np.log(probabilities)).sum(1),
            "energy": logsumexp(batch.logits, axis=1),
            "uncalibrated probability": softmax(batch.logits, axis=1).max(1),
            "nearness to a class mean": -distance,
        }
        return ways, probabilities.argmax(1) == batch.labels

    combined = ("probability", "energy", "nearness to a class mean")

    def columns(ways: Mapping[str, Floats]) -> Floats:
        log_odds = np.log(ways["probability"] / np.maximum(1 - ways["probability"], 1e-9))
        return np.stack([log_odds, *(ways[name] for name in combined[1:])], axis=1)

    learnt = [described(by_title(calibration)[title]) for title in ("clean", "mild", "hidden")]
    rows = np.concatenate([columns(ways) for ways, _ in learnt])
    middle, spread = rows.mean(0), rows.std(0)
    together = LogisticRegression().fit((rows - middle) / spread, np.concatenate([right for _, right in learnt]))
    found: dict[str, Figures] = {}
    for part, batches in (("calibration", calibration), ("validation", validation)):
        for title in ("clean", "mild", "hidden"):
            ways, right = described(by_title(batches)[title])
            ways["all three together"] = together.decision_function((columns(ways) - middle) / spread)
            for name, confidence in ways.items():
                curve = risk_coverage(confidence, right)
                line = found.setdefault(name, {"confidence": name})
                line[f"{part} {title}"] = {"excess_aurc": curve.excess_aurc, "accuracy_at_95": curve.accuracy_at(0.95)}
    return list(found.values())


def measured(batch: Batch, fitted: Calibration, families: Mapping[str, frozenset[str]]) -> MeasuredBatch:
    return measured_batch(fitted.probabilities(batch.logits), batch.labels, families[batch.title])


def families_of(part: str) -> dict[str, frozenset[str]]:
    return {degradation.title: degradation.families for degradation, _ in shown_under(part)}


def compare_estimates(calibration: Sequence[Batch], validation: Sequence[Batch]) -> list[Figures]:
    """Accuracies estimated from calibration rows under half of the families, on validation rows under the others."""
    fitted = calibrated(calibration)
    families = families_of("calibration")
    clean = by_title(calibration)["clean"]
    known = measured(clean, fitted, families)
    threshold = float(np.quantile(fitted.probabilities(clean.logits).max(1), 1 - known.accuracy))
    truths: list[float] = []
    told: dict[str, list[float]] = {}
    for half in HALVES:
        own = [each for each in calibration if families[each.title] <= set(half)]
        others = [each for each in validation if families[each.title] and not families[each.title] & set(half)]
        batches = [measured(each, fitted, families) for each in own]
        line = fit_estimate(batches)
        steps = IsotonicRegression(out_of_bounds="clip").fit(
            [each.confidence for each in batches],
            [each.accuracy for each in batches],
            [each.rows for each in batches],
        )
        for batch in others:
            probabilities = fitted.probabilities(batch.logits)
            confidence = probabilities.max(1)
            mean = float(confidence.mean())
            truths.append(float((probabilities.argmax(1) == batch.labels).mean()))
            for name, value in (
                ("the accuracy of clean pictures", known.accuracy),
                ("mean confidence", mean),
                ("average thresholded confidence", float((confidence > threshold).mean())),
                ("difference of confidences", known.accuracy - known.confidence + mean),
                ("isotonic regression of mean confidence", float(steps.predict([mean])[0])),
                ("line of mean confidence", line.estimate(probabilities).accuracy),
            ):
                told.setdefault(name, []).append(value)
    return [{"way": name, **_errors(np.array(values), np.array(truths))} for name, values in told.items()]


def _errors(estimates: Floats, truths: Floats) -> Figures:
    low, off = truths < LOW, np.abs(estimates - truths)
    return {
        "batches": len(truths),
        "low_batches": int(low.sum()),
        "mean_absolute_error": float(off.mean()),
        "mean_absolute_error_of_low": float(off[low].mean()) if low.any() else None,
    }


def reported(shown_under_all: Mapping[str, Sequence[Batch]]) -> Figures:
    """What is chosen, fitted on calibration rows, on rows that chose nothing."""
    calibration, public = by_title(shown_under_all["calibration"]), by_title(shown_under_all["public"])
    fitted = calibrated(shown_under_all["calibration"])
    clean = calibration["clean"]
    probabilities = fitted.probabilities(clean.logits)
    sets = fit_sets(probabilities, clean.labels, COVERAGE)
    figures: Figures = {"calibration": fitted.as_json(), "sets": sets.as_json(), "public": {}, "rules": []}
    for title, batch in public.items():
        now = fitted.probabilities(batch.logits)
        table = coverage_table(prediction_sets(now, sets), batch.labels)
        curve = risk_coverage(now.max(1), now.argmax(1) == batch.labels)
        figures["public"][title] = {
            "before": quality(softmax(batch.logits.astype(np.float64), axis=1), batch.labels),
            "after": quality(now, batch.labels),
            "sets": {
                "coverage": table.overall._asdict(),
                "per_class": [each._asdict() for each in table.per_class],
                "mean_size": table.mean_size,
                "single": table.single,
            },
            "aurc": curve.aurc,
            "excess_aurc": curve.excess_aurc,
            "accuracy_at": {str(share): curve.accuracy_at(share) for share in ANSWERED},
        }
    right = probabilities.argmax(1) == clean.labels
    now = fitted.probabilities(public["clean"].logits)
    for error in ERRORS:
        try:
            rule = reject_rule(probabilities.max(1), right, error)
        except InputError as refused:
            figures["rules"].append({"max_error": error, "refused": str(refused)})
            continue
        kept = rule.answers(now.max(1))
        wrong = now[kept].argmax(1) != public["clean"].labels[kept]
        figures["rules"].append({**rule.as_json(), "public_coverage": kept.mean(), "public_error": wrong.mean()})
    return figures | {"estimate": reported_estimate(shown_under_all, fitted)}


def reported_estimate(shown_under_all: Mapping[str, Sequence[Batch]], fitted: Calibration) -> Figures:
    """The estimate, fitted on calibration rows, on test rows under families that nothing was fitted on."""
    families = families_of("calibration")
    batches = [measured(each, fitted, families) for each in shown_under_all["calibration"]]
    line = fit_estimate(batches)
    said = batches[0].accuracy
    figures: Figures = {"line": line.as_json(), "clean_accuracy": said}
    unseen = [each for each in shown_under_all["test"] if each.title != "clean"]
    groups = {
        "test, held-out families": unseen,
        "test, one family each": [each for each in unseen if len(families_of("test")[each.title]) == 1],
        "public test, mixes": [each for each in shown_under_all["public"] if each.title != "clean"],
    }
    for group, chosen in groups.items():
        answers = [fitted.probabilities(each.logits) for each in chosen]
        truths = [metrics.accuracy(each, batch.labels) for each, batch in zip(answers, chosen, strict=True)]
        told = [line.estimate(each) for each in answers]
        held = [each.low <= truth <= each.high for each, truth in zip(told, truths, strict=True)]
        figures[group] = {
            **_errors(np.array([each.accuracy for each in told]), np.array(truths)),
            "in_interval": float(np.mean(held)),
            "mean_width": float(np.mean([each.high - each.low for each in told])),
            "saying_clean": _errors(np.full(len(truths), said), np.array(truths)),
            "batches_told": [
                {"title": batch.title, "accuracy": truth, "estimate": each.accuracy, "low": each.low, "high": each.high}
                for batch, truth, each in zip(chosen, truths, told, strict=True)
            ],
        }
    return figures


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    answers = shown_parts()
    calibration, validation = answers["calibration"], answers["validation"]
    figures: Figures = {
        "calibrations": compare_calibrations(calibration, validation),
        "confidences": compare_confidences(calibration, validation),
        "estimates": compare_estimates(calibration, validation),
        "reported": reported(answers),
    }
    print("Probabilities, on validation rows: expected calibration error and negative log likelihood")
    for line in figures["calibrations"]:
        told = [
            f"{title} {line[title]['expected_calibration_error']:.4f} {line[title]['negative_log_likelihood']:.4f}"
            for title in ("clean", *MIXES)
        ]
        print(f"  {line['way']}: {', '.join(told)}")
    print("Confidence: excess area under the risk-coverage curve, in thousandths")
    for line in figures["confidences"]:
        told = [f"{key} {1000 * value['excess_aurc']:.2f}" for key, value in line.items() if key != "confidence"]
        print(f"  {line['confidence']}: {', '.join(told)}")
    print(f"Accuracy without labels, on validation rows: mean absolute error, and that of batches under {LOW}")
    for line in figures["estimates"]:
        print(f"  {line['way']}: {line['mean_absolute_error']:.4f}, {line['mean_absolute_error_of_low']:.4f}")
    _say_reported(figures["reported"])
    print(json.dumps(figures, default=float))
    return 0


def _say_reported(figures: Figures) -> None:
    print("Public test: accuracy; calibration error before and after; sets: coverage, size; accuracy at 95% answered")
    for title, one in figures["public"].items():
        before, after = (one[key]["expected_calibration_error"] for key in ("before", "after"))
        covered = one["sets"]["coverage"]["coverage"]
        print(
            f"  {title}: {one['after']['accuracy']:.4f}; {before:.4f}, {after:.4f}; {covered:.4f}, "
            f"{one['sets']['mean_size']:.3f}; {one['accuracy_at']['0.95']:.4f}"
        )
    for rule in figures["rules"]:
        if "refused" in rule:
            print(f"Error of {rule['max_error']:g}: {rule['refused']}")
        else:
            print(
                f"Error of {rule['max_error']:g}: answers {rule['coverage']:.4f} of the calibration rows and "
                f"{rule['public_coverage']:.4f} of the public test, there with an error of {rule['public_error']:.4f}"
            )
    for group, one in figures["estimate"].items():
        if isinstance(one, dict) and "in_interval" in one:
            off, clean_off = (each["mean_absolute_error_of_low"] or 0.0 for each in (one, one["saying_clean"]))
            print(
                f"Estimate, {group}: {one['batches']} batches, off by {one['mean_absolute_error']:.4f}; "
                f"{one['low_batches']} of them under {LOW}, off by {off:.4f}, where saying the clean accuracy is off "
                f"by {clean_off:.4f}; {one['in_interval']:.3f} of all in their intervals"
            )


if __name__ == "__main__":
    sys.exit(main())
