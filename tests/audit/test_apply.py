from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.audit import apply, audit, read_decisions
from hemascope.audit.apply import check_places, cleaned, without_effect
from hemascope.data import CLASS_NAMES, Cells, load
from hemascope.errors import InputError
from hemascope.synthetic import planted


@pytest.fixture
def source(dirty: Cells, tmp_path: Path) -> Path:
    path = tmp_path / "dirty.npz"
    np.savez(path, images=np.asarray(dirty.images), labels=dirty.labels.astype(np.uint8)[:, None], extra=np.arange(3))
    return path


def save_png(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_the_cleaned_file_has_the_form_of_the_input_which_is_unchanged(
    source: Path, dirty: Cells, tmp_path: Path
) -> None:
    before = source.read_bytes()
    truth = planted(400, seed=6)
    gone = truth.non_cells | truth.copies
    assert apply(audit(load(source, size=32)), source, tmp_path / "clean.npz").table == tmp_path / "removed.csv"
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


def decided(path: Path, *lines: str) -> pd.DataFrame:
    path.write_text("\n".join(["pixel_hash,decision,label", *lines]) + "\n")
    return read_decisions(path)


def test_a_new_label_leaves_one_of_two_equal_pictures(drawn: Cells, tmp_path: Path) -> None:
    source = tmp_path / "cells"
    for row in range(24):
        save_png(source / drawn.class_names[drawn.labels[row]] / f"{row}.png", np.asarray(drawn.images[row]))
    twin = next(name for name in CLASS_NAMES if name != drawn.class_names[drawn.labels[0]])
    save_png(source / twin / "twin.png", np.asarray(drawn.images[0]))
    found = audit(load(source, size=32))
    row = found.cells.ids.tolist().index(f"{twin}/twin.png")
    decisions = decided(tmp_path / "d.csv", f"{found.findings['pixel_hash'][row]},relabel,{twin}")
    written = apply(found, source, tmp_path / "clean", decisions)
    assert written.copies == 1
    again = audit(load(tmp_path / "clean", size=32))
    assert len(again.cells) == 24
    assert not again.findings["is_exact_copy"].any()
    assert again.findings.loc[again.findings["id"].str.contains("twin"), "label"].tolist() in ([], [twin])
    gone = pd.read_csv(tmp_path / "removed.csv")
    assert gone["advice"].tolist() == ["by decision"]
    assert gone["reason"][0].startswith("by decision: with its new label a copy of ")


def test_the_published_test_row_stays_when_a_new_label_makes_copies(drawn: Cells) -> None:
    labels = np.append(drawn.labels, (drawn.labels[0] + 1) % 8)
    images = np.concatenate([np.asarray(drawn.images), np.asarray(drawn.images[:1])])
    split = np.array(["train"] * len(drawn) + ["test"])
    both = replace(drawn, images=images, labels=labels, ids=np.append(drawn.ids, "twin"), split=split)
    found = audit(both)
    decisions = pd.DataFrame(
        {"pixel_hash": found.findings["pixel_hash"][:1], "decision": "relabel", "label": drawn.class_names[labels[-1]]}
    )
    assert np.flatnonzero(~cleaned(found, decisions).keep).tolist() == [0]


def test_a_row_that_a_person_dropped_says_so(source: Path, tmp_path: Path) -> None:
    found = audit(load(source, size=32))
    kept = found.findings[found.findings["advice"] == "keep"].iloc[0]
    apply(found, source, tmp_path / "clean.npz", decided(tmp_path / "d.csv", f"{kept['pixel_hash']},drop,"))
    removed = pd.read_csv(tmp_path / "removed.csv").set_index("id")
    assert removed.loc[kept["id"], ["advice", "reason"]].tolist() == ["by decision", "by decision"]
    assert (removed["advice"] == "by decision").sum() == 1


def test_decisions_that_meet_no_row_are_refused(source: Path, tmp_path: Path) -> None:
    found = audit(load(source, size=32))
    with pytest.raises(InputError, match=r"none of the 2 decisions names pixels of dirty\.npz"):
        without_effect(found, decided(tmp_path / "d.csv", "1,drop,", "2,keep,"))


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "removed.csv").write_text("mine")
    found = audit(load(source, size=32))
    assert apply(found, source, tmp_path / "clean.npz").table == tmp_path / "clean.removed.csv"
    assert (tmp_path / "removed.csv").read_text() == "mine"
    (tmp_path / "clean.npz").unlink()
    with pytest.raises(InputError, match=r"clean\.removed\.csv: exists already"):
        apply(found, source, tmp_path / "clean.npz")


def test_nothing_is_written_into_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    with pytest.raises(InputError, match=r"lies inside .*cells, which is only read"):
        check_places(tmp_path / "cells", tmp_path / "cells" / "clean")
