from __future__ import annotations

import json
from pathlib import Path

import pytest

from hemascope.errors import InputError
from hemascope.files import check_writable, new_folder, replacing, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_a_write_makes_the_folder_and_keeps_the_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "model.onnx") as temporary:
        assert temporary.suffix == ".onnx"
        temporary.write_text("whole")
    assert (tmp_path / "new" / "model.onnx").read_text() == "whole"


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"größe": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"größe": 1}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    assert new_folder(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="exists and is not empty"):
        new_folder(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        new_folder(tmp_path / "file")


def test_a_folder_of_a_run_is_told_to_be_resumed_only_where_that_can_be(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(InputError, match="--resume"):
        new_folder(tmp_path)
    with pytest.raises(InputError, match="exists and is not empty; name another"):
        new_folder(tmp_path, resumes=False)


def test_standard_output_is_no_place_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for refused in (check_writable, new_folder):
        with pytest.raises(InputError, match=r"^-: stands for the standard output, expected a place on the disk; name"):
            refused(Path("-"))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "cells").mkdir()
    check_writable(tmp_path / "new" / "deep" / "out.npz")
    for place, sentence in [
        (tmp_path / "file" / "x" / "y", "file is no folder, so nothing can be written inside it"),
        (Path("/proc/x"), "/proc/x: cannot be written"),
        (tmp_path / ("long" * 100), "cannot be written"),
        (tmp_path / "cells" / "x", "lies inside"),
        (tmp_path / "file" / ".." / "cells", "lies inside"),
    ]:
        with pytest.raises(InputError, match=sentence):
            check_writable(place, [tmp_path / "cells", tmp_path / "file"])
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["cells", "file"]
