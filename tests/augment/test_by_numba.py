"""What only compiled loops can do wrong; that they give the right grey levels is told beside the other ways."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hemascope.augment import FAMILIES, augment, by_numba, by_opencv, kernels, plan_of
from hemascope.augment.plan import Warp
from hemascope.recipe import Augmentation, AugmentationName

SIDES = [(1, 1), (1, 7), (2, 3), (5, 4), (33, 61)]


@pytest.mark.parametrize("shape", SIDES)
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_pictures_of_any_size_come_out_as_by_opencv(name: AugmentationName, shape: tuple[int, int]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, *shape, 3), dtype=np.uint8)
    step = Augmentation(name=name, magnitude=1.0)
    plan = plan_of(np.arange(20), [(0, step)], shape, seed=1, epoch=2)
    found, expected = pictures.copy(), pictures.copy()
    by_numba.carry_out(plan, found)
    by_opencv.carry_out(plan, expected)
    assert (np.abs(found.astype(int) - expected) > 1).mean() < (0.001 if "aug" in name else 1e-9)


@pytest.mark.parametrize("fill", ["reflect", "black"])
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("away", [-1e7, -400.25, -97.5, -1.0, 96.0, 301.75, 1e7])
def test_no_place_however_far_lies_outside_of_memory(away: float, smooth: bool, fill: Any) -> None:
    pictures = np.random.default_rng(0).integers(1, 256, (1, 96, 96, 3), dtype=np.uint8)
    matrices = np.array([[[1.3, 0.2, away], [-0.2, 1.3, -away]]])
    changed = pictures.copy()
    by_numba.carry_out([Warp(np.arange(1), matrices, smooth, fill)], changed)
    if fill == "reflect":
        # Between pixels of other values no darker or brighter one can come about.
        assert changed.min() >= pictures.min()
    elif abs(away) > 300:
        assert (changed == 0).all()


def test_a_kernel_is_compiled_once_whatever_the_recipe() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 24, 24, 3), dtype=np.uint8)
    rows = np.arange(12)
    for name in FAMILIES:
        augment(pictures, rows, [Augmentation(name=name)], seed=0, epoch=0)
        augment(pictures[::2], rows[::2], [Augmentation(name=name, probability=0.5)], seed=0, epoch=0, threads=2)
    compiled = {name: len(loop.signatures) for name, loop in vars(kernels).items() if hasattr(loop, "stats")}
    own = {name: count for name, count in compiled.items() if not name.startswith("_")}
    assert own.keys() >= {"warp_smooth", "colour", "density", "convolve", "mix"}
    assert set(own.values()) == {1}, own


def test_that_loops_are_compiled_first_is_known_beforehand(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from hemascope.augment import augment, compiles_first\n"
        "from hemascope.recipe import Augmentation\n"
        "print(compiles_first())\n"
        "augment(np.zeros((4, 20, 20, 3), np.uint8), np.arange(4), [Augmentation(name='dihedral')], seed=0, epoch=0)\n"
    )
    for first in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        )  # fmt: skip
        assert done.stdout.strip() == str(first)


def test_a_full_disk_costs_the_time_to_compile_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="Windows bounds no files")
    code = (
        "import resource, sys, numpy as np\n"
        "from hemascope.augment import augment, kernels\n"
        "from hemascope.recipe import Augmentation\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "pictures = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), dtype=np.uint8)\n"
        "steps = [Augmentation(name='dihedral'), Augmentation(name='mixup')]\n"
        "changed = augment(pictures, np.arange(4), steps, seed=0, epoch=0)\n"
        "assert sum(kernels.turn.stats.cache_misses.values()) == 1\n"
        "sys.stdout.write(changed.tobytes().hex())\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    pictures = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), dtype=np.uint8)
    steps = [Augmentation(name="dihedral"), Augmentation(name="mixup")]
    assert done.stdout == augment(pictures, np.arange(4), steps, seed=0, epoch=0).tobytes().hex()
