from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hemascope.errors import InputError
from hemascope.spotcheck import checked, in_words, sample

IDS = np.array([f"cell-{number}.png" for number in range(200)])
NAMED = np.array(["monocyte", "lymphocyte"] * 100)


def filled(path: Path, labels: list[str]) -> Path:
    table = sample(IDS, len(labels))
    table["label"] = labels
    table.to_csv(path, index=False)
    return path


def truth(count: int) -> list[str]:
    named = dict(zip(IDS, NAMED, strict=True))
    return [str(named[one]) for one in sample(IDS, count)["id"]]


def test_labels_give_an_exact_interval(tmp_path: Path) -> None:
    labels = truth(60)
    labels[3] = "blast"
    found, table = checked(filled(tmp_path / "t.csv", labels), IDS, NAMED)
    assert (found.right, found.labelled, found.population) == (59, 60, 200)
    # Of 200 pictures 59 are known to be right and one to be wrong.
    assert 0.9 < found.low < found.accuracy < found.high <= 199 / 200
    assert (table["label"] != table["predicted"]).sum() == 1
    assert "59 of 60 pictures named rightly" in in_words(found)


def test_usual_abbreviations_are_labels_too(tmp_path: Path) -> None:
    short = ["MO" if name == "monocyte" else "LYM" for name in truth(20)]
    assert checked(filled(tmp_path / "t.csv", short), IDS, NAMED)[0].right == 20


def test_what_was_drawn_last_may_be_left_out_but_nothing_before_it(tmp_path: Path) -> None:
    labels = truth(30)
    assert checked(filled(tmp_path / "a.csv", [*labels[:20], *[""] * 10]), IDS, NAMED)[0].labelled == 20
    with pytest.raises(InputError, match="would flatter the model"):
        checked(filled(tmp_path / "b.csv", ["", *labels[1:]]), IDS, NAMED)
    with pytest.raises(InputError, match="no picture has a label"):
        checked(filled(tmp_path / "c.csv", [""] * 30), IDS, NAMED)


def test_other_pictures_and_other_files_are_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "t.csv", truth(30))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], *lines[4:]]))
    with pytest.raises(InputError, match="names other pictures"):
        checked(path, IDS, NAMED)
    path.write_text("name,label\na,b\n")
    with pytest.raises(InputError, match="no column 'id'"):
        checked(path, IDS, NAMED)
    with pytest.raises(InputError, match="cannot be read"):
        checked(tmp_path / "none.csv", IDS, NAMED)


def test_a_misspelt_class_is_no_wrong_answer(tmp_path: Path) -> None:
    labels = truth(20)
    labels[3] = "lymphocite"
    with pytest.raises(InputError, match=r"'lymphocite' is no class of the model; the nearest is lymphocyte"):
        checked(filled(tmp_path / "t.csv", labels), IDS, NAMED)
