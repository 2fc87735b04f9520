"""What several test files share: a few drawn cells, a network that trains in seconds, and one finished run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hemascope import devices
from hemascope.cli import main
from hemascope.data import Cells
from hemascope.pipeline import train
from hemascope.recipe import Recipe, recipe_from
from hemascope.run import Run
from hemascope.synthetic import draw_cells

# The networks of the tests are so small that threads only wait for each other, the more so on a busy machine.
torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

TINY = {
    "name": "tiny",
    "backbone": "test_resnet",
    "pretrained": "none",
    "image_size": 32,
    "head_widths": [16],
    "batch_size": 16,
    "optimizer": "adamw",
    "augmentation": [{"name": "dihedral"}, {"name": "jitter"}],
    "stages": [{"name": "whole", "epochs": 2, "learning_rate": 0.003}],
    "workers": 0,
}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests corrupt is kept in a folder of theirs, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEMASCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def same_precision() -> Iterator[None]:
    """Every machine trains the tests' networks in 32 bits, also one whose CPU would do so in bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "cpu_has_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real cells beside the checkout."""
    if not (SHARED / "data" / "pbc96").is_dir():
        pytest.skip("the real cells (../shared/data/pbc96) are not here")
    return SHARED


@pytest.fixture(scope="session")
def drawn() -> Cells:
    """160 drawn cells of 32 pixels, all eight classes."""
    return draw_cells(160, seed=5, size=32)


@pytest.fixture(scope="session")
def dirty() -> Cells:
    """Drawn cells with planted non-cells and copies."""
    return draw_cells(400, seed=6, size=32, dirty=True)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Recipe]:
    """Makes a recipe for a very small network; keywords replace its fields."""
    return tiny_recipe


def tiny_recipe(**fields: object) -> Recipe:
    return recipe_from({**TINY, **fields})


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, dirty: Cells) -> Run:
    """A finished run of the tiny recipe on the dirty cells, with a further file scored."""
    further = replace(draw_cells(64, seed=7, size=32), source="further.npz")
    mixed = replace(further, ids=np.array([f"further#{row}" for row in range(len(further))]))
    out = tmp_path_factory.mktemp("finished") / "run"
    return train(dirty, tiny_recipe(), out, test=mixed, say=lambda sentence: None)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Runs `hemascope WORDS` in an empty folder and gives its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["hemascope", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run


@pytest.fixture(scope="session")
def challenge(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with training_set.npz and public_test.npz, made from the real cells."""
    out = tmp_path_factory.mktemp("challenge")
    subprocess.run([sys.executable, shared / "scripts" / "make_challenge.py", out], check=True)
    return out
