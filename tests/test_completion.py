"""The shell completes commands, options, recipes and models, and is not kept waiting for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hemascope.cli import app
from hemascope.recipe import recipe_names


def told(instruction: str, **environment: str) -> str:
    """What `hemascope` prints when a shell asks it by the environment."""
    names = {"_HEMASCOPE_COMPLETE": instruction, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **environment}
    return CliRunner().invoke(app, [], env=names, prog_name="hemascope").output


def offered(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    return told("complete_bash", COMP_WORDS=line, COMP_CWORD=str(line.count(" "))).split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hemascope pr", ["predict"]),
        ("hemascope export run --preci", ["--precision"]),
        ("hemascope export run --precision fl", ["float32", "float16"]),
        ("hemascope serve sm", ["small"]),
        ("hemascope predict crops --model sm", ["small"]),
        ("hemascope train cells.npz --recipe classical-k", ["classical-k-nn"]),
        ("hemascope train cells.npz --recipe quick,rob", ["quick,robust"]),
        ("hemascope train cells.npz --recipe ", recipe_names()),
        ("hemascope serve runs/", []),
    ],
)
def test_a_word_is_completed(line: str, found: list[str]) -> None:
    assert offered(line) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_script(shell: str) -> None:
    assert f"complete_{shell}" in told(f"source_{shell}")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_by_the_script_that_it_is_given(tmp_path: Path) -> None:
    program = tmp_path / "hemascope"
    start = f"{sys.executable} -c 'import sys; sys.argv[0] = \"hemascope\"; from hemascope.cli import main; main()'"
    program.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "given.sh").write_text(told("source_bash"))
    typed = "COMP_WORDS=(hemascope aud); COMP_CWORD=1; _hemascope_completion hemascope; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "--norc", "-c", f". {tmp_path}/given.sh; {typed}"], check=True, capture_output=True, text=True,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stdout.split() == ["audit"]


def test_the_command_line_waits_for_nothing_heavy() -> None:
    heavy = "torch numpy pandas scipy sklearn cv2 matplotlib onnxruntime pydantic fastapi"
    code = f"import sys, hemascope.cli; print(*(name for name in '{heavy}'.split() if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not done.stdout.split()
