from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hemascope.bulk.answers import UNREADABLE, Answered, Namer, answered
from hemascope.bulk.job import predict_to_table
from hemascope.bulk.journal import Journal, parts_folder, write_part
from hemascope.bulk.plan import plan
from hemascope.bulk.reader import Item
from hemascope.errors import InputError
from hemascope.predict import predict
from hemascope.runtime import load_model
from hemascope.synthetic import draw_cells

PICTURES = 150


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn cells as JPEG files, one of which is no picture, some of another size."""
    folder = tmp_path_factory.mktemp("pool") / "cells"
    folder.mkdir()
    images = draw_cells(PICTURES, seed=4, size=96).images
    for row in range(PICTURES):
        picture = Image.fromarray(images[row])
        (picture.resize((120, 100)) if row % 7 == 3 else picture).save(folder / f"{row:03}.jpg", quality=95)
    (folder / "066.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def whole(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table that a job gives that nothing stops, in parts of 32 rows."""
    out = tmp_path_factory.mktemp("whole") / "table.csv"
    predict_to_table([pool], out, part_rows=32)
    return out.read_bytes()


def test_the_table_says_what_the_model_says_in_memory(pool: Path, whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "whole.csv").write_bytes(whole)
    table = pd.read_csv(tmp_path / "whole.csv", keep_default_na=False, na_values={"confidence": [""]})
    memory = predict("small", pool)
    assert list(table.columns) == list(memory.columns)
    assert table["id"].tolist() == memory["id"].tolist() == [(pool / f"{row:03}.jpg").as_posix() for row in range(150)]
    assert table["confidence"].to_numpy() == pytest.approx(memory["confidence"].to_numpy(), abs=1e-5, nan_ok=True)
    assert (table["error"] != "").tolist() == [row == 66 for row in range(PICTURES)]
    assert table.loc[66, "trust"] == UNREADABLE
    assert table.loc[66, "label"] == ""
    images = np.stack([np.asarray(Image.open(pool / f"{row:03}.jpg")) for row in range(3)])
    assert memory.loc[:2, "outlier_score"].to_numpy() == pytest.approx(
        load_model("small").answers(images).outlier_score, abs=1e-4
    )


