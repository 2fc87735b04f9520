from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from hemascope import cli

def writes():
    sys.stdin.readline()
    print("words", flush=True)

cli.app = writes
cli.main()
"""


@pytest.mark.parametrize("closed", [True, False])
def test_a_write_that_finds_the_terminal_closed_before_the_signal_does_ends_as_the_signal(closed: bool) -> None:
    pty = pytest.importorskip("pty")
    terminal, inside = pty.openpty()
    # It is not the terminal of a session of its own, so that no signal is sent.
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=inside, stderr=inside)
    os.close(inside)
    if closed:
        os.close(terminal)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == (128 + signal.SIGHUP if closed else 0)
    if not closed:
        assert b"words" in os.read(terminal, 100)
        os.close(terminal)
