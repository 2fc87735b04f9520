"""What each model that comes with the package reaches on the public test, asked as a user asks it: from its one file.

The rows of the public test that stand in the training file are left out. Measured are accuracy clean, over the families
and severities of MedMNIST-C, under the mixes of the stress test and of families that no recipe trains on; what its
confidence is worth clean and under `hidden`; its sets of classes; and how it tells cells from pictures that are no
cells, on the half of the families that did not choose its score. Then how many clean cells all models call by the same
wrong name, which no one of them will mend. Data are sought in ../shared beside the checkout.
Takes some five minutes a model on one free core. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

import outlier_families
from challenge import SHARED, make_challenge
from hemascope import metrics
from hemascope.audit.copies import find_copies
from hemascope.corrupt import compose
from hemascope.data import Cells, load, pixel_hashes
from hemascope.data.cells import Rows
from hemascope.evaluate import seen_rows
from hemascope.models import model_file, model_folder, shipped_models
from hemascope.runtime import Model, answers_of, load_model, training_hashes
from hemascope.stress import seed_for, stress
from hemascope.trust.conformal import prediction_sets

CHALLENGE = Path(__file__).resolve().parents[1] / "runs" / "challenge"
WANTED = {"small": (0.98, 0.96, 0.88), "robust": (0.992, 0.985, 0.95)}
STRANGERS = 150
Figures = dict[str, Any]


def main() -> int:
    if not SHARED.is_dir():
        print(f"The real cells are not there: {SHARED} is missing; put the folder there.")
        return 2
    CHALLENGE.mkdir(parents=True, exist_ok=True)
    make_challenge(CHALLENGE)
    models = {name: figures_of(name) for name in shipped_models()}
    print(json.dumps({**models, "errors": errors()}))
    return 0


def errors() -> Figures:
    """How many clean cells each model calls by a wrong name, and how many all call by the same one.

    Of the public test, and of the rows of the training file that are not among the training rows of any model.
    """
    public, held_out = load(CHALLENGE / "public_test.npz"), load(CHALLENGE / "training_set.npz")
    for name in shipped_models():
        seen = seen_rows(pixel_hashes(public), training_hashes(name), public.source or "public_test.npz")
        public = public.take(np.flatnonzero(~seen))
        table = pd.read_csv(model_folder(name) / "split.csv", keep_default_na=False)
        unused = table.loc[table["split"] != "train", "id"].to_numpy()
        held_out = held_out.take(np.flatnonzero(np.isin(held_out.ids, unused)))
    return {"public": wrong_alike("public test", public), "held_out": wrong_alike("rows held out", held_out)}


def wrong_alike(what: str, cells: Cells) -> Figures:
    """The mistakes of each shipped model on clean cells, and those that all make in the same words."""
    models = {name: load_model(name) for name in shipped_models()}
    names = next(iter(models.values())).class_names
    labels, images = cells.with_classes(names).labels, np.asarray(cells.images[:])
    answers = np.stack([model.predict(images).argmax(1) for model in models.values()])
    alike = (answers == answers[0]).all(0) & (answers[0] != labels)
    pairs = Counter(
        " and ".join(sorted((names[label], names[told])))
        for label, told in zip(labels[alike], answers[0][alike], strict=True)
    )
    found = {name: int((told != labels).sum()) for name, told in zip(models, answers, strict=True)}
    say(f"{what}, {len(cells):,} clean cells: " + ", ".join(f"{name} errs on {n}" for name, n in found.items()))
    say(
        f"  all in the same words on {int(alike.sum())}: " + ", ".join(f"{n} {pair}" for pair, n in pairs.most_common())
    )
    return {"n": len(cells), **found, "alike": int(alike.sum()), "pairs": dict(pairs)}


def figures_of(name: str) -> Figures:
    """Everything that is measured of one model, said as it is found."""
    file = model_file(name)
    say(f"{name}: {file.name}, {file.stat().st_size / 2**20:.1f} MiB")
    public = load(CHALLENGE / "public_test.npz")
    seen = seen_rows(pixel_hashes(public), training_hashes(name), public.source or "public_test.npz")
    rows = np.flatnonzero(~seen)
    model, cells = load_model(name), public.take(rows)
    say(f"public test: {len(cells):,} pictures, {int(seen.sum())} left out that the model was made from")
    found: Figures = {"mib": file.stat().st_size / 2**20, "n": len(cells), "left_out": int(seen.sum())}
    found |= accuracies(name, model, cells, rows)
    found |= confidences(model, cells, rows)
    found |= strangers(name, model, cells)
    return found


def accuracies(name: str, model: Model, cells: Cells, rows: Rows) -> Figures:
    """Accuracy clean, on MedMNIST-C, and under the mixes."""
    scores = stress(model, cells, rows=rows, what=("medmnist-c", "mixes"), trained_on=()).scores
    found = {"clean": scores["clean"]["accuracy"], "medmnist_c": scores["medmnist_c"]["accuracy"]}
    found |= {mix: score["accuracy"] for mix, score in scores["mixes"].items()}
    for what, accuracy in found.items():
        say(f"  accuracy, {what}: {accuracy:.4f}")
    for what, wanted in zip(("clean", "medmnist_c", "hidden"), WANTED.get(name, ()), strict=False):
        say(f"  {what}: {'at least' if found[what] >= wanted else 'MISSED,'} {wanted}")
    return found


def confidences(model: Model, cells: Cells, rows: Rows) -> Figures:
    """What confidence is worth, clean and under `hidden`, and the sets of classes on clean pictures."""
    assert model.trust is not None
    images, found = np.asarray(cells.images[:]), {}
    labels = cells.with_classes(model.class_names).labels
    for what, shown in (
        ("clean", images),
        ("hidden", compose(images, "hidden", seed=seed_for("evaluation"), rows=rows)),
    ):
        probabilities = model.predict(shown)
        found[f"calibration_error_{what}"] = metrics.expected_calibration_error(probabilities, labels)
        say(f"  expected calibration error, {what}: {found[f'calibration_error_{what}']:.4f}")
        if what == "clean" and model.trust.sets is not None:
            sets = prediction_sets(probabilities, model.trust.sets)
            found["sets_coverage"] = float(sets[np.arange(len(labels)), labels].mean())
            found["sets_size"] = float(sets.sum(1).mean())
            say(f"  sets for 99%: coverage {found['sets_coverage']:.4f}, mean size {found['sets_size']:.3f}")
    return found


def strangers(name: str, model: Model, cells: Cells) -> Figures:
    """How the outlier score tells cells from what is none, on the families that did not choose it."""
    assert model.trust is not None
    assert model.trust.outliers is not None
    makers = outlier_families.families(sources(name))
    _, reported = outlier_families.halves(makers)
    usual = answers_of(model, cells).outlier_score
    kept = float(1 - model.trust.outliers.is_outlier(usual).mean())
    aurocs, told = {}, {}
    for family in reported:
        strange = model.answers(makers[family](STRANGERS, 1)).outlier_score
        truth = np.repeat([0, 1], [len(usual), len(strange)])
        aurocs[family] = float(roc_auc_score(truth, np.concatenate([usual, strange])))
        told[family] = float(model.trust.outliers.is_outlier(strange).mean())
        say(f"  no cells, {family}: AUROC {aurocs[family]:.4f}, {told[family]:.3f} told")
    auroc = float(np.mean(list(aurocs.values())))
    say(f"  no cells: mean AUROC {auroc:.4f}, {kept:.3f} of the cells kept")
    if not outlier_families.has_scikit_image():
        say(f"  {outlier_families.NO_SCIKIT_IMAGE}")
    return {"outlier_auroc": auroc, "outlier_kept": kept, "outlier_aurocs": aurocs, "outlier_told": told}


def sources(name: str) -> outlier_families.Sources:
    """What families are cut from: the test rows of the model's split, and the two non-cells of the training file."""
    cells = load(CHALLENGE / "training_set.npz")
    table = pd.read_csv(model_folder(name) / "split.csv", keep_default_na=False)
    test = np.isin(cells.ids, table.loc[table["split"] == "test", "id"].to_numpy())
    unused, doubtful = cells.take(test), cells.take(find_copies(cells).verdict == "not_a_cell")
    first = np.unique(pixel_hashes(doubtful), return_index=True)[1]
    return outlier_families.Sources(
        cells=np.asarray(unused.images[:]),
        platelets=np.asarray(unused.images[unused.labels == unused.class_names.index("platelet")]),
        non_cells=np.asarray(doubtful.images[np.sort(first)]),
    )


def say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
