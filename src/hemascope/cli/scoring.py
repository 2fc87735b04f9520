"""The commands `evaluate` and `predict`, which let a trained model name cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hemascope.cli.options import ClassMap, Crop, Data, GroupBy, load_cells
from hemascope.errors import InputError


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run folder, its model.onnx, or the name of a model of the package.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="A folder for metrics.json and predictions.parquet.")] = None,
    against: Annotated[Path | None, typer.Option(help="Another run to compare with, by McNemar's test.")] = None,
    stress: Annotated[
        bool,
        typer.Option(
            "--stress",
            help="Corrupt the pictures in every way, too; --out gets stress.html. Keeps them, up to 8 GiB.",
        ),
    ] = False,
    class_map: ClassMap = None,
    group_by: GroupBy = None,
    crop: Crop = None,
) -> None:
    """Score a trained model on labelled pictures; those that trained it are left out."""
    from hemascope.data import NO_GROUPS_NOTE
    from hemascope.evaluate import compare, summary
    from hemascope.evaluate import evaluate as score
    from hemascope.files import new_folder

    if out is not None:
        new_folder(out, inputs=[data], resumes=False)
    cells = load_cells(data, class_map, group_by, crop)
    for note in cells.notes:
        if note != NO_GROUPS_NOTE:
            print(note)
    found = score(model, cells)
    print(summary(found.scores))
    for warning in found.warnings:
        print(warning)
    if against is not None:
        print(compare(found, score(against, cells), (model.name, against.name))["sentence"])
    if out is not None:
        found.write(out)
    if stress:
        from hemascope.stress import stress as stress_test
        from hemascope.stress_report import draw_stress, write_stress_page
        from hemascope.stress_scores import summary as stress_summary

        tested = stress_test(model, cells)
        print(stress_summary(tested.scores))
        for note in tested.notes:
            print(note)
        if out is not None:
            tested.write(out)
            draw_stress(tested, out / "figures")
            print(f"written: {write_stress_page(out)}")
    if out is not None:
        print(f"written: {out}")
    elif stress:
        print("nothing was written: --out DIR keeps the tables and a page that shows them")


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders of them, patterns in quotes, npz, CSV, Parquet, zip or tar(.gz) files."),
    ],
    model: Annotated[
        Path, typer.Option(help="A run folder, its model.onnx, or the name of a model that comes with the package.")
    ] = Path("small"),
    out: Annotated[
        Path, typer.Option(help="The table, as .csv, .jsonl or .parquet; without an ending a folder of Parquet parts.")
    ] = Path("predictions.csv"),
    crop: Crop = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a job that was stopped.")] = False,
    columns: Annotated[
        list[str] | None, typer.Option(help="embedding: the numbers that describe a picture, too.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="ray: over the cluster that RAY_ADDRESS names, or over the cores here.")
    ] = "local",
) -> None:
    """Name the cell on each picture: one table, a row a picture, also for those that cannot be read."""
    from hemascope.bulk.job import ENGINES, predict_to_table

    if unknown := [name for name in columns or () if name != "embedding"]:
        raise InputError(f"--columns {unknown[0]}: there is no such column to add; expected embedding.")
    if engine not in ENGINES:
        raise InputError(f"--engine {engine}: expected {' or '.join(ENGINES)}.")
    found = predict_to_table(inputs, out, model=model, crop=crop, resume=resume, embedding=bool(columns), engine=engine)
    if found.resumed:
        print(f"{found.resumed:,} of the {found.rows:,} rows were there already")
    counts = ", ".join(f"{count:,} {label}" for label, count in found.by_count())
    print(f"{found.rows - found.unreadable:,} pictures: {counts}")
    if found.doubted:
        print(f"{found.doubted:,} answers are not to be trusted; the column 'trust' says why")
    if found.unreadable:
        print(f"{found.unreadable:,} could not be read; the column 'error' says why")
    print(f"written: {out}")
