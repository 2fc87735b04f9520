"""How well the outlier score of `small` tells what is no cell from cells, how it was chosen, and what it gets wrong.

Families of pictures that are none of the eight cells are divided by a fixed rule (`outlier_families.halves`). One half,
against the validation cells, chooses among the scores of `outlier_candidates`. Several are as good there as can be told
(AUROC_EQUAL), so of those the ones are taken that call fewest corrupted validation cells outliers (ALARMS_EQUAL), and
of these the one that best tells the network's wrong answers on validation cells. ALARMS_EQUAL and the last step were
added when the first two alone left the choice to differences smaller than chance; the other half had not been scored
then. That half, against the public test's cells less those that made the model, is what is reported, for the score that
the package has.
The threshold keeps 95% of the clean calibration cells. No network is trained; a minute or two on one CPU core. Data
are sought in ../shared beside the checkout; four of the 23 families are pictures that come with scikit-image:
pip install 'hemascope[bench]'. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import outlier_families
from challenge import SHARED, make_challenge
from hemascope.audit.copies import find_copies
from hemascope.corrupt import COMPOSITES, MEDMNIST_C
from hemascope.corrupt.cache import cached
from hemascope.data import Cells, Images, load, pixel_hashes
from hemascope.ensemble import load_network
from hemascope.evaluate import seen_rows
from hemascope.models import model_folder
from hemascope.run import Run
from hemascope.runtime import training_hashes
from hemascope.stress import seed_for
from hemascope.trust.outliers import OutlierScore, OutlierThreshold
from outlier_candidates import CANDIDATES, OWN, Floats, Score

Figures = dict[str, Any]

CHALLENGE = Path(__file__).resolve().parents[1] / "runs" / "challenge"
MODEL = "small"
PICTURES = 150
"""Of each family of outliers."""
CHOOSING_ROWS, REPORTED_ROWS = 120, 200
"""How many cells are corrupted, evenly from the validation rows and from the public test."""
SHOWN_SEVERITIES = (1, 3, 5)
AUROC_EQUAL = 0.001
"""Two mean AUROCs nearer than this are taken as equal: what another draw of the pictures may change."""
ALARMS_EQUAL = 0.01
"""The same for shares of false alarms: a threshold set by 959 cells lets through 0.7 points more or less by chance."""
GOAL = 0.97
BATCH = 64


class Seen(NamedTuple):
    """What the network gives for some pictures: float32 (n, d), float32 (n, classes), and the labels int64 (n,)."""

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        return np.asarray(self.logits.argmax(axis=1) != self.labels)

    def take(self, rows: NDArray[Any]) -> Seen:
        return Seen(self.embeddings[rows], self.logits[rows], self.labels[rows])

    def without(self, label: int) -> Seen:
        """The cells of the other classes, and no logit of this one."""
        rest = self.take(self.labels != label)
        return rest._replace(logits=np.delete(rest.logits, label, axis=1))

    def scored(self, score: Score) -> Floats:
        return np.asarray(score(self.embeddings, self.logits))


class Look:
    """The network of the model, asked for embeddings and logits in one pass."""

    def __init__(self) -> None:
        self.network, self.class_names, _ = load_network(Run(model_folder(MODEL)))

    def at(self, images: Images, labels: NDArray[np.int64] | None = None) -> Seen:
        embeddings, logits = [], []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                pictures = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2)
                embeddings.append(self.network.embedding(pictures))  # type: ignore[operator]
                logits.append(self.network.head(embeddings[-1]))  # type: ignore[operator]
        unknown = np.full(len(images), -1, np.int64)
        return Seen(torch.cat(embeddings).numpy(), torch.cat(logits).numpy(), unknown if labels is None else labels)

    def at_cells(self, cells: Cells) -> Seen:
        cells = cells.with_classes(self.class_names)
        return self.at(np.asarray(cells.images[:]), cells.labels)

    def at_corrupted(self, cells: Cells, part: str, rows: int) -> dict[tuple[str, int | None], Seen]:
        """Some of the cells under each family of MedMNIST-C at three severities and under each mix."""
        places = np.linspace(0, len(cells) - 1, rows).astype(np.int64)
        cells = cells.with_classes(self.class_names).take(places)
        cells = replace(cells, images=np.asarray(cells.images[:]))
        hashes, seed = pixel_hashes(cells), seed_for(part)
        conditions = [(name, severity) for name in MEDMNIST_C for severity in SHOWN_SEVERITIES]
        return {
            (name, severity): self.at(
                cached(cells, name, severity, seed=seed, rows=places, hashes=hashes), cells.labels
            )
            for name, severity in [*conditions, *((name, None) for name in COMPOSITES)]
        }


def measure(challenge: Path) -> Figures:
    """Choose and report, with training_set.npz and public_test.npz from a folder."""
    look = Look()
    cells = load(challenge / "training_set.npz")
    parts = _parts(cells)
    _say(f"looking at {len(cells.take(parts['train'])):,} training cells")
    train = look.at_cells(cells.take(parts["train"]))
    validation, calibration = (look.at_cells(cells.take(parts[part])) for part in ("validation", "calibration"))
    public_cells = load(challenge / "public_test.npz")
    public_cells = public_cells.take(
        ~seen_rows(pixel_hashes(public_cells), training_hashes(MODEL), public_cells.source)
    )
    public = look.at_cells(public_cells)

    families = outlier_families.families(_sources(cells, parts["test"]))
    if not outlier_families.has_scikit_image():
        _say(outlier_families.NO_SCIKIT_IMAGE)
    to_choose, to_report = outlier_families.halves(families)
    figures: Figures = {"model": MODEL, "choose_by": to_choose, "report_on": to_report}

    _say(
        f"\nchoosing on {', '.join(to_choose)}, {PICTURES} pictures each, and {len(validation.labels)} validation cells"
    )
    strangers = {name: look.at(families[name](PICTURES, seed_for("validation") % 2**32)) for name in to_choose}
    corrupted = look.at_corrupted(cells.take(parts["validation"]), "validation", CHOOSING_ROWS)
    figures |= choose(train, calibration, validation, strangers, corrupted)

    fitted = OutlierScore.fit(train.embeddings, train.logits, train.labels)
    threshold = OutlierThreshold.fit(calibration.scored(fitted.score))
    figures["bytes"] = sum(array.nbytes for array in fitted.arrays().values())
    figures["threshold"] = threshold.as_json()
    _say(
        f"\nreporting on {', '.join(to_report)}, {PICTURES} pictures each, and {len(public.labels):,} public test cells"
    )
    strangers = {name: look.at(families[name](PICTURES, seed_for("test") % 2**32)) for name in to_report}
    figures["reported"] = report(fitted.score, threshold, public, strangers, look.class_names)
    figures["without_a_class"] = leave_classes_out(train, calibration, public, look.class_names)
    corrupted = look.at_corrupted(public_cells, "test", REPORTED_ROWS)
    figures["corrupted"] = false_alarms(fitted.score, threshold, corrupted)

    missed = [f"{name}: AUROC {figures['reported'][name]:.4f}, wanted {GOAL}" for name in ("auroc", "pooled_auroc")]
    figures["missed"] = [
        sentence
        for sentence, name in zip(missed, ("auroc", "pooled_auroc"), strict=True)
        if figures["reported"][name] < GOAL
    ]
    if figures["chosen"] != OWN:
        figures["missed"].append(f"the rule chooses {figures['chosen']}, the package has {OWN}")
    return figures


def choose(
    train: Seen,
    calibration: Seen,
    validation: Seen,
    strangers: Mapping[str, Seen],
    corrupted: Mapping[tuple[str, int | None], Seen],
) -> Figures:
    """Every candidate on the half that chooses, and the one that the rule takes."""
    table = {}
    for name, fit in CANDIDATES.items():
        score = fit(train.embeddings.astype(np.float64), train.logits.astype(np.float64), train.labels)
        limit = OutlierThreshold.fit(calibration.scored(score))
        found = _against(score, limit, validation, strangers)
        alarms = [limit.is_outlier(seen.scored(score)).mean() for seen in corrupted.values()]
        table[name] = {
            "auroc": found["auroc"],
            "least_auroc": min(found["aurocs"].values()),
            "detected": found["detected"],
            "false_alarms_corrupted": float(np.mean(alarms)),
            "auroc_wrong_answers": _auroc_wrong(score, validation),
        }
        told = ", ".join(f"{key.replace('_', ' ')} {value:.4f}" for key, value in table[name].items())
        _say(f"  {name}: {told}")
    best = max(row["auroc"] for row in table.values())
    equal = [name for name, row in table.items() if row["auroc"] >= best - AUROC_EQUAL]
    fewest = min(table[name]["false_alarms_corrupted"] for name in equal)
    left = [name for name in equal if table[name]["false_alarms_corrupted"] <= fewest + ALARMS_EQUAL]
    chosen = max(left, key=lambda name: table[name]["auroc_wrong_answers"])
    _say(f"  within {AUROC_EQUAL} of the best AUROC: {', '.join(equal)}")
    _say(f"  of these within {ALARMS_EQUAL} of the fewest false alarms: {', '.join(left)}")
    _say(f"  of these the best for wrong answers: {chosen}")
    return {"candidates": table, "equal_auroc": equal, "equal_alarms": left, "chosen": chosen}


def report(
    score: Score,
    threshold: OutlierThreshold,
    public: Seen,
    strangers: Mapping[str, Seen],
    class_names: Iterable[str],
) -> Figures:
    """The package's score on the half that did not choose."""
    found = _against(score, threshold, public, strangers)
    kept = ~threshold.is_outlier(public.scored(score))
    found["kept_by_class"] = {
        name: float(kept[public.labels == label].mean()) for label, name in enumerate(class_names)
    }
    found["auroc_wrong_answers"] = _auroc_wrong(score, public)
    found["alarms_among_wrong_answers"] = float(1 - kept[public.wrong].mean())
    for name, auroc in found["aurocs"].items():
        _say(f"  {name}: AUROC {auroc:.4f}, detected {found['detections'][name]:.3f}")
    _say(
        f"  mean AUROC {found['auroc']:.4f}, all families pooled {found['pooled_auroc']:.4f}, detected "
        f"{found['detected']:.4f}, clean cells kept {found['kept']:.4f}"
    )
    _say("  kept by class: " + ", ".join(f"{name} {share:.3f}" for name, share in found["kept_by_class"].items()))
    _say(
        f"  wrong answers among clean cells: AUROC {found['auroc_wrong_answers']:.3f}, called outliers "
        f"{found['alarms_among_wrong_answers']:.3f} of {int(public.wrong.sum())}"
    )
    return found


