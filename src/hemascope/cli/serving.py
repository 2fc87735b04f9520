"""The commands `serve` and `review`, which open a page in a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hemascope.cli.options import ClassMap, Crop, complete_models, load_cells
from hemascope.errors import InputError

if TYPE_CHECKING:
    from hemascope.data import Cells


def serve(
    model: Annotated[
        Path,
        typer.Argument(
            help="A run folder, its model.onnx, or the name of a model that comes with the package.",
            autocompletion=complete_models,
        ),
    ] = Path("small"),
    host: Annotated[str, typer.Option(help="The address to listen on; by default this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any that is free.", min=0, max=65535)] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="HEMASCOPE_TOKEN", show_envvar=True, help="What clients must bring as 'Authorization: Bearer TOKEN'."
        ),
    ] = None,
    files: Annotated[int, typer.Option(help="Pictures in one request, at most.", min=1)] = 64,
    queue: Annotated[int, typer.Option(help="Pictures of all clients that may wait, at most.", min=1)] = 256,
    pixels: Annotated[int, typer.Option(help="Pixels of one picture, at most.", min=64)] = 4_000_000,
    crop: Crop = None,
) -> None:
    """Answer over HTTP, with a page to drop pictures on; nothing that is sent is written to disk."""
    from hemascope.runtime import PURPOSE, load_model
    from hemascope.serve.api import make_app
    from hemascope.serve.guard import LOOPBACK_NAMES, is_loopback
    from hemascope.serve.limits import Limits
    from hemascope.serve.running import address_of, exposure, listening, run

    if token is not None and not token.strip():
        raise InputError("the token is empty; give one that cannot be guessed, or none.")
    limits = Limits(files=files, queue=queue, pixels=pixels)
    # One thread for each batch: several batches at a time come further than threads that share one, and wait for it.
    loaded = load_model(model, threads=1)
    with listening(host, port) as listener:
        if warning := exposure(host, token):
            print(f"! {warning}", file=sys.stderr)
        hosts = LOOPBACK_NAMES | {host} if is_loopback(host) else None
        app = make_app(loaded, name=_name_of(model), limits=limits, token=token, hosts=hosts, crop=crop)
        print(f"{PURPOSE} {_name_of(model)} answers at {address_of(listener)}; Ctrl-C ends it.", flush=True)
        run(app, listener, limits.stop_seconds, lambda sentence: print(sentence, file=sys.stderr))


def review(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="[AUDIT_DIR] DATA", help="The folder that `audit --out` wrote, and the audited data."),
    ],
    decisions: Annotated[
        Path, typer.Option(help="The CSV to keep decisions in, for `audit --decisions`; what it holds is gone on from.")
    ] = Path("decisions.csv"),
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model whose answers the spot check is about, instead of the labels.", autocompletion=complete_models
        ),
    ] = None,
    sample: Annotated[int, typer.Option(help="Pictures of the spot check; 0 for none.", min=0)] = 60,
    seed: Annotated[int, typer.Option(help="Of the drawing of the spot check.", min=0)] = 0,
    port: Annotated[int, typer.Option(help="The port; 0 for any that is free.", min=0, max=65535)] = 8001,
    class_map: ClassMap = None,
    crop: Crop = None,
) -> None:
    """Decide by keys on what an audit points at, and check some random labels; on this machine alone."""
    from hemascope.files import check_writable
    from hemascope.runtime import load_model
    from hemascope.serve.desk import Desk, SpotDesk, items_of, read_findings, rows_to_check
    from hemascope.serve.review import make_review
    from hemascope.serve.running import address_of, listening, run

    if len(places) > 2:
        raise InputError(f"review takes [AUDIT_DIR] DATA, but {len(places)} places were given; give one or two.")
    *folder, data = places
    check_writable(decisions, [data])
    findings = read_findings(folder[0]) if folder else None
    cells = load_cells(data, class_map, None, crop, () if model is None else load_model(model).class_names)
    items = [] if findings is None else items_of(cells, findings)
    spot = None
    if sample:
        rows = rows_to_check(cells, sample, seed, labelled=model is None)
        path = decisions.with_name(f"{decisions.stem}.spot-check.csv")
        spot = SpotDesk(path, cells, rows, _to_check(model, cells, rows))
    desk = Desk(decisions, cells.class_names) if findings is not None else None
    if spot is None and desk is None:
        raise InputError("there is nothing to review; give the folder of an audit, or a --sample above 0.")
    with listening("127.0.0.1", port) as listener:
        kept = decisions if spot is None or desk is not None else spot.path
        print(f"review at {address_of(listener)}; every decision goes to {kept} at once; Ctrl-C ends it.", flush=True)
        run(make_review(cells, items, desk, spot), listener, 5, lambda sentence: print(sentence, file=sys.stderr))


def _to_check(model: Path | None, cells: Cells, rows: list[int]) -> list[str]:
    """What a person is to agree with: the labels of the data, or what a model says."""
    import numpy as np

    from hemascope.predict import probabilities_for

    drawn = cells.take(np.array(rows, np.int64))
    places = drawn.labels if model is None else probabilities_for(model, drawn).argmax(axis=1)
    return [cells.class_names[int(place)] for place in places]


def _name_of(model: Path) -> str:
    return model.name if model.suffix != ".onnx" else model.stem
