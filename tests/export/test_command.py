from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hemascope.export import check, submission
from hemascope.run import Run
from hemascope.runtime import Model

Command = Callable[..., int]


@pytest.fixture
def export(command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `hemascope export WORDS`, which asks about fewer pictures than it does for users."""
    monkeypatch.setattr(check, "COUNT", 8)
    monkeypatch.setattr(submission, "DRAWN", 8)
    return partial(command, "export")


def test_a_run_becomes_a_file_named_after_it(
    export: Command, finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(finished.folder, "--precision", "float16") == 0
    told = capsys.readouterr().out
    assert "against the run's model.onnx: at most" in told
    assert "ms a picture, one by one and 64 at a time: run " in told
    assert "written: run-float16.onnx" in told
    assert Model(Path("run-float16.onnx")).metadata["precision"] == "float16"
    assert Path("run-float16.onnx.json").is_file()
    assert export(finished.folder, "--precision", "float16") == 2
    assert "exists already" in capsys.readouterr().err


def test_a_run_becomes_a_submission(export: Command, finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(finished.folder, "--format", "submission") == 0
    told = capsys.readouterr().out
    assert "0 of 8 answers name another class" in told
    assert "asked apart, with numpy" in told
    assert Path("submission.zip").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("none.onnx",), "there is no such file"),
        (("small", "--precision", "int8"), "with --data, the file that it was trained on"),
        (("small", "--runtime", "keras"), "--runtime and --python belong to a submission"),
        (("small", "--out", "model.zip"), "expected .onnx"),
        (("small", "--format", "submission", "--out", "model.onnx"), "expected .zip"),
    ],
)
def test_what_cannot_be_exported_gets_one_sentence(
    export: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert export(*words) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert sentence in told[0]
    assert list(Path().iterdir()) == []


def test_no_torch_is_needed(tmp_path: Path) -> None:
    """What a base install with onnx does: torch cannot be imported, so the run's file alone is the reference."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from hemascope.export import check, export_file; check.COUNT = 2\n"
        "facts = export_file('small', sys.argv[1]); print(*facts['differences'], sep='|')"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "small.onnx"], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "model.onnx|model.onnx, asked about the same pixels"
