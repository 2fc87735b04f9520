"""What a model says of the pictures of a part, as a table: by several threads at a time, in the order of the rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.bulk.plan import Part
from hemascope.bulk.reader import Item, Reader
from hemascope.data import Images
from hemascope.errors import InputError
from hemascope.machine import cores
from hemascope.preparation.fitting import Preparation
from hemascope.runtime import Answers, Model
from hemascope.trust.verdict import Verdict, verdict_of

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 32
"""How many pictures the model sees at once: beyond some sixteen nothing is gained. Always the same stretches of rows,
as the last digits of an answer may depend on which pictures it is computed with."""
WAITING = 3
"""So many batches for each thread wait or are worked on: that bounds what is in memory."""
UNREADABLE = "unreadable: there is no answer."
"""What `trust` says of a row without an answer, since an empty one would mean trust."""


@dataclass(frozen=True)
class Answered:
    """The answers to some rows. ids: of all. answers: of those without an error, in order. errors: "" or a reason."""

    ids: Sequence[str]
    answers: Answers
    trust: Sequence[str]
    errors: Sequence[str]

    def columns(self, class_names: Sequence[str], embedding: bool) -> dict[str, list[Any] | NDArray[Any]]:
        """The columns of the table, in order; NaN, and None for the label, where there is no answer."""
        good = np.array([not error for error in self.errors], np.bool_)
        probabilities = _spread(self.answers.probabilities, good)
        best = self.answers.probabilities.argmax(1)
        labels: list[str | None] = [None] * len(good)
        for row, place in zip(np.flatnonzero(good), best, strict=True):
            labels[row] = class_names[place]
        found: dict[str, list[Any] | NDArray[Any]] = {
            "id": list(self.ids),
            "label": labels,
            "confidence": probabilities.max(1),
        }
        found |= {name: np.ascontiguousarray(probabilities[:, place]) for place, name in enumerate(class_names)}
        found["outlier_score"] = _spread(self.answers.outlier_score, good)
        found["trust"] = list(self.trust)
        found["error"] = list(self.errors)
        if embedding:
            found["embedding"] = _spread(self.answers.embedding, good)
        return found


def _spread(values: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    found = np.full((len(good), *values.shape[1:]), np.nan, np.float32)
    found[good] = values
    return found


class Namer:
    """A model with all that is done to a batch of pictures: reading, naming, judging. Threads may share it."""

    def __init__(self, model: Model, preparation: Preparation | None = None) -> None:
        self.model, self.preparation = model, preparation or Preparation()
        self.verdict: Verdict = verdict_of(model)

    def __call__(self, items: Sequence[Item]) -> Answered:
        """The answers to a batch."""
        size = self.model.image_size
        side, crop = self.preparation.side(size), self.preparation.crop
        pictures: list[Images] = []
        errors: list[str] = []
        for item in items:
            try:
                pictures.append(item.pixels(side, crop))
                errors.append("")
            except InputError as error:
                errors.append(str(error))
        images = self.preparation(np.stack(pictures) if pictures else np.zeros((0, side, side, 3), np.uint8), size)
        answers = self.model.answers(images)
        reasons = iter(self.verdict.why_not(answers, images))
        trust = [UNREADABLE if error else " ".join(next(reasons)) for error in errors]
        return Answered([item.id for item in items], answers, trust, errors)


def answered(namer: Namer, parts: Iterable[Part], threads: int | None = None) -> Iterator[tuple[Part, Answered, bool]]:
    """The answers to all batches of some parts, in order: (part, answers, whether they are the part's last).

    threads: how many batches are worked on at a time, None for one a core. Each thread reads its pictures and runs the
    model on them by itself: threads that share one batch wait for each other, and reading beside a model that takes
    all cores takes them from it.
    """
    threads = threads or cores()
    reader, waiting = Reader(), deque[tuple[Part, bool, "Future[Answered]"]]()
    pool = ThreadPoolExecutor(threads)
    try:
        for part in parts:
            for batch, last in _batches(reader.items(part), part.count):
                waiting.append((part, last, pool.submit(namer, batch)))
                if len(waiting) > threads * WAITING:
                    done, ends, future = waiting.popleft()
                    yield done, future.result(), ends
        while waiting:
            done, ends, future = waiting.popleft()
            yield done, future.result(), ends
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(items: Iterator[Item], count: int) -> Iterator[tuple[list[Item], bool]]:
    """Batches of a part, which thus never hold pictures of two: (items, whether they are the last)."""
    for start in range(0, count, BATCH):
        yield list(islice(items, BATCH)), start + BATCH >= count


def joined(batches: Sequence[Answered]) -> Answered:
    """Neighbouring answers as one."""
    fields = zip(*(batch.answers[:3] for batch in batches), strict=True)
    return Answered(
        [name for batch in batches for name in batch.ids],
        Answers(*(np.concatenate(field) for field in fields)),
        [reason for batch in batches for reason in batch.trust],
        [error for batch in batches for error in batch.errors],
    )


def none_read(count: int, first: str) -> str:
    """What to say where not one of the pictures has an answer. first: the id and the reason of the first."""
    return first if count == 1 else f"none of the {count:,} pictures can be read; the first is {first}"


def arrow_table(found: Answered, class_names: Sequence[str], embedding: bool) -> pa.Table:
    """The table of some answers: text, float32, and for the embedding lists of float32; null where there is none."""
    import pyarrow as pa

    missing = np.array([bool(error) for error in found.errors], np.bool_)
    columns: dict[str, pa.Array] = {}
    for name, values in found.columns(class_names, embedding).items():
        if isinstance(values, list):
            columns[name] = _texts(values)
        elif values.ndim == 1:
            columns[name] = pa.Array.from_buffers(pa.float32(), len(values), [_valid(~missing), pa.py_buffer(values)])
        else:
            flat = pa.Array.from_buffers(pa.float32(), values.size, [None, pa.py_buffer(values)])
            kind = pa.list_(pa.float32(), values.shape[1])
            columns[name] = pa.Array.from_buffers(kind, len(values), [_valid(~missing)], children=[flat])
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


# Arrow's own ways from lists and arrays import pandas, which takes longer than to name a picture.
def _texts(values: Sequence[str | None]) -> pa.Array:
    import pyarrow as pa

    encoded = [b"" if value is None else value.encode() for value in values]
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    valid = _valid(np.array([value is not None for value in values], np.bool_))
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)), valid)


def _valid(rows: NDArray[np.bool_]) -> pa.Buffer | None:
    """Which rows have a value, as Arrow keeps it; None where all have."""
    import pyarrow as pa

    return None if rows.all() else pa.py_buffer(np.packbits(rows, bitorder="little"))
