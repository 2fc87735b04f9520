from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hemascope.audit import apply, audit, read_decisions
from hemascope.data import Cells, load
from hemascope.errors import InputError
from hemascope.synthetic import planted


@pytest.fixture
def source(dirty: Cells, tmp_path: Path) -> Path:
    path = tmp_path / "dirty.npz"
    np.savez(path, images=np.asarray(dirty.images), labels=dirty.labels.astype(np.uint8)[:, None], extra=np.arange(3))
    return path


def test_the_cleaned_file_has_the_form_of_the_input_which_is_unchanged(
    source: Path, dirty: Cells, tmp_path: Path
) -> None:
    before = source.read_bytes()
    truth = planted(400, seed=6)
    gone = truth.non_cells | truth.copies
    assert apply(audit(load(source, size=32)), source, tmp_path / "clean.npz") == gone.sum()
    assert source.read_bytes() == before
    with np.load(tmp_path / "clean.npz", allow_pickle=False) as arrays:
        assert arrays["labels"].dtype == np.uint8
        assert arrays["labels"].shape == ((~gone).sum(), 1)
        assert np.array_equal(arrays["images"], np.asarray(dirty.images)[~gone])
        assert arrays["extra"].tolist() == [0, 1, 2]
    removed = pd.read_csv(tmp_path / "removed.csv")
    assert removed["id"].tolist() == [f"dirty.npz#{row}" for row in np.flatnonzero(gone)]
    assert removed["reason"].notna().all()


def test_decisions_stand_over_the_advice_and_outlive_a_new_order(source: Path, tmp_path: Path) -> None:
    found = audit(load(source, size=32))
    table = found.findings
    dropped, kept = table[table["is_exact_copy"] & (table["advice"] == "drop")], table[table["advice"] == "keep"]
    back, away, renamed = dropped["pixel_hash"].iloc[0], kept["pixel_hash"].iloc[0], kept["pixel_hash"].iloc[1]
    path = tmp_path / "decisions.csv"
    path.write_text(f"pixel_hash,decision,label\n{back},keep,\n{away},drop,\n{renamed},relabel,EO\n")

    with np.load(source) as arrays:
        order = np.random.default_rng(0).permutation(len(arrays["images"]))
        np.savez(tmp_path / "mixed.npz", images=arrays["images"][order], labels=arrays["labels"][order])
    again = audit(load(tmp_path / "mixed.npz", size=32))
    apply(again, tmp_path / "mixed.npz", tmp_path / "clean.npz", read_decisions(path))
    result = audit(load(tmp_path / "clean.npz", size=32)).findings
    assert (result["pixel_hash"] == back).sum() == (table["pixel_hash"] == back).sum()
    assert not (result["pixel_hash"] == away).any()
    assert result.loc[result["pixel_hash"] == renamed, "label"].tolist() == ["eosinophil"]


def test_new_labels_touch_training_rows_only(drawn: Cells, tmp_path: Path) -> None:
    images = np.asarray(drawn.images)
    path = tmp_path / "medmnist.npz"
    parts = {"train": slice(0, 80), "val": slice(80, 120), "test": slice(120, 160)}
    np.savez(
        path,
        **{f"{part}_images": images[rows] for part, rows in parts.items()},  # type: ignore[arg-type]
        **{f"{part}_labels": drawn.labels[rows, None] for part, rows in parts.items()},  # type: ignore[arg-type]
    )
    found = audit(load(path, size=32))
    hashes = found.findings["pixel_hash"]
    decisions = tmp_path / "d.csv"
    decisions.write_text(f"pixel_hash,decision,label\n{hashes[0]},relabel,platelet\n{hashes[130]},relabel,platelet\n")
    apply(found, path, tmp_path / "clean.npz", read_decisions(decisions))
    with np.load(tmp_path / "clean.npz") as arrays:
        assert arrays["train_labels"][0, 0] == 7
        assert arrays["test_labels"][10, 0] == drawn.labels[130]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("decision\nkeep\n", "has no column 'pixel_hash'"),
        ("pixel_hash,decision\nx1,keep\n", "line 2 has the pixel_hash 'x1'"),
        ("pixel_hash,decision\n1,throw\n", "line 2 decides 'throw'"),
        ("pixel_hash,decision,label\n1,relabel,blast\n", "relabels to 'blast'"),
    ],
)
def test_decisions_with_a_mistake_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"d\.csv") as error:
        read_decisions(path)
    assert sentence in str(error.value)


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "removed.csv").write_text("mine")
    with pytest.raises(InputError, match=r"removed\.csv: exists already"):
        apply(audit(load(source, size=32)), source, tmp_path / "clean.npz")
    assert (tmp_path / "removed.csv").read_text() == "mine"
