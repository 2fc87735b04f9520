"""Some pictures of a job, spread evenly over it, by which the whole is measured before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hemascope.bulk.plan import Part
from hemascope.bulk.reader import Reader
from hemascope.data.cells import Images
from hemascope.errors import InputError

MOST_PARTS = 8
"""Of so many parts pictures are read, since to reach one may take reading through its file."""


class Sampler:
    """Keeps parts that are spread evenly over a job, while they pass on their way to another count."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._every = 1

    def passing(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The same parts."""
        for part in parts:
            if part.number % self._every == 0:
                self.parts.append(part)
            if len(self.parts) > MOST_PARTS:
                self._every *= 2
                self.parts = [kept for kept in self.parts if kept.number % self._every == 0]
            yield part

    def pictures(self, count: int, size: int, crop: int | None = None) -> Images:
        """At most so many pictures, those that can be read: their central squares, uint8 (n, size, size, 3)."""
        return pictures_of(self.parts, count, size, crop)


def pictures_of(parts: Sequence[Part], count: int, size: int, crop: int | None = None) -> Images:
    """At most `count` pictures, spread evenly over some parts: uint8 (n, size, size, 3)."""
    total = sum(part.count for part in parts)
    wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
    reader, found = Reader(), []
    items = (item for part in parts for item in reader.items(part))
    for place, item in enumerate(items):
        if place in wanted:
            try:
                found.append(item.pixels(size, crop))
            except InputError:
                # Its row says so.
                continue
    return np.stack(found) if found else np.zeros((0, size, size, 3), np.uint8)
