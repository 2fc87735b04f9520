"""What double augmentation brings: a network trained on the challenge file without it and with it, and stressed.

The network and the schedule are the same, the augmentation is RandAugment and then AugMix at their usual strengths or
none at all. Clean pictures and the mixes `hidden` and `hidden-unseen` are the public test's, less what stands in the
training file. Data are sought in ../shared beside the checkout. Takes about 40 minutes on two cores; what is finished
stands in runs/jump and is not done again. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hemascope.data import load
from hemascope.files import write_json
from hemascope.pipeline import fit, training_options
from hemascope.prepare import prepare
from hemascope.recipe import Recipe, recipe_from
from hemascope.run import open_run
from hemascope.stress import seed_for, stress

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
FOLDER = ROOT / "runs" / "jump"
GAIN, LOSS = 0.15, 0.015
AUGMENTATIONS: Mapping[str, list[dict[str, Any]]] = {
    "without": [],
    "with": [{"name": "randaugment", "magnitude": 0.3}, {"name": "augmix", "magnitude": 0.3}],
}


def recipe_of(name: str) -> Recipe:
    return recipe_from(
        {
            "name": name,
            "backbone": "cell_residual",
            "pretrained": "none",
            "head_widths": [],
            "head_dropout": 0.1,
            "augmentation": AUGMENTATIONS[name],
            "batch_size": 64,
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "stages": [
                {"name": "at 64 pixels", "epochs": 30, "learning_rate": 3.0e-3, "image_size": 64},
                {"name": "at 96 pixels", "epochs": 8, "learning_rate": 1.5e-3},
            ],
            "schedule": "one_cycle",
            "early_stopping": 30,
            "label_smoothing": 0.05,
            "ema_decay": 0.998,
            "gradient_clip": 5.0,
            "workers": 0,
        }
    )


def train_and_score(name: str, folder: Path) -> dict[str, float]:
    """Clean accuracy and those on the two mixes, of the public test."""
    cells = load(folder / "training_set.npz")
    run = open_run(FOLDER / name, resume=True)
    fit(prepare(cells, seed=0), recipe_of(name), run, training_options(0, "cpu", "float32", None))
    scores = stress(run.folder, folder / "public_test.npz", seed=seed_for("test"), what=["mixes"]).scores
    mixes = {mix: scores["mixes"][mix]["accuracy"] for mix in ("hidden", "hidden-unseen")}
    return {"n": scores["n"], "clean": scores["clean"]["accuracy"], **mixes}


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) == 3:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, SHARED / "scripts" / "make_challenge.py", folder], check=True)
            write_json(FOLDER / f"{sys.argv[2]}.json", train_and_score(sys.argv[2], Path(folder)))
        return 0
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    todo = [name for name in AUGMENTATIONS if not (FOLDER / f"{name}.json").is_file()]
    print(f"training {' and '.join(todo) or 'nothing'}; the epochs are told in {FOLDER.relative_to(ROOT)}")
    working = []
    for name in todo:
        with (FOLDER / f"{name}.log").open("w") as log:
            command = [sys.executable, __file__, "--one", name]
            working.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    if any(process.wait() for process in working):
        print(f"a training failed; its log in {FOLDER.relative_to(ROOT)} says why")
        return 1
    found = {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in AUGMENTATIONS}
    for name, scores in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in scores.items() if key != "n"))
    gain = {key: found["with"][key] - found["without"][key] for key in ("clean", "hidden", "hidden-unseen")}
    print("gain: " + ", ".join(f"{key} {100 * value:+.1f} points" for key, value in gain.items()))
    missed = [f"hidden gains {gain['hidden']:.3f}, wanted {GAIN}"] if gain["hidden"] < GAIN else []
    missed += [f"clean loses {-gain['clean']:.3f}, wanted at most {LOSS}"] if gain["clean"] < -LOSS else []
    for sentence in missed:
        print(f"MISSED {sentence}")
    print(json.dumps({**found, "gain": gain, "missed": missed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
