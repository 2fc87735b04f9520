"""A job on a Ray cluster of two workers on this machine, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from hemascope.bulk.job import predict_to_table
from hemascope.bulk.journal import parts_folder
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells

PARTS = 60


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool") / "cells"
    folder.mkdir()
    images = draw_cells(60, seed=4, size=96).images
    for row in range(60):
        Image.fromarray(images[row]).save(folder / f"{row:03}.jpg")
    (folder / "031.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("ray.data", reason="Ray is not installed: pip install '.[cluster]'")
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    ray.shutdown()


def workers() -> list[int]:
    """The processes below this one that hold a worker."""
    found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()[1:]]
    parents = {int(row[0]): int(row[1]) for row in rows}

    def ours(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return [int(row[0]) for row in rows if "ray::MapWorker" in row[2] and ours(int(row[0]))]


def kill_one(parts: Path) -> list[int]:
    """Kill one of two workers once parts are there; the first as soon as half of them are. Returns who was there."""
    found: list[int] = []
    while len(done := list(parts.glob("part-*.parquet"))) < PARTS // 2 and not (done and len(found) == 2):
        time.sleep(0.05)
        found = workers()
    found = workers()
    os.kill(found[0], signal.SIGKILL)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_workers")
def test_a_cluster_makes_the_same_table_though_a_worker_is_killed(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = Path("list.csv")
    listed.write_text("path\n" + "".join(f"{file}\n" for file in sorted(pool.iterdir())) * 15)
    # For another differential count, which the workers must be told, too.
    prior = {"neutrophil": 60.0, "lymphocyte": 30.0, "monocyte": 10.0}
    predict_to_table([listed], tmp_path / "local.csv", part_rows=15, prior=prior)
    met: list[list[int]] = []
    out = tmp_path / "cluster.csv"
    killer = threading.Thread(target=lambda: met.append(kill_one(parts_folder(out))), daemon=True)
    killer.start()
    found = predict_to_table([listed], out, part_rows=15, engine="ray", workers=2, prior=prior)
    killer.join()
    assert met[0]
    assert (found.rows, found.unreadable) == (15 * PARTS, 15)
    assert out.read_bytes() == (tmp_path / "local.csv").read_bytes()
    assert not parts_folder(out).exists()


def test_without_ray_what_to_install_is_told(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine ray needs Ray Data; run pip install '.\[cluster\]'"):
        predict_to_table([pool], tmp_path / "table.csv", engine="ray")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("two_workers")
def test_a_cluster_that_does_not_answer_is_told(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1: no Ray cluster answers"):
        predict_to_table([pool], tmp_path / "table.csv", engine="ray")
    assert list(tmp_path.iterdir()) == []
