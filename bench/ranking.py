"""Does the local number rank models as unseen corruption does? Trains the models below and compares.

Each is trained on the same 4,000 cells of the challenge file, by each of two seeds, and scored: clean accuracy, stress
score and the mean over MedMNIST-C's families on validation rows; on test rows, accuracy under the held-out
corruptions, which no training and no stress score knows, as chains of three (`hidden-unseen`) and one by one. Rank
correlations follow, over all models and among those within three points of each other, of the models of each seed and
of the means over seeds. Data are sought in ../shared beside the checkout. Takes an hour or two on two cores; what is
finished stands in runs/ranking and is not done again. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from challenge import SHARED, accuracy, make_challenge, prepared_cells, run_alone
from hemascope.corrupt import HELD_OUT, MEDMNIST_C
from hemascope.corrupt.cache import cached
from hemascope.data import Cells
from hemascope.files import write_json
from hemascope.pipeline import fit, training_options
from hemascope.recipe import Recipe, recipe_from
from hemascope.run import open_run
from hemascope.runtime import load_model
from hemascope.stress import seed_for, stress_score

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "runs" / "ranking"
CELLS = 4000
SEEDS = (0, 1)
CLOSE = 0.03
JOBS = 2
DRAWS = 3
SCORED_SEVERITIES = (1, 3, 5)

Steps = Sequence[Mapping[str, Any]]

POSES: Steps = [{"name": "dihedral"}, {"name": "affine", "magnitude": 0.4}]
LIGHT: Steps = [{"name": "jitter", "magnitude": 0.25}]
STRONG_LIGHT: Steps = [{"name": "jitter", "magnitude": 0.7}]
BLUR: Steps = [{"name": "gaussian-blur", "magnitude": 0.5, "probability": 0.4}]
NOISE: Steps = [{"name": "gaussian-noise", "magnitude": 0.5, "probability": 0.4}]
STAIN: Steps = [{"name": "stain", "magnitude": 0.6}]
RANDAUGMENT: Steps = [{"name": "randaugment", "magnitude": 0.3}]
AUGMIX: Steps = [{"name": "augmix", "magnitude": 0.3}]

# Fixed before any of them was trained: from nothing to everything, single ingredients and their sums, and two other
# networks, so that some lie far apart and many lie close together.
ROSTER: Mapping[str, tuple[str, Steps]] = {
    "nothing": ("cell_residual", []),
    "poses": ("cell_residual", POSES),
    "light": ("cell_residual", LIGHT),
    "stain": ("cell_residual", STAIN),
    "blur": ("cell_residual", BLUR),
    "noise": ("cell_residual", NOISE),
    "poses, light": ("cell_residual", [*POSES, *LIGHT]),
    "poses, stronger light": ("cell_residual", [*POSES, *STRONG_LIGHT]),
    "poses, stronger light, blur, noise": ("cell_residual", [*POSES, *STRONG_LIGHT, *BLUR, *NOISE]),
    "RandAugment": ("cell_residual", RANDAUGMENT),
    "AugMix": ("cell_residual", AUGMIX),
    "RandAugment, AugMix": ("cell_residual", [*RANDAUGMENT, *AUGMIX]),
    "poses, RandAugment, AugMix": ("cell_residual", [*POSES, *RANDAUGMENT, *AUGMIX]),
    "everything": ("cell_residual", [*POSES, *STAIN, *BLUR, *NOISE, *RANDAUGMENT, *AUGMIX]),
    "RegNetX-002, poses, stronger light": ("regnetx_002", [*POSES, *STRONG_LIGHT]),
    "MobileNetV3, poses": ("mobilenetv3_small_100", POSES),
}


def recipe_of(name: str) -> Recipe:
    backbone, steps = ROSTER[name]
    return recipe_from(
        {
            "name": name,
            "backbone": backbone,
            "pretrained": "none",
            "image_size": 64,
            "head_widths": [],
            "head_dropout": 0.1,
            "augmentation": list(steps),
            "batch_size": 64,
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "stages": [{"name": "whole", "epochs": 12, "learning_rate": 3.0e-3}],
            "schedule": "one_cycle",
            "early_stopping": 12,
            "label_smoothing": 0.05,
            "ema_decay": 0.99,
            "gradient_clip": 5.0,
            "workers": 0,
        }
    )


def train_and_score(part: str) -> dict[str, Any]:
    """One model of the roster by one seed, "0 poses": trained, exported, scored; its figures are left beside it, too.

    The seed is that of weights, order and augmentation; the cells and their split are the same for all.
    """
    seed, name = part.split(" ", 1)
    folder = FOLDER / part.lower().replace(", ", "-").replace(" ", "-")
    done = folder / "figures.json"
    if done.is_file():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    prepared = prepared_cells(FOLDER / "data", CELLS)
    run = open_run(folder, resume=True)
    fit(prepared, recipe_of(name), run, training_options(int(seed), "cpu", "float32", None))
    model = load_model(run.folder)
    validation, test = (prepared.cells.in_split(part) for part in ("validation", "test"))
    chosen_by, unseen = seed_for("validation"), seed_for("test")
    figures = {
        "model": name,
        "seed": int(seed),
        "clean_validation": accuracy(model, validation, validation.images[:]),
        "stress_validation": stress_score(model, validation, chosen_by)["stress_score"],
        "medmnist_c_validation": singly(model, validation, MEDMNIST_C, chosen_by),
        "clean_test": accuracy(model, test, test.images[:]),
        "chains_test": float(
            np.mean([accuracy(model, test, cached(test, "hidden-unseen", seed=unseen + more)) for more in range(DRAWS)])
        ),
        "singly_test": singly(model, test, HELD_OUT, unseen),
    }
    write_json(done, figures)
    return figures


def singly(model: Any, cells: Cells, families: Sequence[str], seed: int) -> float:
    """Mean accuracy over families, each by itself at three of the severities."""
    return float(
        np.mean(
            [
                accuracy(model, cells, cached(cells, family, severity, seed=seed))
                for family in families
                for severity in SCORED_SEVERITIES
            ]
        )
    )


PREDICTORS = ("stress_validation", "medmnist_c_validation", "clean_validation")
TARGETS = ("chains_test", "singly_test")
COLUMNS = (*PREDICTORS, "clean_test", *TARGETS)


def correlations(rounds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Spearman's rank correlation of each predictor on validation rows with each target on test rows.

    Over all models, and over those close to each other: the largest set whose figure lies within three points, once by
    the stress score and once by clean accuracy, which is how near a user sees them.
    """
    groups = {"all": np.ones(len(rounds), bool)}
    for key in ("stress_validation", "clean_validation"):
        groups[f"close by {key.split('_')[0]}"] = within_three_points(np.array([one[key] for one in rounds]))
    found = []
    for target in TARGETS:
        for group, chosen in groups.items():
            near = [one for one, inside in zip(rounds, chosen, strict=True) if inside]
            row: dict[str, Any] = {"target": target, "group": group, "models": len(near)}
            for key in PREDICTORS:
                pairs = [(one[key], one[target]) for one in near]
                row[key] = round(float(spearmanr(pairs).statistic), 3)
            found.append(row)
    return found


