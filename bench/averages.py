"""What an average over poses (`views`) and over networks (`members`) gains and costs, as the leaderboard shows it.

Three seeds of `small`, cut to EPOCHS epochs at 64 pixels on 4,000 cells of the challenge file, are trained; what is
averaged are those same networks (that of seed 0 is trained again for its views). All are scored on the validation rows;
the chosen one alone sees the test rows. Data are sought in ../shared beside the checkout. Takes a quarter of an hour on
two free cores; what is finished stands in runs/averages and is not done again. The last line printed is one line of
JSON with the leaderboards' figures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from challenge import SHARED, make_challenge, prepared_cells
from hemascope.recipe import Recipe, load_recipe, recipe_from
from hemascope.search.compare import compare_recipes

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "averages"
CELLS, EPOCHS, RATE = 4000, 6, 3.0e-3
SEEDS = (0, 1, 2)
COLUMNS = ("validation_accuracy", "validation_stress_score", "milliseconds_a_picture")


def recipe_of(name: str, **fields: Any) -> Recipe:
    content = load_recipe("small").model_dump(mode="json")
    stage = {"name": "whole", "epochs": EPOCHS, "learning_rate": RATE, "image_size": 64}
    content |= {"name": name, "description": "", "stages": [stage], "image_size": 64, "ema_decay": 0.99}
    # Epochs are too few for one to be chosen, and the last is what is looked at.
    return recipe_from(content | {"select_by": "clean"} | fields)


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_challenge(FOLDER / "data")
    prepared = prepared_cells(FOLDER / "data", CELLS)
    assert prepared.cells.split is not None
    cells = prepared.cells.take(prepared.cells.split != "unused")
    singles = FOLDER / "one"
    one = compare_recipes(cells, [recipe_of("one")], singles, seeds=SEEDS, split_seed=0, resume=singles.exists())
    runs = [str(singles / f"one-seed-{seed}") for seed in SEEDS]
    averages = [
        recipe_of("views-8", views=8),
        recipe_of("members-3", members=runs),
        recipe_of("members-3-views-8", members=runs, views=8),
    ]
    both = FOLDER / "averaged"
    table = compare_recipes(cells, averages, both, seeds=(0,), split_seed=0, resume=both.exists())
    lines = [*one.to_dict("records"), *table.to_dict("records")]
    print("| recipe | clean | stress score | ms a picture |\n|---|---:|---:|---:|")
    for line in lines:
        told = [f"{line[name]:.4f}" for name in COLUMNS[:2]] + [f"{line[COLUMNS[2]]:.2f}"]
        print(f"| {line['recipe']}, {line['seeds']} seed(s) | " + " | ".join(told) + " |")
    kept = [{name: line[name] for name in ("recipe", "seeds", *COLUMNS)} for line in lines]
    spread = {name: float(one[f"{name}_std"].iloc[0]) for name in COLUMNS[:2]}
    print(json.dumps({"epochs": EPOCHS, "training_rows": CELLS, "rows": kept, "spread_over_seeds": spread}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
