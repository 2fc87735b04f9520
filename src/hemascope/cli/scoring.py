"""The commands `evaluate` and `predict`, which let a trained model name cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hemascope.cli.options import ClassMap, Crop, Data, GroupBy, load_cells
from hemascope.errors import InputError


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run folder or its model.onnx.")],
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
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, npz or Parquet files.")],
    model: Annotated[Path, typer.Option(help="A run folder or its model.onnx.")],
    out: Annotated[Path, typer.Option(help="The table to write, as .csv or .parquet.")] = Path("predictions.csv"),
    crop: Crop = None,
) -> None:
    """Name the cell on each picture: one table, a row a picture, also for those that cannot be read."""
    from hemascope.files import replacing
    from hemascope.predict import predict as name_cells

    if out.exists():
        raise InputError(f"{out}: exists already; name another file with --out, or remove it first.")
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"{out}: ends in '{out.suffix}', expected .csv or .parquet.")
    table = name_cells(model, list(inputs), crop=crop)
    with replacing(out) as temporary:
        if out.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6f")
        else:
            table.to_parquet(temporary, index=False)
    bad = int((table["error"] != "").sum())
    counts = ", ".join(f"{count:,} {label}" for label, count in table["label"].value_counts().items())
    print(f"{len(table) - bad:,} pictures: {counts}")
    if bad:
        print(f"{bad:,} could not be read; the column 'error' says why")
    print(f"written: {out}")
