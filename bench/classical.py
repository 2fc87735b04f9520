"""What models from hand-made features take and give on the challenge file: a table for docs/training.md.

    python bench/classical.py FOLDER

FOLDER holds training_set.npz, or gets it from the real cells beside the checkout. Each recipe is fitted on all training
rows, and its exported file names the validation rows. CPU seconds are those of all threads, which other work on the
machine hardly changes; seconds are by the clock.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from challenge import accuracy, make_challenge, prepared_cells
from hemascope.classical import fit_classical
from hemascope.classical_export import export_classical
from hemascope.recipe import load_recipe, recipe_names
from hemascope.runtime import Model


def main(folder: Path) -> None:
    """Print the table."""
    make_challenge(folder)
    cells = prepared_cells(folder, training_rows=sys.maxsize).cells
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
            export_classical(fitted.model, path, images[:64], fitted.held_out, {})
            start = time.process_time()
            right = accuracy(Model(path), validation, images)
            each = 1000 * (time.process_time() - start) / len(images)
            size = path.stat().st_size / 1e6
        print(f"| `{name}` | {right:.4f} | {processor:.0f} | {clock:.0f} | {size:.1f} | {each:.1f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