@pytest.mark.parametrize("out", ["table.parquet", "table.jsonl", "folder"])
def test_every_form_of_the_table_has_the_same_rows(pool: Path, whole: bytes, tmp_path: Path, out: str) -> None:
    found = predict_to_table([pool], tmp_path / out, part_rows=64, embedding=True)
    assert (found.rows, found.unreadable, sum(found.labels.values())) == (PICTURES, 1, PICTURES - 1)
    if out == "table.jsonl":
        rows = [json.loads(line) for line in (tmp_path / out).read_text().splitlines()]
    else:
        rows = pq.read_table(tmp_path / out).to_pylist()
    assert [row["id"] for row in rows] == [line.split(",")[0] for line in whole.decode().splitlines()[1:]]
    assert len(rows[0]["embedding"]) == 256
    assert rows[66]["embedding"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [out]


def test_threads_change_nothing(pool: Path, whole: bytes, tmp_path: Path) -> None:
    predict_to_table([pool], tmp_path / "table.csv", part_rows=32, workers=5)
    assert (tmp_path / "table.csv").read_bytes() == whole


PROGRAM = """
import sys
from hemascope.bulk import answers, job
wait, answers.BATCH = float(sys.argv[3]), 32
real = job.write_part
def slow(*words):
    real(*words)
    print("part", flush=True)
    import time; time.sleep(wait)
job.write_part = slow
job.predict_to_table([sys.argv[1]], sys.argv[2], part_rows=32, resume=True)
"""


def test_a_job_that_is_killed_goes_on_to_the_same_table(pool: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    for kill in range(2):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, pool, out, "30"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "part\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert len(list(parts_folder(out).glob("part-*.parquet"))) == kill + 1
        assert not out.exists()
    # What a process leaves that is killed while it writes.
    (parts_folder(out) / ".part-000003.xyz.parquet").write_bytes(b"half")
    (parts_folder(out) / "part-000003.parquet").write_bytes(b"PAR1 cut off")
    found = predict_to_table([pool], out, part_rows=32, resume=True)
    assert (found.rows, found.resumed) == (PICTURES, 64)
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.fixture
def begun(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job that was stopped after two parts."""
    out = tmp_path / "table.csv"
    written: list[Path] = []

    def then_stop(path: Path, *words: Any) -> None:
        write_part(path, *words)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hemascope.bulk.job.write_part", then_stop)
        with pytest.raises(KeyboardInterrupt):
            predict_to_table([pool], out, part_rows=32)
    return out


def test_an_unfinished_job_is_not_begun_again_unasked(pool: Path, begun: Path) -> None:
    with pytest.raises(InputError, match="holds an unfinished job; go on with it by --resume"):
        predict_to_table([pool], begun)


def test_another_job_does_not_go_on_with_it(pool: Path, begun: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its options were part rows 32, now they are crop 64, part rows 32"):
        predict_to_table([pool], begun, part_rows=32, crop=64, resume=True)
    told = "its options were part rows 32, now they are crop cell, stain normalise, views 4, part rows 32"
    with pytest.raises(InputError, match=told):
        predict_to_table([pool], begun, part_rows=32, crop="cell", stain="normalise", views=4, resume=True)
    with pytest.raises(InputError, match=r"its inputs have changed \(150 pictures then, 151 now\)"):
        predict_to_table([pool, tmp_path / "none.png"], begun, part_rows=32, resume=True)
    about = parts_folder(begun) / "_job.json"
    about.write_text(about.read_text().replace('"model": "', '"model": "0'))
    with pytest.raises(InputError, match="its model was another"):
        predict_to_table([pool], begun, part_rows=32, resume=True)
    assert len(list(parts_folder(begun).glob("part-*.parquet"))) == 2


def test_two_processes_do_not_work_on_one_job(pool: Path, begun: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="no such locks here")
    with (parts_folder(begun) / "_lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is at work on it"):
            predict_to_table([pool], begun, part_rows=32, resume=True)


def test_a_kill_after_the_table_is_in_place_leaves_it_there(
    pool: Path, whole: bytes, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_to_table([pool], begun, part_rows=32, resume=True)
    with pytest.raises(InputError, match="exists already"):
        predict_to_table([pool], begun, part_rows=32)
    found = predict_to_table([pool], begun, part_rows=32, resume=True)
    assert (found.rows, found.unreadable, found.resumed) == (PICTURES, 1, 64)
    assert begun.read_bytes() == whole
    assert not parts_folder(begun).exists()


def test_inputs_that_change_meanwhile_are_refused(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = tmp_path / "cells"
    cells.mkdir()
    for row in range(40):
        os.link(pool / f"{row:03}.jpg", cells / f"{row:03}.jpg")
    opened = Journal.opened

    def and_remove(self: Journal) -> object:
        (cells / "007.jpg").unlink()
        return opened(self)

    monkeypatch.setattr(Journal, "opened", and_remove)
    with pytest.raises(InputError, match="the inputs have changed while they were read"):
        predict_to_table([cells], tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()


def test_a_job_without_one_readable_picture_is_an_error(tmp_path: Path) -> None:
    for row in range(3):
        (tmp_path / f"{row}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"none of the 3 pictures can be read; the first is .*0\.png: it is not a"):
        predict_to_table([tmp_path], tmp_path / "table.csv")
    with pytest.raises(InputError, match=r"none\.png: it does not exist; check the name\."):
        predict_to_table([tmp_path / "none.png"], tmp_path / "table.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]


def test_a_crop_that_does_not_fit_is_a_row_and_one_that_never_does_is_refused(pool: Path, tmp_path: Path) -> None:
    found = predict_to_table([pool], tmp_path / "table.csv", crop=98)
    assert found.rows - found.unreadable == len([row for row in range(PICTURES) if row % 7 == 3 and row != 66])
    with pytest.raises(InputError, match="--crop 4: a cell needs at least 8 pixels"):
        predict_to_table([pool], tmp_path / "other.csv", crop=4)


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", images=np.zeros((3000, 96, 96, 3), np.uint8))

    class Quick(Namer):
        def __call__(self, items: Sequence[Item]) -> Answered:
            return super().__call__(items[:1])

    namer = Quick(load_model("small", threads=1))
    tracemalloc.start()
    try:
        count = sum(1 for _ in answered(namer, plan([tmp_path / "cells.npz"]), threads=2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 94
    # The pictures are 83 MB.
    assert peak < 40 * 2**20
