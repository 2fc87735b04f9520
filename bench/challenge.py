"""The challenge file for the benches that train on it: made once, cleaned, split, and cut to some training rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data import Cells, load
from hemascope.draws import permutation
from hemascope.prepare import Prepared, prepare

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Where the real cells are sought: beside the checkout."""


def make_challenge(folder: Path) -> None:
    """Write training_set.npz and public_test.npz into a folder, once."""
    if not (folder / "training_set.npz").is_file():
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            command = [sys.executable, str(SHARED / "scripts" / "make_challenge.py"), temporary]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            shutil.copytree(temporary, folder, dirs_exist_ok=True)


def prepared_cells(folder: Path, training_rows: int) -> Prepared:
    """The cleaned and split challenge file of `make_challenge`, less all but some of its training rows."""
    cells = load(folder / "training_set.npz")
    cells = replace(cells, images=np.asarray(cells.images[:]))
    prepared = prepare(cells, seed=0, say=lambda sentence: None)
    assert prepared.cells.split is not None
    split = prepared.cells.split.astype("<U11")
    training = np.flatnonzero(split == "train")
    split[training[permutation(0, 0, len(training))[training_rows:]]] = "unused"
    return replace(prepared, cells=replace(prepared.cells, split=split))


def accuracy(model: Any, cells: Cells, images: NDArray[np.uint8]) -> float:
    """The share of the cells that a model names rightly when it is shown these pictures of them."""
    return float((model.predict(np.asarray(images)).argmax(1) == cells.labels).mean())


def run_alone(script: str, name: str, folder: Path) -> None:
    """Let a bench do one of its parts, `--one NAME`, in a process of one thread, whose words go to a log."""
    with (folder / f"{name.replace(' ', '-')}.log").open("w") as told:
        subprocess.run(
            [sys.executable, script, "--one", name],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=told,
            stderr=subprocess.STDOUT,
            check=True,
        )