def leave_classes_out(train: Seen, calibration: Seen, public: Seen, class_names: Iterable[str]) -> Figures:
    """Each class in turn unknown to the score, though not to the network, which has learnt to set it apart.

    Its training embeddings and its logit are left out. A network that never saw the class would have no reason to keep
    it apart, so these figures bound from above what to expect of a cell of a new kind.
    """
    _say("\neach class left out of the score; the network still knows it, so these are upper bounds")
    found = {}
    for label, name in enumerate(class_names):
        known = train.without(label)
        places = np.unique(known.labels, return_inverse=True)[1]
        score = OutlierScore.fit(known.embeddings, known.logits, places).score
        limit = OutlierThreshold.fit(calibration.without(label).scored(score))
        new = public.take(public.labels == label)
        new = new._replace(logits=np.delete(new.logits, label, axis=1))
        one = _against(score, limit, public.without(label), {name: new})
        found[name] = {key: one[key] for key in ("auroc", "detected", "kept")}
        _say(f"  {name}: " + ", ".join(f"{key} {value:.4f}" for key, value in found[name].items()))
    return found


def false_alarms(
    score: Score, threshold: OutlierThreshold, corrupted: Mapping[tuple[str, int | None], Seen]
) -> list[Figures]:
    """How many corrupted cells are called outliers, and whether those are the ones that are named wrongly."""
    _say("\n| corruption | severity | accuracy | called outliers | of right answers | of wrong answers |")
    _say("|---|---:|---:|---:|---:|---:|")
    lines = []
    for (name, severity), seen in corrupted.items():
        called, wrong = threshold.is_outlier(seen.scored(score)), seen.wrong
        line = {"corruption": name, "severity": severity, "n": len(wrong), "accuracy": float(1 - wrong.mean())}
        line |= {"called": float(called.mean()), "called_of_right": _share(called[~wrong])}
        line["called_of_wrong"] = _share(called[wrong])
        lines.append(line)
        shares = [line[key] for key in ("accuracy", "called", "called_of_right", "called_of_wrong")]
        told = " | ".join("" if share is None else f"{share:.3f}" for share in shares)
        _say(f"| {name} | {severity or ''} | {told} |")
    return lines


