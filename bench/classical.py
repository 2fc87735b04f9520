"""What models from hand-made features take and give on the challenge file: a table for docs/training.md.

Each recipe is fitted on all training rows, and its exported file names the validation rows. CPU seconds are those of
all threads, which other work on the machine hardly changes; seconds are by the clock. Data are sought in ../shared
beside the checkout. Takes some five minutes on two cores. The last line printed is one line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from challenge import SHARED, accuracy, make_challenge, prepared_cells
from hemascope.classical import fit_classical
from hemascope.classical_export import export_classical
from hemascope.recipe import load_recipe, recipe_names
from hemascope.runtime import Model

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "classical"


def main() -> int:
    """Print the table."""
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_challenge(FOLDER)
    cells = prepared_cells(FOLDER, training_rows=sys.maxsize).cells
    found = {}
    validation = cells.in_split("validation")
    images = np.asarray(validation.images[:])
    print(f"{len(cells.in_split('train')):,} training and {len(validation):,} validation pictures\n")
    print("| recipe | validation accuracy | CPU seconds | seconds | MB | ms a picture |\n|---|---|---|---|---|---|")
    for name in recipe_names():
        recipe = load_recipe(name)
        if not recipe.classical:
            continue
        clock, processor = time.perf_counter(), time.process_time()
        fitted = fit_classical(cells, recipe, say=lambda sentence: None)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "model.onnx"
            export_classical(fitted.model, path, cells, fitted.held_out, {})
            start = time.process_time()
            right = accuracy(Model(path), validation, images)
            each = 1000 * (time.process_time() - start) / len(images)
            size = path.stat().st_size / 1e6
        found[name] = {
            "validation_accuracy": right, "cpu_seconds": round(processor, 1), "seconds": round(clock, 1),
            "megabytes": round(size, 2), "milliseconds_a_picture": round(each, 2),
        }  # fmt: skip
        print(f"| `{name}` | {right:.4f} | {processor:.0f} | {clock:.0f} | {size:.1f} | {each:.1f} |", flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
