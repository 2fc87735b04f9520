"""What the stress test's pictures cost, and how near they are to the package of MedMNIST-C: `corrupt.py [DATA]`.

DATA is any file or folder that `hemascope.load` reads; left out, 1,712 drawn cells of 96 pixels take its place.
Sections, all when none is named with --only: `time` (CPU seconds of every family at five severities, and of the
composites) and `compare` (the mean distance from the original for each corruption and severity, ours and theirs, at 224
pixels, which they assume, and at the size of the data, as a table in Markdown). The last line printed is one line of
JSON with every figure.

HEMASCOPE_BENCH_PEERS names the Python of an environment that has medmnistc 0.1.0 and what it needs but for torch:
scikit-image 0.23.2, NumPy below 2.3, OpenCV, SciPy, Pillow, and Wand with ImageMagick's library.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hemascope.corrupt import COMPOSITES, FAMILIES, MEDMNIST_C, SEVERITIES, compose, corrupt
from hemascope.data import load
from hemascope.data.cells import Images
from hemascope.resize import resize
from hemascope.synthetic import draw_cells

Figures = dict[str, Any]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PICTURES = 1712
COMPARED = 300
LIMIT_SECONDS = 360
THEIR_NAMES = {"jpeg": "jpeg_compression"}

# It reads (n, height, width, 3) from an .npy file and prints the mean distances, name -> one for each severity.
# torchvision is imported by the package for corruptions that BloodMNIST has not, so an empty module stands in for it.
PEER = """
import json, random, sys, types, warnings
import numpy as np
from PIL import Image
warnings.filterwarnings("ignore")
for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]
from medmnistc.corruptions.registry import CORRUPTIONS_DS
images = np.load(sys.argv[1])
random.seed(0)
np.random.seed(0)
found = {}
for name, corruption in CORRUPTIONS_DS["bloodmnist"].items():
    found[name] = []
    for severity in range(5):
        seen = [np.asarray(corruption.apply(Image.fromarray(image.copy()), severity)) for image in images]
        found[name].append(float(np.abs(np.stack(seen).astype(np.int16) - images).mean()))
print(json.dumps(found))
"""


def time_families(images: Images) -> Figures:
    """CPU seconds of every family at five severities, and of the composites."""
    rows = np.arange(len(images))
    spent: dict[str, float] = {}
    for name in FAMILIES:
        began = time.process_time()
        for severity in SEVERITIES:
            corrupt(images, name, severity, seed=0, rows=rows)
        spent[name] = time.process_time() - began
    for name in COMPOSITES:
        began = time.process_time()
        compose(images, name, seed=0, rows=rows)
        spent[name] = time.process_time() - began
    for name, seconds in spent.items():
        times = len(SEVERITIES) if name in FAMILIES else 1
        print(f"  {name:24} {seconds:6.2f} CPU s {1e6 * seconds / times / len(images):6.0f} millionths a picture")
    total = sum(spent.values())
    print(f"  together {total:.1f} CPU s for {len(images):,} pictures of {images.shape[2]} x {images.shape[1]}")
    families = sum(spent[name] for name in FAMILIES)
    missed = [f"{total:.0f} CPU s > {LIMIT_SECONDS}"] if total > LIMIT_SECONDS else []
    told = {name: round(seconds, 3) for name, seconds in spent.items()}
    return {"pictures": len(images), "cpu_seconds": told, "families": round(families, 1), "total": round(total, 1)} | {
        "missed": missed
    }


def compare(images: Images) -> Figures:
    """Mean distance from the original in grey levels: ours / theirs."""
    images = images[np.linspace(0, len(images) - 1, min(COMPARED, len(images))).astype(np.int64)]
    figures: Figures = {"pictures": len(images)}
    python = os.environ.get("HEMASCOPE_BENCH_PEERS")
    if not python:
        print("  HEMASCOPE_BENCH_PEERS names no Python with medmnistc: nothing to compare with")
    for size in sorted({224, min(images.shape[1:3])}, reverse=True):
        pictures = resize(images, size)
        rows = np.arange(len(pictures))
        ours = {
            name: [_distance(corrupt(pictures, name, severity, seed=0, rows=rows), pictures) for severity in SEVERITIES]
            for name in MEDMNIST_C
        }
        theirs = _peer(python, pictures) if python else {}
        print(f"\n{len(pictures)} pictures of {size} pixels:\n")
        print("| corruption | " + " | ".join(f"severity {severity}" for severity in SEVERITIES) + " |")
        print("|---|" + "---|" * len(SEVERITIES))
        for name, values in ours.items():
            beside = theirs.get(THEIR_NAMES.get(name, name), [float("nan")] * len(values))
            told = [f"{one:.2f} / {other:.2f}" for one, other in zip(values, beside, strict=True)]
            print(f"| {name} | " + " | ".join(told) + " |")
        figures[str(size)] = {"ours": ours, "theirs": theirs}
    return figures


def _distance(one: Images, other: Images) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def _peer(python: str, pictures: Images) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.npy"
        np.save(path, pictures)
        done = subprocess.run([python, "-c", PEER, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
        print(f"  medmnistc did not run: {reason}")
        return {}
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


SECTIONS = {"time": time_families, "compare": compare}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="pictures of cells; drawn ones when left out")
    parser.add_argument("--only", choices=list(SECTIONS), help="one section instead of all")
    asked = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # The libraries read this once, when they are loaded.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    cells = load(asked.data) if asked.data else draw_cells(PICTURES)
    images = np.asarray(cells.images[:])
    figures: Figures = {}
    for name in [asked.only] if asked.only else SECTIONS:
        print(f"{name}: {SECTIONS[name].__doc__}", flush=True)
        figures[name] = SECTIONS[name](images)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
