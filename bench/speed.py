"""What the audit costs beside cleanvision and imagededup: CPU seconds on the same pictures, in one run.

HEMASCOPE_BENCH_PEERS may name the Python of an environment that has both; without it, only our own figures are taken.
All of them run with one thread in each process. What they import is not counted, and reading the files is.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemascope.audit.copies import find_copies
from hemascope.audit.features import picture_statistics
from hemascope.audit.near_copies import near_copies
from hemascope.audit.outliers import find_outliers
from hemascope.data import Cells, load, pixel_hashes

Figures = dict[str, Any]

# What both look for; cleanvision has its near duplicates beside them.
CHECKS = ("light", "dark", "odd_aspect_ratio", "low_information", "blurry", "grayscale", "odd_size", "exact_duplicates")
WANTED = {"cleanvision": 10.0, "imagededup": 5.0}
REPEATS = 3

# Each prints the CPU seconds of the work alone, its processes included, and then what it found.
_SPENT = """
import resource, sys
def spent():
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)
"""
_CLEANVISION = f"""{_SPENT}
from cleanvision import Imagelab
before = spent()
lab = Imagelab(data_path=sys.argv[1])
lab.find_issues(ISSUES, PROCESSES verbose=False)
print("\\nFIGURES", spent() - before, len(lab.info["exact_duplicates"]["sets"]))
"""
_SOME = repr({check: {} for check in CHECKS})
PEERS = {
    "cleanvision, all its checks, its own processes": _CLEANVISION.replace("ISSUES", "None").replace("PROCESSES", ""),
    "cleanvision, all its checks, one process": _CLEANVISION.replace("ISSUES", "None").replace(
        "PROCESSES", "n_jobs=1,"
    ),
    "cleanvision, without near duplicates, one process": _CLEANVISION.replace("ISSUES", _SOME).replace(
        "PROCESSES", "n_jobs=1,"
    ),
    "imagededup, perceptual hashes, one process": f"""{_SPENT}
from imagededup.methods import PHash
before = spent()
method = PHash(verbose=False)
codes = method.encode_images(image_dir=sys.argv[1], recursive=True, num_enc_workers=0)
found = method.find_duplicates(encoding_map=codes, num_dist_workers=0)
print("\\nFIGURES", spent() - before, sum(map(len, found.values())) // 2)
""",
}


def copies_and_statistics(cells: Cells) -> None:
    """Exact copies, the picture statistics, and the outliers in them."""
    keep = find_copies(cells, pixel_hashes(cells)).keep
    find_outliers(cells, picture_statistics(cells), learn=keep)


def with_near_copies(cells: Cells) -> None:
    """The same, and near copies."""
    hashes = pixel_hashes(cells)
    find_outliers(cells, picture_statistics(cells), learn=find_copies(cells, hashes).keep)
    near_copies(cells, hashes=hashes)


def compare(cells: Cells, folder: Path, say: Callable[[str], None]) -> Figures:
    """Ours and the peers' CPU seconds on some pictures; folder: a new one, for them as PNG files."""
    cells = Cells(np.array(cells.images[:]), cells.labels, cells.class_names, cells.ids, source=cells.source)
    with_near_copies(cells.take(np.arange(256)))  # what is imported on the way is not counted
    write_png(cells, folder)
    load(folder)
    ours = {
        "in memory, without near copies": cpu_seconds(lambda: copies_and_statistics(cells)),
        "in memory, near copies alone": cpu_seconds(lambda: near_copies(cells)),
        "in memory, all": cpu_seconds(lambda: with_near_copies(cells)),
        "reading the PNG files alone": cpu_seconds(lambda: load(folder)),
        "from PNG files, without near copies": cpu_seconds(lambda: copies_and_statistics(load(folder))),
        "from PNG files, near copies alone": cpu_seconds(lambda: near_copies(load(folder))),
        "from PNG files, all": cpu_seconds(lambda: with_near_copies(load(folder))),
    }
    say("  'all' is exact and near copies, light, contrast, sharpness, saturation, entropy, one colour, and outliers")
    for name, seconds in ours.items():
        say(f"  hemascope, {name}: {seconds:.2f} CPU s (median of {REPEATS})")
    figures: Figures = {"pictures": len(cells), "hemascope": ours}
    python = os.environ.get("HEMASCOPE_BENCH_PEERS")
    if not python:
        say("  HEMASCOPE_BENCH_PEERS names no Python with cleanvision and imagededup: nothing to compare with")
        return figures | {"missed": []}

    theirs: dict[str, float] = {}
    missed: list[str] = []
    for peer, program in PEERS.items():
        done = subprocess.run([python, "-c", program, folder], capture_output=True, text=True, check=False)
        told = [line.split() for line in done.stdout.splitlines() if line.startswith("FIGURES")]
        if not told:
            say(f"  {peer}: did not run ({(done.stderr.strip().splitlines() or ['it printed nothing'])[-1]})")
            missed.append(f"{peer}: did not run")
            continue
        theirs[peer] = round(float(told[0][1]), 2)
        what = "pairs" if peer.startswith("imagededup") else "sets of exact duplicates"
        say(f"  {peer}, from the same PNG files: {theirs[peer]:.1f} CPU s, {int(told[0][2]):,} {what}")
    figures["peers"] = theirs
    figures["times"] = [
        one
        for peer, mine, wanted in COMPARED
        if (one := _times(theirs.get(peer), peer, ours[mine], mine, wanted, say)) is not None
    ]
    missed += [
        f"{one['peer']}: {one['times']} times hemascope, {one['hemascope']}; wanted {one['wanted']:g}"
        for one in figures["times"]
        if one["wanted"] and one["times"] < one["wanted"]
    ]
    return figures | {"missed": missed}


# What stands against what, and how many times less is wanted; None where it is told for the record.
COMPARED: tuple[tuple[str, str, float | None], ...] = (
    ("cleanvision, all its checks, its own processes", "from PNG files, all", WANTED["cleanvision"]),
    ("cleanvision, all its checks, one process", "from PNG files, all", None),
    ("cleanvision, without near duplicates, one process", "from PNG files, without near copies", None),
    ("cleanvision, without near duplicates, one process", "in memory, without near copies", WANTED["cleanvision"]),
    ("imagededup, perceptual hashes, one process", "from PNG files, near copies alone", WANTED["imagededup"]),
    ("imagededup, perceptual hashes, one process", "in memory, near copies alone", WANTED["imagededup"]),
)


def _times(
    theirs: float | None, peer: str, ours: float, mine: str, wanted: float | None, say: Callable[[str], None]
) -> Figures | None:
    if theirs is None:
        return None
    times = round(theirs / ours, 1)
    say(f"  {peer}: {times} times hemascope, {mine}" + (f" (wanted {wanted:g})" if wanted else ""))
    return {"peer": peer, "hemascope": mine, "times": times, "wanted": wanted}


def write_png(cells: Cells, folder: Path) -> None:
    """The pictures as PNG files, in a folder for each class."""
    for name in cells.class_names:
        (folder / name).mkdir(parents=True)
    for row, (picture, label) in enumerate(zip(np.asarray(cells.images), cells.labels, strict=True)):
        Image.fromarray(picture).save(folder / cells.class_names[label] / f"{row:05}.png", compress_level=1)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The median CPU seconds of some repetitions, the process's children included."""
    seconds = []
    for _ in range(REPEATS):
        before = spent()
        work()
        seconds.append(spent() - before)
    return round(float(np.median(seconds)), 2)


def spent() -> float:
    """CPU seconds used so far, the process's children included."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
