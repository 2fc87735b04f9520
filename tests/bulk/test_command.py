"""The command `predict` on many inputs: what it says and how it ends."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemascope.bulk.journal import parts_folder
from hemascope.data import load
from hemascope.predict import predict
from hemascope.preparation.square import at_scale
from hemascope.synthetic import draw_cells

Command = Callable[..., int]


@pytest.fixture
def naming(command: Command) -> Command:
    """Runs `hemascope predict WORDS` in a folder with inputs of all kinds."""
    images = np.asarray(draw_cells(6, seed=1).images)
    Path("cells").mkdir()
    for row in range(4):
        Image.fromarray(images[row]).save(f"cells/{row}.png")
    Path("cells/bad.png").write_bytes(b"no picture")
    with zipfile.ZipFile("more.zip", "w") as archive:
        archive.write("cells/0.png", "inner/a.png")
    np.savez("arrays.npz", images=images)
    return partial(command, "predict")


def test_inputs_of_all_kinds_become_one_table(naming: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert naming("cells/*.png", "more.zip", "arrays.npz", "gone.tar", "--columns", "embedding") == 0
    told = capsys.readouterr().out
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    expected = [f"cells/{name}.png" for name in (0, 1, 2, 3, "bad")]
    assert table["id"].tolist() == [
        *expected,
        "more.zip/inner/a.png",
        *(f"arrays.npz#{row}" for row in range(6)),
        "gone.tar",
    ]
    assert table["error"].ne("").tolist() == [False] * 4 + [True] + [False] * 7 + [True]
    # The same pixels have the same answer, however they came.
    assert table["lymphocyte"].tolist()[0] == table["lymphocyte"].tolist()[5] == table["lymphocyte"].tolist()[6]
    assert "embedding_255" in table.columns
    assert told.startswith("11 pictures: ")
    assert "2 could not be read; the column 'error' says why" in told
    assert told.endswith("written: predictions.csv\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("cells/bad.png",), "cells/bad.png: it is not a picture of a known format"),
        (("none*.png",), "none*.png: nothing matches this pattern; check it."),
        (("cells", "--out", "table.xls"), "table.xls: ends in '.xls', expected .csv, .jsonl, .parquet"),
        (("cells", "--columns", "heatmap"), "--columns heatmap: there is no such column to add; expected embedding."),
        (("cells", "--engine", "dask"), "--engine dask: expected local or ray."),
        (("cells", "--model", "none"), "none: there is no such file"),
        (("cells", "--out", "cells/table.parquet"), "cells/table.parquet: lies inside cells, which is only read"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(
    naming: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    before = sorted(Path().rglob("*"))
    assert naming(*words) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"hemascope: {sentence}")
    assert sorted(Path().rglob("*")) == before


def test_an_unfinished_job_is_kept_and_told(naming: Command, capsys: pytest.CaptureFixture[str]) -> None:
    parts_folder(Path("predictions.csv")).mkdir()
    assert naming("cells") == 2
    assert "predictions.csv.parts: holds an unfinished job; go on with it by --resume" in capsys.readouterr().err
    assert naming("cells", "--resume") == 0
    assert not parts_folder(Path("predictions.csv")).exists()


def test_a_set_of_another_scale_is_brought_to_that_of_training(
    naming: Command, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    cells = load(shared / "data" / "pbc96" / "test.parquet")
    images = np.asarray(cells.images[np.arange(0, len(cells), 60)])
    np.savez("usual.npz", images=images)
    np.savez("wide.npz", images=at_scale(images, 2.0))
    for name in ("usual", "wide"):
        assert naming(f"{name}.npz", "--out", f"{name}.parquet") == 0
        assert naming(f"{name}.npz", "--out", f"{name}-whole.parquet", "--crop", "whole", "--stain", "keep") == 0
    told = capsys.readouterr().out
    assert "of each picture's side shows what a training picture shows, and is cut out" in told
    assert told.count("scale: ") == 1
    tables = {name: pd.read_parquet(f"{name}.parquet") for name in ("usual", "usual-whole", "wide", "wide-whole")}
    pd.testing.assert_frame_equal(tables["usual"], tables["usual-whole"])
    truth = tables["usual"]["label"]
    right, before = ((tables[name]["label"] == truth).mean() for name in ("wide", "wide-whole"))
    assert right > before
    assert tables["wide-whole"]["trust"].str.contains("scale?: the cell is ", regex=False).any()
    # In memory it is the same.
    memory = predict("small", "wide.npz", crop="cell", stain="normalise")
    assert memory["label"].tolist() == tables["wide"]["label"].tolist()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--crop", "nucleus"), "--crop nucleus: expected a number of pixels, cell or whole."),
        (("--crop", "3"), "--crop 3: a cell needs at least 8 pixels; give 8 or more."),
        (("--stain", "macenko"), "--stain macenko: expected normalise or keep."),
        (("--views", "3"), "--views 3: expected 1, 2, 4 or 8, the poses of a square."),
    ],
)
def test_a_preparation_that_means_nothing_is_told_in_one_sentence(
    naming: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    before = sorted(Path().rglob("*"))
    assert naming("cells", *words) == 2
    assert capsys.readouterr().err == f"hemascope: {sentence}\n"
    assert sorted(Path().rglob("*")) == before
