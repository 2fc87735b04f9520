"""CSV and TSV of paths and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemascope.data import NO_GROUPS_NOTE, load
from hemascope.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for row in range(4):
        Image.new("RGB", (16, 16), (row * 60, 0, 0)).save(tmp_path / "pictures" / f"cell {row}.png")
    return tmp_path


def table(folder: Path, text: str, name: str = "cells.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("header", "separator", "name"),
    [
        ("path,label", ",", "cells.csv"),
        ("File Name,Cell_Type", ",", "cells.csv"),
        ("\ufefffilename;class", ";", "cells.csv"),
        ("image\tlabel", "\t", "cells.tsv"),
        ("img_name,CLASS", ",", "cells.csv"),
    ],
)
def test_paths_and_labels_by_their_usual_names(folder: Path, header: str, separator: str, name: str) -> None:
    lines = [separator.join(pair) for pair in [("pictures/cell 0.png", "BNE"), ("pictures/cell 2.png", "Lymphocytes")]]
    cells = load(table(folder, "\n".join([header, *lines, "", ""]), name), size=16)
    assert cells.ids.tolist() == ["pictures/cell 0.png", "pictures/cell 2.png"]
    assert cells.labels.tolist() == [6, 4]
    assert np.asarray(cells.images)[:, 0, 0, 0].tolist() == [0, 120]
    assert cells.notes == (NO_GROUPS_NOTE,)


def test_an_absolute_path_and_quotes_are_taken(folder: Path) -> None:
    (folder / "pictures" / "a, b.png").write_bytes((folder / "pictures" / "cell 1.png").read_bytes())
    text = f'path,label\n"pictures/a, b.png",BA\n{folder}/pictures/cell 3.png,EO\n'
    assert load(table(folder, text)).labels.tolist() == [0, 1]


def test_split_and_groups_are_kept(folder: Path) -> None:
    text = "path,label,split,patient_id\n" + "".join(
        f"pictures/cell {row}.png,{row},{split},P{row // 2}\n"
        for row, split in enumerate(("train", "Val", "test", "train"))
    )
    cells = load(table(folder, text), group_by="patient_id")
    assert cells.split is not None
    assert cells.split.tolist() == ["train", "validation", "test", "train"]
    assert cells.groups is not None
    assert cells.groups.tolist() == ["P0", "P0", "P1", "P1"]
    assert cells.labels.tolist() == [0, 1, 2, 3]
    assert NO_GROUPS_NOTE not in cells.notes
    assert "0 basophil" in cells.notes[0]
    assert NO_GROUPS_NOTE in load(table(folder, text)).notes


def test_bad_rows_are_listed_and_the_rest_go_on(folder: Path) -> None:
    (folder / "text.png").write_text("x")
    text = "path,label\nnone.png,BA\npictures/cell 1.png,EO\ntext.png,BA\n,BA\n../,MO\n"
    cells = load(table(folder, text))
    assert cells.ids.tolist() == ["pictures/cell 1.png"]
    assert cells.labels.tolist() == [1]
    assert set(cells.unreadable) == {"none.png", "text.png", "cells.csv#5", ".."}
    assert "does not exist" in cells.unreadable["none.png"]
    assert "line 5 names no picture" in cells.unreadable["cells.csv#5"]


def test_a_picture_named_twice_has_two_ids(folder: Path) -> None:
    text = "path,label\npictures/cell 1.png,EO\npictures/cell 1.png,BA\n"
    assert load(table(folder, text)).ids.tolist() == ["pictures/cell 1.png#2", "pictures/cell 1.png#3"]


GOOD = "pictures/cell 0.png"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no rows"),
        ("path,label\n", "has no rows"),
        (f"picture,label\n{GOOD},BA\n", r"no column for the pictures' paths among 'picture', 'label'; name one 'path'"),
        (f"path,kind\n{GOOD},BA\n", r"no column for the labels among 'kind'; name one 'label'"),
        (f"path,label\n{GOOD},\n", "line 2 has nothing in 'label'"),
        (f"path,label,split\n{GOOD},BA,\n", "line 2 has nothing in 'split'"),
        (f"path,label,split\n{GOOD},BA,fold 3\n", r"cells\.csv line 2: the split 'fold 3' is not known"),
        (f"path,label\n{GOOD},BA,extra\n", "line 2 has 3 values but the header has 2"),
        (f"path,label\n{GOOD},blast\n", "'blast' is not the name of one of the eight cells"),
        (f"path,label\n{GOOD},9\n", "label 9 is not one of 0 to 7"),
        ("path,label\nnone.png,BA\n", r"none\.png: it does not exist"),
        ("path,label\nx.png,BA\ny.png,BA\n", "none of its 2 pictures can be read; the first is x.png"),
    ],
)
def test_a_bad_table_is_refused(folder: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load(table(folder, text))


def test_a_missing_group_column_is_refused_with_the_nearest(folder: Path) -> None:
    path = table(folder, f"path,label,patient_id\n{GOOD},BA,7\n")
    with pytest.raises(InputError, match=r"has no column 'patient' to group by; did you mean 'patient_id'\?"):
        load(path, group_by="patient")
    with pytest.raises(InputError, match=r"no column 'zzz' to group by; it has 'path', 'label', 'patient_id'\."):
        load(path, group_by="zzz")


def test_a_missing_group_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="line 2 has nothing in 'slide'"):
        load(table(folder, f"path,label,slide\n{GOOD},BA,\n"), group_by="slide")


def test_what_is_no_text_is_refused(folder: Path) -> None:
    path = folder / "cells.csv"
    path.write_bytes(b"path,label\n\xff\xfe\x00,BA\n")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load(path)