def _against(score: Score, threshold: OutlierThreshold, cells: Seen, strangers: Mapping[str, Seen]) -> Figures:
    """Strangers against cells: AUROC and share detected of each family, their means, and the share of cells kept."""
    usual = cells.scored(score)
    scores = {name: seen.scored(score) for name, seen in strangers.items()}
    aurocs = {name: _auroc(usual, strange) for name, strange in scores.items()}
    detections = {name: float(threshold.is_outlier(strange).mean()) for name, strange in scores.items()}
    return {
        "auroc": float(np.mean(list(aurocs.values()))),
        "pooled_auroc": _auroc(usual, np.concatenate(list(scores.values()))),
        "detected": float(np.mean(list(detections.values()))),
        "kept": float(1 - threshold.is_outlier(usual).mean()),
        "aurocs": aurocs,
        "detections": detections,
    }


def _auroc(usual: Floats, strange: Floats) -> float:
    return float(roc_auc_score(np.repeat([0, 1], [len(usual), len(strange)]), np.concatenate([usual, strange])))


def _auroc_wrong(score: Score, cells: Seen) -> float:
    return float(roc_auc_score(cells.wrong, cells.scored(score)))


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _parts(cells: Cells) -> dict[str, NDArray[np.int64]]:
    """The rows of training_set.npz on each side of the model's split."""
    table = pd.read_csv(model_folder(MODEL) / "split.csv", keep_default_na=False)
    place = {name: row for row, name in enumerate(cells.ids.tolist())}
    return {
        str(part): np.array([place[name] for name in rows["id"]], np.int64) for part, rows in table.groupby("split")
    }


