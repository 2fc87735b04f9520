"""What a request, and all of them together, may cost."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hemascope.errors import InputError
from hemascope.wording import many

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """The bounds that keep the service answering whatever it is sent.

    files: pictures in one request. bytes_each: of one encoded picture. bytes_request: of one body. bytes_together: of
    all bodies that are held at a time. pixels: of one picture, told by its header before it is decoded. queue: pictures
    of all clients that are accepted and not answered yet. patience: how long, in seconds, an accepted picture may be
    expected to wait; beyond it the queue counts as full, even where it has room. body_seconds: how long a body may take
    to arrive. stop_seconds: how long accepted requests have to be answered after the signal to stop.
    Raises InputError when one is not above 0, or when a request of the most files could never be accepted.
    """

    files: int = 64
    bytes_each: int = 8 * MEBIBYTE
    bytes_request: int = 32 * MEBIBYTE
    bytes_together: int = 256 * MEBIBYTE
    pixels: int = 4_000_000
    queue: int = 256
    patience: float = 0.6
    body_seconds: float = 30.0
    stop_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InputError(f"the limit '{field.name}' is {value}, expected a number above 0.")
        if self.queue < self.files:
            raise InputError(
                f"a queue of {many(self.queue, 'picture')} could never take a request of {self.files}; "
                "give a longer queue or fewer files."
            )
