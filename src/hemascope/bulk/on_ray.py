"""The parts of a job, spread over a Ray cluster by Ray Data. Every node sees the same files by the same names.

A worker holds the model, takes a part, and writes its table into the folder of parts, as the local engine does. A part
that is lost with its worker is done again by another: its file is there whole or not at all.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hemascope.bulk.answers import Namer, answered, arrow_table, joined
from hemascope.bulk.journal import Journal, write_part
from hemascope.bulk.plan import Part
from hemascope.errors import InputError
from hemascope.machine import cores
from hemascope.preparation.fitting import Preparation
from hemascope.runtime import Model, load_model
from hemascope.wording import install

PARTS_AT_ONCE = 25
"""So many parts for each worker are handed over at a time, which bounds what the process that leads holds in memory."""
_STORE_BYTES = 200 * 2**20


class PartWorker:
    """What runs in a process of the cluster: a batch of one pickled part and its path in; its number of rows out."""

    def __init__(
        self,
        folder: str,
        model: str,
        views: int,
        preparation: Preparation,
        embedding: bool,
        prior: dict[str, float] | None,
    ) -> None:
        # Where the inputs' names count from.
        os.chdir(folder)
        loaded = load_model(model, threads=1).with_views(views)
        self.namer = Namer(loaded if prior is None else loaded.expecting(prior), preparation)
        self.embedding = embedding

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        counts = []
        for packed, path in zip(batch["part"], batch["path"], strict=True):
            part = pickle.loads(packed)  # noqa: S301 (the driver of the same job made it)
            batches = [some for _, some, _ in answered(self.namer, [part], threads=1)]
            table = arrow_table(joined(batches), self.namer.model.class_names, self.embedding)
            write_part(Path(path), part, table)
            counts.append(part.count)
        return {"rows": np.array(counts)}


def run_on_ray(
    model: Model,
    preparation: Preparation,
    embedding: bool,
    journal: Journal,
    parts: Iterable[Part],
    advance: Callable[[int], None],
    workers: int | None,
    prior: Mapping[str, float] | None = None,
) -> None:
    """Do the parts. workers: how many processes, each with a core; None for all cores of the cluster.

    The cluster is that of RAY_ADDRESS; without it one is started on this machine and ended afterwards. Raises
    InputError where Ray is not installed or the cluster does not answer.
    """
    with _cluster(workers) as (ray, there):
        count = min(workers or there, there)
        waiting = iter(parts)
        while some := list(islice(waiting, PARTS_AT_ONCE * count)):
            rows = [{"part": pickle.dumps(part), "path": str(journal.path(part).resolve())} for part in some]
            data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                PartWorker,
                batch_size=1,
                fn_constructor_args=(
                    str(Path.cwd()),
                    str(model.path.resolve()),
                    model.views,
                    preparation,
                    embedding,
                    None if prior is None else dict(prior),
                ),
                compute=ray.data.ActorPoolStrategy(size=min(count, len(rows))),
                num_cpus=1,
            )
            for row in data.iter_rows():
                advance(int(row["rows"]))


@contextmanager
def _cluster(workers: int | None) -> Iterator[tuple[Any, int]]:
    """Ray, connected, and how many cores its cluster has."""
    address = os.environ.get("RAY_ADDRESS")
    # What is done here is told to nobody, and what Ray's parts tell each other not to the user.
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    # Ray's workers usually step back behind all other programs, which on a shared machine brings them to a halt.
    for name, value in {**quiet, "RAY_worker_niceness": "0"}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"--engine ray needs Ray Data; run {install('cluster')}.") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ours = not ray.is_initialized()
    if ours:
        here = {"num_cpus": workers or cores(), "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        given = {"address": address} if address else {"address": "local", **here}
        try:
            # Ray itself would try for minutes.
            _check_there(address or "")
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **given)
        except (OSError, RuntimeError, ValueError) as error:
            named = address or "this machine"
            raise InputError(f"{named}: no Ray cluster answers ({error}); check RAY_ADDRESS.") from error
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield ray, int(_untyped(ray.cluster_resources)().get("CPU", 1))
    finally:
        context.enable_progress_bars = shown
        if ours:
            ray.shutdown()


def _check_there(address: str) -> None:
    """Raise OSError unless something listens at HOST:PORT; other forms of an address are left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _untyped(function: Any) -> Any:
    """A function of Ray's that states no types."""
    return function
