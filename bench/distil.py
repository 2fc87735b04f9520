"""What a teacher brings to a small network: `small` alone and with `robust` as its teacher, on one budget.

`robust` is trained on the challenge file first, unless runs/robust holds it already, as `hemascope train
runs/challenge/training_set.npz --recipe robust --out runs/robust` leaves it. Then `small` is trained twice on the same
rows for the same epochs, STAGES, which are fewer than the recipe's own: from the labels alone, and from labels and the
teacher's answers in equal parts, which take time of their own. Scored are validation rows and, with other corruptions,
test rows; the public test is not looked at. Data are sought in ../shared beside the checkout. Takes 40 minutes on two
cores that have bfloat16, and `robust` a further hour and a half; what is finished stands in runs/distil and is not done
again. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from challenge import SHARED, make_challenge
from hemascope.data import load
from hemascope.pipeline import fit, training_options
from hemascope.prepare import Prepared, prepare
from hemascope.recipe import Recipe, load_recipe, recipe_from
from hemascope.run import Run, open_run
from hemascope.runtime import load_model
from hemascope.stress import seed_for, stress

RUNS = Path(__file__).resolve().parents[1] / "runs"
FOLDER, TEACHER = RUNS / "distil", RUNS / "robust"
STAGES: list[dict[str, Any]] = [
    {"name": "at 64 pixels", "epochs": 25, "learning_rate": 4.0e-3, "image_size": 64},
    {"name": "at 96 pixels", "epochs": 10, "learning_rate": 2.0e-3},
    {"name": "nearer to clean", "epochs": 5, "learning_rate": 1.0e-3, "augmented": 0.4},
]
STUDENTS: dict[str, dict[str, Any]] = {"alone": {}, "taught": {"teacher": str(TEACHER)}}
PARTS = ("validation", "test")
Figures = dict[str, Any]


def student(name: str) -> Recipe:
    return recipe_from(load_recipe("small").model_dump(mode="json") | {"name": name, "stages": STAGES} | STUDENTS[name])


def trained(prepared: Prepared, recipe: Recipe, folder: Path) -> Run:
    run = open_run(folder, resume=True)
    fit(prepared, recipe, run, training_options(0, "cpu", "auto", None))
    return run


def scores(run: Run, prepared: Prepared) -> Figures:
    """Accuracies on validation and test rows: clean, over MedMNIST-C, and under the mixes of the stress test."""
    found: Figures = {}
    for part in PARTS:
        cells = prepared.cells.in_split(part)
        told = stress(load_model(run.folder), cells, seed=seed_for(part), what=("medmnist-c", "mixes"), trained_on=())
        found[part] = {"n": len(cells), "clean": told.scores["clean"]["accuracy"]}
        found[part]["medmnist_c"] = told.scores["medmnist_c"]["accuracy"]
        found[part] |= {mix: score["accuracy"] for mix, score in told.scores["mixes"].items()}
    return found


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_challenge(RUNS / "challenge")
    prepared = prepare(load(RUNS / "challenge" / "training_set.npz"), seed=0)
    runs = {"robust": trained(prepared, load_recipe("robust"), TEACHER)}
    runs |= {name: trained(prepared, student(name), FOLDER / name) for name in STUDENTS}
    figures: Figures = {}
    for name, run in runs.items():
        seconds = float(pd.read_csv(run.history)["seconds"].sum())
        figures[name] = {"minutes": round(seconds / 60, 1), **scores(run, prepared)}
        for part in PARTS:
            told = ", ".join(f"{what} {value:.4f}" for what, value in figures[name][part].items() if what != "n")
            print(f"{name}, {part} rows: {told}", flush=True)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