def mean_over_seeds(rounds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each figure of a model of the roster."""
    return [
        {"model": name} | {key: float(np.mean([one[key] for one in rounds if one["model"] == name])) for key in COLUMNS}
        for name in ROSTER
    ]


def within_three_points(values: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """The largest set of values no wider than CLOSE, the highest of equally large ones: bool (n,)."""
    sets = [(values <= top) & (values >= top - CLOSE) for top in np.sort(values)[::-1]]
    return max(sets, key=lambda chosen: int(chosen.sum()))


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        train_and_score(sys.argv[2])
        return 0
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_challenge(FOLDER / "data")

    def work(part: str) -> dict[str, Any]:
        run_alone(__file__, part, FOLDER)
        figures = train_and_score(part)
        print(
            f"{part}: clean {figures['clean_validation']:.4f}, stress score {figures['stress_validation']:.4f}; on "
            f"test rows clean {figures['clean_test']:.4f}, unseen chains {figures['chains_test']:.4f}, "
            f"singly {figures['singly_test']:.4f}",
            flush=True,
        )
        return figures

    print(f"{len(ROSTER)} models by {len(SEEDS)} seeds, {JOBS} at a time, on {CELLS:,} cells each")
    with ThreadPoolExecutor(JOBS) as pool:
        rounds = list(pool.map(work, [f"{seed} {name}" for seed in SEEDS for name in ROSTER]))
    means = mean_over_seeds(rounds)
    print("| model | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---:|" * len(COLUMNS))
    for one in sorted(means, key=lambda one: -one["stress_validation"]):
        print(f"| {one['model']} | " + " | ".join(f"{one[column]:.4f}" for column in COLUMNS) + " |")
    found = {f"seed {seed}": correlations([one for one in rounds if one["seed"] == seed]) for seed in SEEDS}
    found["means over seeds"] = correlations(means)
    for which, rows in found.items():
        for row in rows:
            told = ", ".join(f"{key} {row[key]}" for key in PREDICTORS)
            print(f"{which}: Spearman with {row['target']}, {row['group']} ({row['models']} models): {told}")
    print(json.dumps({"correlations": found, "models": rounds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
