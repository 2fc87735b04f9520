"""A person or a machine ends the program: Ctrl-C, `kill`, or a terminal that is closed."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class StoppedError(BaseException):
    """Raised in the main thread where a signal finds it; files that are half written are taken away on its way up.

    It is no Exception, as nobody below `main` is to handle it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)

    @property
    def exit_status(self) -> int:
        """What shells expect of a program that a signal ended."""
        return 128 + int(self.number)

    def __str__(self) -> str:
        return (
            f"stopped by {self.number.name}; what was finished is kept, and train or predict goes on after it with "
            "--resume."
        )


@contextmanager
def raising_on_signals() -> Iterator[None]:
    """Within the block each of SIGNALS raises StoppedError, but those that the caller has ignored, as nohup does."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell(sentence: str) -> None:
    """Print a last sentence to stderr, where somebody may no longer be there to read it."""
    try:
        sys.stdout.flush()
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        # What is left in buffers would fail again at the very end, and change the exit status.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())


def terminal_is_closed() -> bool:
    """Whether a terminal that the program writes to was closed, which a write may find before the signal is there."""
    try:
        import termios
    except ModuleNotFoundError:  # Windows has no such terminals
        return False
    for stream in (sys.stdout, sys.stderr):
        try:
            termios.tcgetattr(stream.fileno())
        except termios.error as error:
            if error.args[0] == errno.EIO:
                return True
        except (OSError, ValueError):
            continue  # no file stands behind it
    return False


def _raise(number: int, frame: FrameType | None) -> None:
    raise StoppedError(number)
