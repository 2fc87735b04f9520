"""The pictures of a part, one after the other, as they come to hand: paths, bytes, pixels, or why there are none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hemascope.bulk.archives import Slice
from hemascope.bulk.plan import STREAMS, Part, Span
from hemascope.data import Images
from hemascope.data.reading import fitted
from hemascope.errors import InputError


class Item(NamedTuple):
    """One picture to be: its id, and where its pixels come from, or why they cannot."""

    id: str
    source: Path | bytes | Slice | Images | InputError

    def pixels(self, size: int, crop: int | None = None) -> Images:
        """Its central square as uint8 (size, size, 3). Raises InputError with the reason where there is none."""
        if isinstance(self.source, InputError):
            raise self.source
        return fitted(self.source.read() if isinstance(self.source, Slice) else self.source, size, crop)


class Reader:
    """Reads parts. Where one goes on in the file that the one before ended in, so does the reading."""

    def __init__(self) -> None:
        self._place: tuple[str, int] | None = None
        self._stream: Iterator[tuple[str, Path | bytes | Slice | Images | InputError]] = iter(())

    def items(self, part: Part) -> Iterator[Item]:
        """As many as the part counts, whatever has become of its files: a row that cannot be had is told as one."""
        for piece in part.pieces:
            if isinstance(piece, Span):
                yield from self._rows(piece)
            else:
                yield Item(piece.id, InputError(piece.error) if piece.error else Path(piece.path))

    def _rows(self, span: Span) -> Iterator[Item]:
        if self._place != (span.path, span.first):
            self._stream = STREAMS[span.kind](Path(span.path), span.first)
        broken: InputError | None = None
        for row in range(span.first, span.first + span.rows):
            if broken is None:
                try:
                    name, source = next(self._stream)
                    yield Item(name, source)
                    continue
                except StopIteration:
                    broken = InputError(f"{span.path} has become shorter; begin again.")
                except InputError as error:
                    broken = error
                except OSError as error:
                    broken = InputError(f"{span.path} cannot be read ({error.strerror or error}); copy it again.")
            yield Item(f"{span.path}#{row}", broken)
        self._place = None if broken else (span.path, span.first + span.rows)
