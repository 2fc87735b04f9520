"""A run -> one ONNX file in a chosen precision, checked against the run from picture files on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.export.check import (
    Answering,
    Difference,
    Files,
    compare_files,
    milliseconds,
    picture_files,
    trained_network,
)
from hemascope.export.graph import add_metadata
from hemascope.export.int8 import Loss, held_out_rows, in_8_bits, loss_of, mildly_corrupted
from hemascope.export.on_request import without_heatmap
from hemascope.export.source import TOLERANCES, Precision, Source, beside, check_new, facts_of, open_source
from hemascope.files import replacing, write_json
from hemascope.runtime import Model

MOST_LOSS = 0.005
RESIZED = 1e-2
"""The same for pictures of another size, from files on: a sum that lies just between two grey levels falls on either
side, in `hemascope.resize` and in the file, which add in different orders."""


def export_file(
    run: str | Path,
    out: str | Path,
    precision: Precision = "float32",
    *,
    data: Cells | None = None,
    most_loss: float = MOST_LOSS,
    heatmap: bool = True,
) -> dict[str, Any]:
    """Write a run's model as one ONNX file, and beside it OUT.json: differences, sizes, times, hash of the run.

    run: a run folder, its model.onnx, or the name of a model that comes with the package. data: for int8, the cells
    that the run was made of; those that it held out give the scales, and the loss in accuracy. most_loss: the largest
    loss that int8 may bring. heatmap: whether to keep what makes heat maps, where the run has it; int8 never does.

    Returns what OUT.json holds. Raises InputError, and leaves no file, when the export differs from the run by more
    than its precision explains.
    """
    out = Path(out)
    check_new(out, ".onnx")
    source = open_source(run)
    facts = facts_of(source, out, precision)
    with replacing(out) as temporary:
        if precision == "int8":
            loss = _write_int8(source, temporary, data)
            facts["accuracy"] = loss.as_json()
            check_loss(loss, most_loss, out.name)
        else:
            proto = source.in_precision(precision)
            _save(source, proto if heatmap else without_heatmap(proto), precision, temporary)
        facts |= check_against(source, Model(temporary), precision)
        facts["bytes"] = {"run": source.model.path.stat().st_size, "exported": temporary.stat().st_size}
        write_json(beside(out), facts)
    return facts


def _save(source: Source, proto: onnx.ModelProto, precision: Precision, path: Path) -> None:
    add_metadata(proto, {entry.key: entry.value for entry in source.proto.metadata_props})
    add_metadata(proto, source.told(precision))
    onnx.save(proto, path)


def _write_int8(source: Source, path: Path, data: Cells | None) -> Loss:
    if data is None or source.folder is None:
        raise InputError(
            "int8 takes its scales from pictures that the run held out; give the whole folder of the run and, with "
            "--data, the file that it was trained on."
        )
    calibrating, measuring = held_out_rows(data, source.folder)
    images = np.asarray(data.images[calibrating])
    proto = in_8_bits(source.proto, np.concatenate([images, mildly_corrupted(images, calibrating)]))
    _save(source, proto, "int8", path)
    return loss_of(Model(path), source.model, data, measuring)


def check_loss(loss: Loss, most_loss: float, name: str) -> None:
    """Raise InputError when a file in 8 bits loses more accuracy than it may."""
    if not loss.worst <= most_loss:
        raise InputError(
            f"{name}: on {loss.rows:,} held-out pictures its accuracy is {loss.after:.4f} instead of {loss.before:.4f} "
            f"and {loss.corrupted_after:.4f} instead of {loss.corrupted_before:.4f} where they are mildly corrupted, a "
            f"loss of {loss.worst:.4f}, expected at most {most_loss:g}; no file was kept: use --precision float16, or "
            "allow more with --most-loss."
        )


def check_against(source: Source, exported: Model, precision: Precision) -> dict[str, Any]:
    """How far an exported file is from the run's file and from the weights that trained it, and how fast both are.

    Raises InputError when a difference is larger than the precision explains or, but for int8, a label is another.
    """
    size = source.model.image_size
    files = picture_files(size)
    allowed = TOLERANCES.get(precision)
    references: list[tuple[str, Answering, float | None]] = [("model.onnx", source.model.predict, allowed)]
    if source.folder is not None and (network := trained_network(source.folder, source.proto, size)) is not None:
        looser = None if allowed is None else max(allowed, source.tolerance_of_weights)
        references.append(("weights.safetensors", network, looser))
    differences = {}
    for name, answer, most in references:
        differences[name] = compare_files(exported, answer, files)
        for words, found in differences[name].items():
            resized = files.as_stored[words].shape != files.as_loaded[words].shape
            if most is not None:
                check_difference(found, max(most, RESIZED) if resized else most, f"pictures of {words}", name)
    # Whatever the file's own resizing brings, it must be the same as that of the run's file.
    same = Files(files.as_stored, files.as_stored)
    differences["model.onnx, asked about the same pixels"] = compare_files(exported, source.model.predict, same)
    if allowed is not None:
        for words, found in differences["model.onnx, asked about the same pixels"].items():
            check_difference(found, allowed, f"pictures of {words}", "model.onnx")
    own = files.as_stored[f"{size} x {size}"]
    scores = [model.answers(own).outlier_score for model in (exported, source.model)]
    return {
        "differences": {
            name: {words: found.as_json() for words, found in sizes.items()} for name, sizes in differences.items()
        },
        "largest_difference_in_outlier_score": float(np.abs(scores[0] - scores[1]).max()),
        "milliseconds_a_picture": {
            name: milliseconds(model, own) for name, model in (("run", source.model), ("exported", exported))
        },
    }


def check_difference(found: Difference, allowed: float, pictures: str, reference: str) -> None:
    """Raise InputError when an export is further from what it came from than is allowed, or names a cell otherwise."""
    if not (found.probability <= allowed and not found.labels):
        raise InputError(
            f"the export differs from the run's {reference} by {found.probability:.2g} in a probability and names "
            f"{found.labels:,} of {found.answers:,} {pictures} otherwise, expected at most {allowed:g} and none; no "
            "file was kept: report this with the run's config.yaml."
        )
