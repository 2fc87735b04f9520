from __future__ import annotations

import sys

import pytest

from hemascope.run import command_line


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("/usr/bin/hemascope", "hemascope train 'my cells.npz'"),
        ("/lib/hemascope/__main__.py", "hemascope train 'my cells.npz'"),
        ("/lib/pytest/__main__.py", ""),
    ],
)
def test_the_command_is_kept_however_it_was_called(monkeypatch: pytest.MonkeyPatch, called: str, expected: str) -> None:
    monkeypatch.setattr(sys, "argv", [called, "train", "my cells.npz"])
    assert command_line() == expected
