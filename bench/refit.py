"""What a refit to few labels of another laboratory wins back, on laboratories that are simulated.

A laboratory is one stain (optical densities mixed at random, the same for all its pictures), one scale, one blur, fixed
by its seed before any of them was tried on this script's rows. The model that comes with the package names the public
test's pictures, less those that trained it; of each laboratory 80 of them, drawn at random, are given with labels, and
the others score the unchanged and the refitted model. The loss is what clean pictures have more; won back is the share
of it that the refit makes good. Data are sought in ../shared beside the checkout. Takes some five minutes on one core.
The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from challenge import SHARED, make_challenge
from hemascope.data import Images, load, pixel_hashes
from hemascope.evaluate import seen_rows
from hemascope.refit import refit
from hemascope.runtime import load_model, training_hashes

MODEL = "small"
LABELS = 80
STAINS = ((0.35, 0.65), (0.4, 0.6))
LABORATORIES = [(stain, scale, 1.2, seed) for stain, scale in STAINS for seed in (6, 7, 8)]


def seen_there(images: Images, stain: float, scale: float, blur: float, seed: int) -> Images:
    """Pictures uint8 (n, side, side, 3) as another laboratory would have them."""
    rng = np.random.default_rng(seed)
    mixing = (np.eye(3) + stain * rng.normal(size=(3, 3))).astype(np.float32)
    strength = np.exp(stain * rng.normal(size=3)).astype(np.float32)
    side = images.shape[1]
    around = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), 0, scale)
    found = np.empty_like(images)
    for row, image in enumerate(images):
        moved = cv2.warpAffine(image, around, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
        density = np.clip(-np.log((moved.astype(np.float32) + 1) / 256) @ mixing.T, 0, None) * strength
        shown = np.clip(np.exp(-density) * 256 - 1, 0, 255).astype(np.uint8)
        found[row] = cv2.GaussianBlur(shown, (0, 0), blur)
    return found


def right(answers: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    return float((answers.argmax(1) == labels).mean())


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    model = load_model(MODEL)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        make_challenge(Path(temporary))
        cells = load(Path(temporary) / "public_test.npz").with_classes(model.class_names)
        kept = np.flatnonzero(~seen_rows(pixel_hashes(cells), training_hashes(MODEL), cells.source))
        cells = cells.take(np.random.default_rng(0).permutation(kept))
        images = np.asarray(cells.images[:])
        clean = right(model.predict(images), cells.labels)
        print(f"{MODEL}: {len(cells):,} pictures, clean accuracy {clean:.4f}")
        print("| stain | scale | blur | seed | unchanged | with 80 labels | won back | cross-validated | seconds |")
        print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        for laboratory in LABORATORIES:
            there = replace(cells, images=seen_there(images, *laboratory))
            given, others = there.take(np.arange(LABELS)), there.take(np.arange(LABELS, len(there)))
            start = time.perf_counter()
            out = Path(temporary) / f"run-{len(found)}"
            run = refit(MODEL, given, out, say=lambda sentence: None)
            seconds = time.perf_counter() - start
            shown = np.asarray(others.images[:])
            before = right(model.predict(shown), others.labels)
            after, told = before, None
            if run is not None:
                after = right(load_model(run.folder).predict(shown), others.labels)
                told = json.loads(run.metrics.read_text())["refit"]["refitted_right"] / LABELS
            won = (after - before) / (clean - before)
            found.append(
                dict(zip(("stain", "scale", "blur", "seed"), laboratory, strict=True))
                | {"unchanged": before, "refitted": after, "won_back": won, "cross_validated": told}
                | {"seconds": round(seconds, 1)}
            )
            values = " | ".join(f"{value:g}" for value in laboratory)
            print(
                f"| {values} | {before:.3f} | {after:.3f} | {won:.2f} | {'none' if told is None else f'{told:.3f}'} | "
                f"{seconds:.0f} |",
                flush=True,
            )
    print(json.dumps({"model": MODEL, "clean": clean, "labels": LABELS, "laboratories": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
