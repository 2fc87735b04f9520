from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hemascope import audit
from hemascope.audit import read_decisions
from hemascope.audit.apply import cleaned
from hemascope.audit.findings import Audit
from hemascope.data import pixel_hashes
from hemascope.errors import InputError
from hemascope.serve.desk import Decision, Desk, SpotDesk, items_of, read_findings, rows_to_check
from hemascope.synthetic import draw_cells


@pytest.fixture(scope="module")
def found() -> Audit:
    return audit(draw_cells(200, seed=6, size=32, dirty=True))


def test_items_are_what_the_audit_points_at(found: Audit, tmp_path: Path) -> None:
    found.write(tmp_path)
    cells, table = found.cells, found.findings
    items = items_of(cells, read_findings(tmp_path))
    shown = {int(picture.key) for item in items for picture in item.pictures}
    flagged = table[table["advice"] != "keep"]
    assert set(flagged["pixel_hash"]) <= shown
    keys = [tuple(picture.key for picture in item.pictures) for item in items]
    assert len(keys) == len(set(keys))
    hashes = pixel_hashes(cells)
    for item in items:
        for picture in item.pictures:
            assert int(hashes[picture.row]) == int(picture.key)
            rows = np.flatnonzero(hashes == np.uint64(picture.key))
            assert picture.rows == len(rows)
            assert set(picture.labels) == {cells.class_names[label] for label in cells.labels[rows]}
    assert all(len(item.pictures) > 1 for item in items if item.issue == "near_copy")
    assert {"not_a_cell", "exact_copy"} <= {item.issue for item in items}


def test_findings_of_other_pixels_are_refused(found: Audit) -> None:
    with pytest.raises(InputError, match="is not of these pixels"):
        items_of(draw_cells(200, seed=9, size=32), found.findings)
    with pytest.raises(InputError, match="no column 'advice'"):
        items_of(found.cells, found.findings.drop(columns="advice"))


def test_a_folder_without_findings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no findings\.csv"):
        read_findings(tmp_path)


def test_decisions_are_what_apply_carries_out(found: Audit, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    desk = Desk(path, found.cells.class_names)
    free = found.findings[(found.findings["advice"] == "keep") & (found.findings["group"].duplicated(keep=False) == 0)]
    drop, relabel = (int(key) for key in free["pixel_hash"].iloc[:2])
    target = next(name for name in found.cells.class_names if name != free["label"].iloc[1])
    desk.decide(str(drop), Decision("drop"))
    assert read_decisions(path)["decision"].tolist() == ["drop"]  # on the disk at once
    desk.decide(str(relabel), Decision("relabel", target))
    result = cleaned(found, read_decisions(path))
    hashes = pixel_hashes(found.cells)
    assert not result.keep[hashes == np.uint64(drop)].any()
    assert [found.cells.class_names[label] for label in result.labels[hashes == np.uint64(relabel)]] == [target]


def test_undo_goes_back_step_by_step(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "decisions.csv", ("neutrophil", "monocyte"))
    desk.decide("18446744073709551615", Decision("keep"))
    desk.decide("18446744073709551615", Decision("relabel", "monocyte"))
    desk.decide("7", Decision("drop"))
    assert desk.undo() == "7"
    assert desk.undo() == "18446744073709551615"
    assert desk.decided == {"18446744073709551615": Decision("keep")}
    assert read_decisions(desk.path)["pixel_hash"].tolist() == [18446744073709551615]
    assert desk.undo() == "18446744073709551615"
    assert desk.undo() is None
    assert len(read_decisions(desk.path)) == 0


def test_a_desk_is_gone_on_from_and_forgets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text("pixel_hash,decision,label\n5,relabel,MO\n9,drop,\n")
    desk = Desk(path, ("neutrophil", "monocyte"))
    desk.decide("9", Decision("keep"))
    assert desk.decided == {"5": Decision("relabel", "monocyte"), "9": Decision("keep")}
    assert Desk(path, ("neutrophil", "monocyte")).decided == desk.decided


def test_what_is_no_decision_is_refused_and_not_written(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "decisions.csv", ("neutrophil",))
    with pytest.raises(InputError, match="'burn' is no decision"):
        desk.decide("5", Decision("burn"))
    with pytest.raises(InputError, match="none of the classes"):
        desk.decide("5", Decision("relabel", "blast"))
    assert not desk.path.exists()


def test_what_cannot_be_saved_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path / "decisions.csv", ("neutrophil",))

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hemascope.serve.desk.write_text", full)
    with pytest.raises(OSError, match="No space"):
        desk.decide("5", Decision("keep"))
    assert desk.decided == {}
    assert desk.undo() is None


def test_a_spot_check_counts_who_agrees_with_the_exact_interval(tmp_path: Path) -> None:
    cells = draw_cells(120, seed=1, size=32, dirty=True)
    rows = rows_to_check(cells, 20, seed=4)
    assert rows == rows_to_check(cells, 20, seed=4)
    assert len(set(pixel_hashes(cells)[rows].tolist())) == len(rows) == 20
    labels = [cells.class_names[label] for label in cells.labels[rows]]
    spot = SpotDesk(tmp_path / "spot.csv", cells, rows, labels)
    assert [picture["label"] for picture in spot.state()["pictures"]] == [None] * 20  # not told before it is named
    for place, (key, label) in enumerate(zip(spot.keys, labels, strict=True)):
        other = next(name for name in cells.class_names if name != label)
        spot.name(key, label if place else other)
    result = spot.result()
    exact = stats.binomtest(19, 20).proportion_ci(method="exact")
    assert (result.checked, result.agreed) == (20, 19)
    assert (result.low, result.high) == pytest.approx((exact.low, exact.high))
    table = pd.read_csv(spot.path)
    assert (table["label"] == table["named"]).sum() == 19
    again = SpotDesk(spot.path, cells, rows, labels)
    assert again.result() == result
    again.name(spot.keys[0], None)
    assert again.result().checked == 19


def test_a_spot_check_takes_no_other_picture_and_no_other_class(tmp_path: Path) -> None:
    cells = draw_cells(8, seed=1, size=32)
    spot = SpotDesk(tmp_path / "spot.csv", cells, [0, 1], ["monocyte", "monocyte"])
    with pytest.raises(InputError, match="none of the pictures"):
        spot.name("12", "monocyte")
    with pytest.raises(InputError, match="none of the classes"):
        spot.name(spot.keys[0], "blast")


def test_a_file_that_is_no_spot_check_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spot.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no spot check"):
        SpotDesk(path, draw_cells(8, seed=1, size=32), [0], ["monocyte"])
