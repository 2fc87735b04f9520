"""What the audit costs at any number of pictures, which are made while they are read: `growth.py COUNT`.

Prints one line of JSON. A process for each count, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.copies import find_copies
from hemascope.audit.features import picture_statistics
from hemascope.audit.outliers import find_outliers
from hemascope.data import Cells, Images, pixel_hashes
from hemascope.synthetic import draw_cells

SIDE = 96
POOL = 64
GRAIN = 7
"""The bits of a picture's values that the grain of its row flips: some grey levels, as a camera's noise does."""
REPEATS = 1_600


class MadePictures:
    """`count` pictures, each made when it is read: one of a few synthetic cells under a grain that no other row has.

    Every count // REPEATS-th row, REPEATS of them, shows the same picture.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = count
        self.pool = draw_cells(POOL, seed=seed)
        size = SIDE * SIDE * 3
        grain = np.random.default_rng(seed).integers(0, GRAIN + 1, size + count // POOL + 1, dtype=np.uint8)
        self.grains = np.lib.stride_tricks.sliding_window_view(grain, size)
        self.cells = np.asarray(self.pool.images).reshape(POOL, size)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, SIDE, SIDE, 3)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Any) -> Images:
        wanted = np.arange(self.count)[rows] if isinstance(rows, slice) else np.asarray(rows)
        made = np.where(self.repeated(wanted), 0, wanted)
        pictures = self.cells[made % POOL] ^ self.grains[made // POOL]
        return np.asarray(pictures.reshape(*wanted.shape, SIDE, SIDE, 3))

    def repeated(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows (n,) show the picture that repeats: bool (n,)."""
        step = max(self.count // REPEATS, 1)
        return np.asarray((rows % step == 0) & (rows // step < REPEATS))

    def labels(self) -> NDArray[np.int64]:
        """The class of each picture; the one that repeats stands under every label: int64 (count,)."""
        rows = np.arange(self.count)
        classes = len(self.pool.class_names)
        every = np.cumsum(self.repeated(rows)) % classes
        return np.where(self.repeated(rows), every, self.pool.labels[rows % POOL])


def measure(count: int) -> dict[str, Any]:
    """CPU and wall seconds of each step, those of making the pictures apart, and what was found."""
    pictures = MadePictures(count)
    cells = Cells(
        images=pictures,
        labels=pictures.labels(),
        class_names=pictures.pool.class_names,
        ids=np.char.add("made#", np.arange(count).astype(str)),
        source="made",
    )
    spent: dict[str, float] = {}
    began = [time.process_time(), time.perf_counter()]

    def lap(step: str) -> None:
        now = time.process_time()
        spent[step] = round(now - began[0], 2)
        began[0] = now

    for _ in cells.batches():
        pass
    lap("making the pictures once")
    began[1] = time.perf_counter()
    hashes = pixel_hashes(cells)
    lap("hashes")
    copies = find_copies(cells, hashes)
    lap("copies")
    statistics = picture_statistics(cells)
    lap("statistics")
    outliers = find_outliers(cells, statistics, learn=copies.keep)
    lap("outliers")
    audited = sum(spent.values()) - spent["making the pictures once"]
    return {
        "pictures": count,
        "cpu_seconds": round(audited, 2),
        "cpu_seconds_without_making": round(audited - 2 * spent["making the pictures once"], 2),
        "wall_seconds": round(time.perf_counter() - began[1], 2),
        "peak_gib": round(peak_gib(), 3),
        "not_a_cell": copies.counts()["not_a_cell"],
        "kept": int(copies.keep.sum()),
        "outliers": int(outliers["is_outlier"].sum()),
        "steps": spent,
    }


def peak_gib() -> float:
    """The most memory that this process held, in GiB; `getrusage` would tell that of its parent where that is more."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
