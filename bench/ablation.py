"""What each ingredient of the recipe `small` brings: it is left out or exchanged, the rest and the budget being equal.

Each network trains on 4,000 cells of the challenge file at 64 pixels, one seed, for EPOCHS epochs, the last NEARER of
them nearer to clean, as in the recipe. It is scored on validation rows: clean, by the stress score, and in the colours
of four other laboratories (the held-out corruption `stain_transfer` at its strongest). Data are sought in ../shared
beside the checkout. Takes three quarters of an hour on two cores that have bfloat16; what is finished stands in
runs/ablation and is not done again. The last line printed is one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from challenge import SHARED, accuracy, make_challenge, prepared_cells, run_alone
from hemascope.corrupt import corrupt
from hemascope.files import write_json
from hemascope.pipeline import fit, training_options
from hemascope.recipe import Recipe, load_recipe, recipe_from
from hemascope.run import open_run
from hemascope.runtime import load_model
from hemascope.stress import seed_for, stress_score

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "ablation"
CELLS, EPOCHS, NEARER, RATE = 4000, 40, 8, 3.0e-3
JOBS = 2

Changes = Callable[[dict[str, Any]], None]


def without(*names: str) -> Changes:
    """The recipe less some families of augmentation."""

    def change(content: dict[str, Any]) -> None:
        content["augmentation"] = [step for step in content["augmentation"] if step["name"] not in names]

    return change


def having(**fields: Any) -> Changes:
    """The recipe with other values of some fields; `learning_rate` is that of its first stage."""

    def change(content: dict[str, Any]) -> None:
        content |= {name: value for name, value in fields.items() if name != "learning_rate"}
        content["stages"] = stages(fields.get("learning_rate", RATE))

    return change


def stages(rate: float, nearer: int = NEARER) -> list[dict[str, Any]]:
    """The epochs, `nearer` of them with the last stage's augmentation of the recipe, at a third of the rate."""
    first = {"name": "whole", "epochs": EPOCHS - nearer, "learning_rate": rate, "image_size": 64}
    last = {**first, "name": "nearer to clean", "epochs": nearer, "learning_rate": rate / 3, "augmented": 0.4}
    return [first, last] if nearer else [first]


def not_nearer(content: dict[str, Any]) -> None:
    """All epochs with the whole augmentation."""
    content["stages"] = stages(RATE, nearer=0)


ROSTER: Mapping[str, Changes] = {
    "as it is": having(),
    "no augmentation": having(augmentation=[]),
    "no poses": without("dihedral", "affine", "zoom"),
    "no stain variation": without("stain", "white-balance", "channel-shuffle"),
    "no jitter": without("jitter"),
    "no RandAugment, no AugMix": without("randaugment", "augmix"),
    "no blur, noise, JPEG, pixels": without("defocus-blur", "motion-blur", "gaussian-noise", "pixelate", "jpeg"),
    "no bubbles, no deposits": without("bubbles", "deposits"),
    "no stage nearer to clean": not_nearer,
    "no average of weights": having(ema_decay=0.0),
    "no class weights": having(class_weights="none"),
    "Lion": having(optimizer="lion", learning_rate=4.0e-4),
    "SGD": having(optimizer="sgd", learning_rate=5.0e-2, weight_decay=5.0e-4),
    "head of 1,024 and 512": having(head_widths=[1024, 512], head_dropout=0.5),
}
"""What is changed; the rates of other optimisers are those usual beside AdamW's, and none was tuned."""


def recipe_of(name: str) -> Recipe:
    content = load_recipe("small").model_dump(mode="json")
    content |= {"name": name, "description": "", "stages": stages(RATE), "image_size": 64, "ema_decay": 0.99}
    # Scoring each epoch by the stress score would take longer than the epoch.
    content["select_by"] = "clean"
    ROSTER[name](content)
    return recipe_from(content)


def train_and_score(name: str) -> dict[str, Any]:
    """One row of the table, which is also left beside its run."""
    folder = FOLDER / name.lower().replace(", ", "-").replace(",", "").replace(" ", "-")
    done = folder / "figures.json"
    if done.is_file():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    prepared = prepared_cells(FOLDER / "data", CELLS)
    run = open_run(folder, resume=True)
    fit(prepared, recipe_of(name), run, training_options(0, "cpu", "auto", None))
    model, validation, seed = load_model(run.folder), prepared.cells.in_split("validation"), seed_for("validation")
    images = validation.images[:]
    other = corrupt(images, "stain_transfer", 5, seed=seed, rows=np.arange(len(validation)))
    figures = {
        "changed": name,
        "n": len(validation),
        "clean": accuracy(model, validation, images),
        "stress_score": stress_score(model, validation, seed)["stress_score"],
        "other_stains": accuracy(model, validation, other),
    }
    write_json(done, figures)
    return figures


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        train_and_score(sys.argv[2])
        return 0
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_challenge(FOLDER / "data")

    def work(name: str) -> dict[str, Any]:
        run_alone(__file__, name, FOLDER)
        figures = train_and_score(name)
        print(f"{name}: " + ", ".join(f"{key} {figures[key]:.4f}" for key in COLUMNS), flush=True)
        return figures

    print(f"{len(ROSTER)} networks, {JOBS} at a time, on {CELLS:,} cells for {EPOCHS} epochs each", flush=True)
    with ThreadPoolExecutor(JOBS) as pool:
        rounds = list(pool.map(work, ROSTER))
    print("| changed | clean | stress score | other stains |\n|---|---:|---:|---:|")
    base = rounds[0]
    for one in rounds:
        cells = [f"{one[key]:.3f}" + ("" if one is base else f" ({one[key] - base[key]:+.3f})") for key in COLUMNS]
        print(f"| {one['changed']} | " + " | ".join(cells) + " |")
    print(json.dumps({"epochs": EPOCHS, "training_rows": CELLS, "rounds": rounds}))
    return 0


COLUMNS = ("clean", "stress_score", "other_stains")

if __name__ == "__main__":
    sys.exit(main())
