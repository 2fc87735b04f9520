"""The command `export`, which makes of a run what is handed on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hemascope.cli.options import ClassMap, Crop, GroupBy, complete_models, load_cells
from hemascope.errors import InputError
from hemascope.wording import many

if TYPE_CHECKING:
    from hemascope.export.source import Precision


class Format(StrEnum):
    """What is made of a run."""

    ONNX = "onnx"
    SUBMISSION = "submission"


class Bits(StrEnum):
    """How each weight is kept."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class Runtime(StrEnum):
    """What carries the network of a submission."""

    ONNX = "onnx"
    KERAS = "keras"


def export(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run folder, its model.onnx, or the name of a model of the package.", autocompletion=complete_models
        ),
    ],
    format: Annotated[Format, typer.Option(help="One ONNX file, or the zip of a submission.")] = Format.ONNX,  # noqa: A002
    precision: Annotated[Bits, typer.Option(help="How each weight is kept; int8 needs --data.")] = Bits.FLOAT32,
    runtime: Annotated[Runtime, typer.Option(help="What carries the network of a submission.")] = Runtime.ONNX,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; without it RUN-PRECISION.onnx or submission.zip.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="For int8 the data of the run; for a submission cells that it is asked about, too."),
    ] = None,
    most_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The largest loss in accuracy that int8 may bring.")
    ] = 0.005,
    heatmap: Annotated[
        bool, typer.Option(help="Whether the file can draw heat maps, where the run can; they cost nothing unasked.")
    ] = True,
    python: Annotated[
        Path | None, typer.Option(help="The Python that a submission is proved with; this one if not told.")
    ] = None,
    class_map: ClassMap = None,
    group_by: GroupBy = None,
    crop: Crop = None,
) -> None:
    """Make one ONNX file or the zip of a submission of a run, checked against the run before it is kept."""
    from hemascope.export.file import export_file
    from hemascope.export.source import beside, check_new
    from hemascope.export.submission import export_submission
    from hemascope.runtime import load_model

    submission = format is Format.SUBMISSION
    if out is None:
        stem = run.stem if run.suffix == ".onnx" else run.resolve().name
        out = Path("submission.zip" if submission else f"{stem}-{precision.value}.onnx")
    check_new(out, ".zip" if submission else ".onnx")
    if not submission and (runtime is not Runtime.ONNX or python is not None):
        raise InputError("--runtime and --python belong to a submission; add --format submission, or leave them out.")
    cells = None if data is None else load_cells(data, class_map, group_by, crop, load_model(run).class_names)
    bits: Precision = precision.value
    if submission:
        facts = export_submission(run, out, runtime.value, precision=bits, python=python, data=cells)
    else:
        facts = export_file(run, out, bits, data=cells, most_loss=most_loss, heatmap=heatmap)
    for sentence in sentences(facts):
        print(sentence)
    print(f"written: {out}, {facts['bytes']['exported'] / 2**20:.1f} MiB, and {beside(out)}")


def sentences(facts: dict[str, Any]) -> list[str]:
    """What an export found, in words."""
    told = []
    for name, found in facts["differences"].items():
        parts = list(found.values()) if "probability" not in found else [found]
        largest, labels = max(part["probability"] for part in parts), sum(part["labels"] for part in parts)
        answers = sum(part["answers"] for part in parts)
        told.append(
            f"against the run's {name}: at most {largest:.2g} in a probability, {labels:,} of "
            f"{many(answers, 'answer')} {'names' if labels == 1 else 'name'} another class"
        )
    if loss := facts.get("accuracy"):
        told.append(
            f"accuracy on {many(loss['rows'], 'held-out picture')}: {loss['after']:.4f}, before {loss['before']:.4f}; "
            f"mildly corrupted: {loss['corrupted_after']:.4f}, before {loss['corrupted_before']:.4f}"
        )
    if apart := facts.get("apart"):
        versions = ", ".join(f"{name} {version}" for name, version in apart["versions"].items())
        told.append(
            f"asked apart, with {versions}: {apart['milliseconds_a_picture']:.1f} ms a picture, at most "
            f"{apart['most_memory_mib']:,} MiB"
        )
    if times := facts.get("milliseconds_a_picture"):
        told.append(
            "ms a picture, one by one and 64 at a time: "
            + "; ".join(
                f"{name} {' and '.join(f'{value:.2f}' for value in took.values())}" for name, took in times.items()
            )
        )
    return told
