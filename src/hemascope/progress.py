"""How far a long job is, with its rate and the time left: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Say = Callable[[str], None]
"""What takes a sentence that is meant for the user."""
SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Count units of work done: `with Progress("epoch 3", 9000, "images") as progress: progress.advance(35)`."""

    def __init__(self, title: str, total: int, unit: str, console: Console | None = None, shown: bool = True) -> None:
        self.title, self.total, self.unit, self.shown = title, total, unit, shown
        self.console = console or Console(file=sys.stderr)
        self.done = 0

    def __enter__(self) -> Progress:
        self.start = self.told = time.monotonic()
        self.bar: Bar | None = None
        if self.shown and self.console.is_terminal:
            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:,.0f} " + self.unit + "/s"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task(self.title, total=self.total, rate=0.0)
            self.bar.start()
        return self

    def advance(self, count: int = 1) -> None:
        """Say that `count` more units are done."""
        self.done += count
        now = time.monotonic()
        rate = self.done / max(now - self.start, 1e-9)
        if self.bar is not None:
            self.bar.update(self.task, advance=count, rate=rate)
        elif self.shown and now - self.told >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self.told = now
            left = (self.total - self.done) / max(rate, 1e-9)
            self.console.print(
                f"{self.title}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.0f}/s, {clock(left)} left",
                highlight=False,
                soft_wrap=True,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            # A terminal that was closed cannot be tidied up, and why the block ended matters more.
            with contextlib.suppress(OSError):
                self.bar.stop()


def clock(seconds: float) -> str:
    """Seconds as people read them: "48 s", "3 min 20 s", "1 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
