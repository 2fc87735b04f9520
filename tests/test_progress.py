from __future__ import annotations

import io

import pytest
from rich.console import Console

from hemascope.progress import Progress, clock


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.4, "7 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")]
)
def test_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_a_log_gets_lines_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 25.0, 30.0, 50.0, 100.0])
    monkeypatch.setattr("hemascope.progress.time.monotonic", lambda: next(now))
    text = io.StringIO()
    with Progress("reading", 400, "images", Console(file=text)) as told:
        for _ in range(4):
            told.advance(100)
    assert text.getvalue().splitlines() == [
        "reading: 100 of 400 images, 4/s, 1 min 15 s left",
        "reading: 300 of 400 images, 6/s, 17 s left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    text = io.StringIO()
    with Progress("reading", 40, "images", Console(file=text, force_terminal=True, width=100)) as told:
        told.advance(40)
    assert "40/40" in text.getvalue()
    assert "images/s" in text.getvalue()
