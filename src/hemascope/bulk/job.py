"""The whole job: inputs of any number -> one table, going on where an earlier one was stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hemascope.bulk.answers import Answered, Namer, answered, arrow_table, joined, none_read
from hemascope.bulk.journal import Job, Journal, check_new, write_part
from hemascope.bulk.plan import PART_ROWS, Part, Survey, Surveyor, plan, survey
from hemascope.bulk.sample import Sampler
from hemascope.bulk.tables import WRITERS, check_ending
from hemascope.errors import InputError
from hemascope.files import check_writable
from hemascope.preparation.asked import asked_for
from hemascope.preparation.fitting import prepared_for
from hemascope.progress import Progress
from hemascope.runtime import load_model
from hemascope.trust.prior import prior_in_words
from hemascope.version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

ENGINES = ("local", "ray")


@dataclass
class Summary:
    """What a table holds. labels: how often each class was named. doubted: answers that are not to be trusted.

    unreadable: rows without an answer. resumed: rows that an earlier process had made. first_error: of the first row
    without an answer, its id and reason. notes: how the pictures were changed.
    """

    rows: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    doubted: int = 0
    unreadable: int = 0
    resumed: int = 0
    first_error: str = ""
    notes: list[str] = field(default_factory=list)

    def by_count(self) -> list[tuple[str, int]]:
        """The labels, the commonest first."""
        return sorted(self.labels.items(), key=lambda pair: -pair[1])

    def count(self, table: pa.Table) -> None:
        """Take the rows of a part into account."""
        errors, trust = table["error"].to_pylist(), table["trust"].to_pylist()
        named = Counter(label for label in table["label"].to_pylist() if label is not None)
        self.labels = dict(sorted((Counter(self.labels) + named).items()))
        self.rows += len(table)
        self.unreadable += sum(map(bool, errors))
        self.doubted += sum(bool(reason) and not error for reason, error in zip(trust, errors, strict=True))
        if not self.first_error and any(errors):
            row = next(row for row, error in enumerate(errors) if error)
            self.first_error = f"{table['id'][row].as_py()}: {errors[row]}"


def predict_to_table(
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    model: str | Path = "small",
    crop: int | str | None = None,
    stain: str | None = None,
    views: int = 1,
    resume: bool = False,
    embedding: bool = False,
    engine: str = "local",
    workers: int | None = None,
    part_rows: int = PART_ROWS,
    prior: Mapping[str, float] | None = None,
) -> Summary:
    """Name the cell on each of any number of pictures; memory does not grow with them.

    inputs: as for `plan`. out: .csv, .jsonl or .parquet, or without an ending a folder of Parquet parts. crop: the side
    in pixels of the central square to use, or "cell": the scale of the set is looked for. stain: "normalise" brings its
    colours to those of training. views: over how many poses of a picture an answer is averaged. resume: go on with what
    stands in `OUT.parts`. embedding: whether the table gets the numbers that describe a picture. engine: "ray" spreads
    the parts over a Ray cluster. workers: how many batches are worked on at a time, None for one a core. prior: as for
    `hemascope.predict`.

    The table has a row for each picture in the order of the inputs: id, label (the most probable class), confidence
    (its probability), a column of probabilities for each class, outlier_score, trust (why not to; empty means to),
    and error (why there is no answer, else empty). Raises InputError when the job cannot be done as asked, and when
    there is no picture that can be read.
    """
    out, names = Path(out), [str(name) for name in inputs]
    asked = asked_for(crop, stain, views)
    check_ending(out)
    check_writable(out, [Path(name) for name in names] if not out.suffix or out.suffix == ".parquet" else ())
    check_new(out, resume)
    # One thread for each batch, as `answered` says.
    loaded = load_model(model, threads=1).with_views(asked.views)
    options = {**asked.as_json(), "embedding": embedding, "part rows": part_rows}
    if prior is not None:
        loaded = loaded.expecting(prior)
        options["prior"] = prior_in_words(loaded.class_names, prior, digits=12)
    some = Sampler()
    found = survey(some.passing(plan(names, part_rows)))
    print_of_model = sha256(loaded.path.read_bytes()).hexdigest()
    journal = Journal(out, Job(found.pictures, found.fingerprint, print_of_model, options, __version__))
    with journal.opened():
        if (told := journal.finished()) is not None:
            journal.remove()
            return Summary(**told)
        size = loaded.image_size
        preparation = prepared_for(loaded, asked, lambda count: some.pictures(count, size, asked.crop))
        parts = _Missing(names, part_rows, journal)
        left = max(found.pictures - journal.parts_there() * part_rows, 0)
        with Progress("predicting", left, "images") as progress:
            if engine == "ray":
                from hemascope.bulk.on_ray import run_on_ray

                run_on_ray(loaded, preparation, embedding, journal, parts, progress.advance, workers, prior)
            else:
                _run_here(Namer(loaded, preparation), embedding, journal, parts, progress.advance, workers)
        if parts.met != found:
            raise InputError(
                f"the inputs have changed while they were read; remove {journal.folder} and begin again when they rest."
            )
        return _finished(
            journal, Summary(resumed=parts.resumed, notes=[*preparation.notes] if preparation.changes else [])
        )


class _Missing:
    """A second walk through the inputs: gives the parts that are still to do, and tells at the end what it met."""

    def __init__(self, inputs: Sequence[str], part_rows: int, journal: Journal) -> None:
        self.inputs, self.part_rows, self.journal = inputs, part_rows, journal
        self.resumed = 0
        self.met: Survey | None = None

    def __iter__(self) -> Iterator[Part]:
        seen = Surveyor()
        for part in plan(self.inputs, self.part_rows):
            seen.add(part)
            if self.journal.has(part):
                self.resumed += part.count
            else:
                yield part
        self.met = seen.survey


def _run_here(
    namer: Namer,
    embedding: bool,
    journal: Journal,
    parts: Iterable[Part],
    advance: Callable[[int], None],
    threads: int | None,
) -> None:
    batches: list[Answered] = []
    for part, batch, last in answered(namer, parts, threads):
        batches.append(batch)
        advance(len(batch.ids))
        if last:
            write_part(journal.path(part), part, arrow_table(joined(batches), namer.model.class_names, embedding))
            batches = []


def _finished(journal: Journal, summary: Summary) -> Summary:
    def counted() -> Iterator[pa.Table]:
        for table in journal.tables():
            summary.count(table)
            yield table

    if not journal.out.suffix:
        for _ in counted():
            pass
        _check_some(summary, journal)
        journal.keep_as_folder()
        return summary
    with journal.finishing(summary) as temporary:
        WRITERS[journal.out.suffix](counted(), temporary)
        _check_some(summary, journal)
    return summary


def _check_some(summary: Summary, journal: Journal) -> None:
    """Raise InputError, and leave nothing behind, where not one row has an answer."""
    if summary.unreadable < summary.rows:
        return
    journal.remove()
    raise InputError(none_read(summary.rows, summary.first_error))
