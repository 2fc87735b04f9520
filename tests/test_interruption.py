"""Runs that are ended from outside, and runs of several processes: each a program of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from hemascope.data import save_npz
from hemascope.recipe import Recipe
from hemascope.stopping import StoppedError, raising_on_signals
from hemascope.synthetic import draw_cells

Tiny = Callable[..., Recipe]
EXACT = ["stage", "epoch", "learning_rate", "train_loss", "train_accuracy", "validation_loss", "validation_stress"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "cells.npz"
    save_npz(draw_cells(160, seed=5, size=32), path)
    return path


def recipe_file(folder: Path, recipe: Recipe) -> Path:
    path = folder / f"{recipe.name}.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return path


def command(data: Path, recipe: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(data), "--recipe", str(recipe), "--out", str(out), *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


MAIN = "import torch; torch.set_num_threads(1); from hemascope.cli import main; main()"


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv")


@pytest.fixture(autouse=True)
def signals_do_what_they_do_in_a_terminal() -> Iterator[None]:
    """Under nohup or in the background some are ignored, by this process and by those that it starts."""
    usual: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_become_an_end_with_the_status_that_shells_expect(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(StoppedError) as stopped, raising_on_signals():
        signal.raise_signal(number)
    assert stopped.value.exit_status == 128 + number
    assert str(stopped.value).startswith(f"stopped by {name}; what was finished is kept, and train or predict goes on")
    assert signal.getsignal(number) is before
    try:
        signal.signal(number, signal.SIG_IGN)
        with raising_on_signals():
            signal.raise_signal(number)  # as under nohup, nothing happens
    finally:
        signal.signal(number, before)


def test_a_run_that_signals_end_goes_on_as_if_they_had_not_come(data: Path, tiny: Tiny, tmp_path: Path) -> None:
    recipe = recipe_file(
        tmp_path, tiny(stages=[{"name": "whole", "epochs": 20, "learning_rate": 0.003}], early_stopping=20)
    )
    run = tmp_path / "run"
    more: list[str] = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *command(data, recipe, run, *more)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        done = epochs(run)
        while epochs(run) < done + 2:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        process.send_signal(number)
        told = process.communicate(timeout=120)[1]
        if number == signal.SIGKILL:
            assert process.returncode == -number, told
        else:
            assert process.returncode == 128 + number, told
            assert told.strip().splitlines()[-1] == (
                f"hemascope: stopped by {number.name}; what was finished is kept, and train or predict goes on after "
                "it with --resume."
            )
        assert "Traceback" not in told
        assert epochs(run) >= done + 2
        more = ["--resume"]
    assert epochs(run) < 20
    for out, options in ((run, ["--resume"]), (tmp_path / "whole", [])):
        subprocess.run(
            [sys.executable, "-c", MAIN, *command(data, recipe, out, *options)], env=environment(), check=True
        )
    assert history(run)[EXACT].equals(history(tmp_path / "whole")[EXACT])


def test_a_terminal_that_is_closed_ends_a_run_as_a_signal_does(data: Path, tiny: Tiny, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    recipe = recipe_file(
        tmp_path, tiny(stages=[{"name": "whole", "epochs": 200, "learning_rate": 0.003}], early_stopping=200)
    )
    run = tmp_path / "run"
    terminal, inside = pty.openpty()
    # The first of a session that opens a terminal gets what is sent when that is closed.
    program = f"import os; os.open(os.ttyname(0), os.O_RDWR); {MAIN}"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *command(data, recipe, run)],
        env=environment(TERM="xterm"),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    shown = b""
    while epochs(run) < 2:
        shown += os.read(terminal, 65536)  # whoever writes waits when nobody reads
        assert process.poll() is None, shown
    os.close(terminal)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP, shown
    assert 2 <= epochs(run) < 200
    assert not list(run.rglob(".*"))


def test_a_set_that_does_not_fit_into_memory_is_trained_on_as_one_that_does(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    count, side = 640, 512
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pictures = np.lib.format.open_memmap(tmp_path / "pictures.npy", "w+", np.uint8, (count, side, side, 3))
    for row in range(count):
        pictures[row] = rng.integers(0, 200, (1, 1, 3)) + 40 * labels[row]
    pictures.flush()
    size = pictures.nbytes
    del pictures

    def losses(limited: bool) -> list[float]:
        found = subprocess.run(
            [sys.executable, "-c", TRAIN_MAPPED, str(tmp_path), str(size), str(int(limited))],
            env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        told: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
        assert told["streamed"] == limited
        return list(told["losses"])

    assert losses(limited=True) == losses(limited=False)


TRAIN_MAPPED = """
import json, resource, sys, tempfile
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
torch.backends.mkldnn.enabled = False  # it does not make its kernels under a limit
from hemascope.batches import hold
from hemascope.data import Cells
from hemascope.recipe import recipe_from
from hemascope.train import Options, train_network

folder, size, limited = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
pictures = np.load(folder / "pictures.npy", mmap_mode="r")
count = len(pictures)
cells = Cells(pictures, np.arange(count) % 2, ("dark", "light"), np.array([str(row) for row in range(count)]),
              split=np.where(np.arange(count) % 40 == 0, "validation", "train"))
recipe = recipe_from({
    "name": "tiny", "backbone": "test_resnet", "pretrained": "none", "image_size": 32, "head_widths": [],
    "batch_size": 4, "optimizer": "adamw", "select_by": "clean", "augmentation": [{"name": "dihedral"}],
    "stages": [{"name": "whole", "epochs": 1, "learning_rate": 0.003}], "workers": 1,
})
if limited:
    # What is mapped does not count against it, what is held does.
    held = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + size * 9 // 10,) * 2)
    try:
        np.array(pictures)
    except MemoryError:
        pass
    else:
        raise SystemExit("the set fits into memory after all")
streamed = hold(cells.in_split("train").images, torch.device("cpu")).streamed
said = []
with tempfile.TemporaryDirectory() as out:
    found = train_network(cells, recipe, Path(out), Options(), said.append)
assert not any("memory" in sentence for sentence in said), said
print(json.dumps({"streamed": streamed, "losses": [row["train_loss"] for row in found.history]}))
"""


def epochs(run: Path) -> int:
    state = run / "checkpoint" / "state.json"
    return len(json.loads(state.read_text())["history"]) if state.is_file() else 0


def test_two_processes_follow_the_loss_of_one(data: Path, tiny: Tiny, tmp_path: Path) -> None:
    # Without norms over the batch, whose statistics each process would take from its own share.
    recipe = recipe_file(
        tmp_path,
        tiny(
            backbone="test_convnext",
            batch_size=36,
            head_dropout=0.5,
            augmentation=[{"name": "jitter"}, {"name": "mixup"}],
            stages=[{"name": "whole", "epochs": 3, "learning_rate": 0.003}],
            ema_decay=0.9,
        ),
    )
    alone, together = tmp_path / "alone", tmp_path / "together"
    subprocess.run([sys.executable, "-c", MAIN, *command(data, recipe, alone)], env=environment(), check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", "--master-addr=127.0.0.1"]
    subprocess.run(
        [sys.executable, *launcher, "--no-python", sys.executable, "-c", MAIN, *command(data, recipe, together)],
        env=environment(),
        check=True,
    )
    one, two = history(alone), history(together)
    for column in ("train_loss", "validation_loss", "validation_stress_loss"):
        assert (one[column] - two[column]).abs().max() < 1e-5
    assert one["train_accuracy"].equals(two["train_accuracy"])
    assert "2 processes" in json.loads((together / "environment.json").read_text())["device"]
    assert (together / "report.html").is_file()