def _sources(cells: Cells, rows: NDArray[np.int64]) -> outlier_families.Sources:
    """What families are cut from: test rows, which nothing else here uses, and the file's two non-cells."""
    unused = cells.take(rows)
    doubtful = cells.take(find_copies(cells).verdict == "not_a_cell")
    images = np.asarray(unused.images[:])
    first = np.unique(pixel_hashes(doubtful), return_index=True)[1]
    return outlier_families.Sources(
        cells=images,
        platelets=images[unused.labels == unused.class_names.index("platelet")],
        non_cells=np.asarray(doubtful.images[np.sort(first)]),
    )


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def main() -> int:
    if not SHARED.is_dir() and not (CHALLENGE / "training_set.npz").is_file():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    torch.set_num_threads(1)
    CHALLENGE.parent.mkdir(exist_ok=True)
    make_challenge(CHALLENGE)
    began, busy = time.perf_counter(), time.process_time()
    figures = measure(CHALLENGE)
    figures["seconds"] = {
        "wall": round(time.perf_counter() - began, 1),
        "cpu": round(time.process_time() - busy, 1),
    }
    for sentence in figures["missed"]:
        print(f"MISSED {sentence}")
    figures["without_scikit_image"] = not outlier_families.has_scikit_image()
    if figures["without_scikit_image"]:
        print(outlier_families.NO_SCIKIT_IMAGE)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
