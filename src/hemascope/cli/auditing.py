"""The command `audit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hemascope.cli.options import ClassMap, Crop, Data, GroupBy, complete_models, load_any
from hemascope.errors import InputError
from hemascope.wording import listed, many


def audit(
    data: Data,
    against: Annotated[
        list[Path] | None, typer.Option(help="Another set that must not share pictures with it; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for audit.html and the tables.")] = None,
    apply: Annotated[
        Path | None,
        typer.Option(help="Write the cleaned set here, in the format it came in, and [NAME.]removed.csv beside it."),
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="A CSV of pixel_hash, decision (keep, drop, relabel) and label, for --apply.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A run to judge labels by; pictures that made it are not judged.", autocompletion=complete_models
        ),
    ] = None,
    outlier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="How many MADs from the median make an outlier in mean, contrast, sharpness, saturation, entropy or "
            "distance, or up to how many grey levels a picture is blank; may be repeated.",
        ),
    ] = None,
    class_map: ClassMap = None,
    group_by: GroupBy = None,
    crop: Crop = None,
) -> None:
    """Find what is wrong with a set of pictures: copies, leaks, non-cells, outliers, wrong labels, shortcuts."""
    import numpy as np

    from hemascope import audit as auditing
    from hemascope.audit import apply as write_cleaned
    from hemascope.audit import read_decisions
    from hemascope.audit.apply import check_places, without_effect
    from hemascope.audit.outliers import OutlierThresholds
    from hemascope.audit_report import write_audit_report
    from hemascope.files import new_folder
    from hemascope.predict import opinions_of

    if out is not None:
        new_folder(out, inputs=[data, *(against or ())], resumes=False)
    if decisions is not None and apply is None:
        raise InputError("--decisions says what to write, but --apply does not say where; add --apply CLEAN.npz.")
    decided = None if decisions is None else read_decisions(decisions)
    thresholds = OutlierThresholds.parsed(outlier or ())
    if apply is not None and data.exists():
        check_places(data, apply, against or ())
    cells = load_any(data, class_map, group_by, crop)
    others = [load_any(path, class_map, None, crop) for path in against or ()]
    given = None if model is None else opinions_of(model, cells)
    found = auditing(
        cells,
        against=others,
        probabilities=given,
        thresholds=thresholds,
        say=lambda sentence: print(sentence, file=sys.stderr),
    )
    if given is not None and (silent := int(np.isnan(given).any(axis=1).sum())):
        print(
            f"! {many(silent, 'picture')} made {model}, or {'is' if silent == 1 else 'are'} of a class that it does "
            "not know: it judges no label there."
        )
    reasons = f": {found.to_look_at}" if found.to_look_at else ""
    print(f"{'!' if found.advice['keep'] < len(found.findings) else ' '} {found.verdict}{reasons}")
    for finding in found.sentences:
        print(f"{'!' if finding.care else ' '} {finding.sentence}")
    if others and not found.findings["is_leak"].any():
        elsewhere = listed([other.source for other in others])
        print(f"  no picture of {cells.source} stands in {elsewhere}, neither the same nor nearly so")
    for sentence in [] if decided is None else without_effect(found, decided):
        print(f"! {sentence}")
    if out is not None:
        found.write(out)
        print(f"written: {write_audit_report(found, out, against=others)}")
    if apply is not None:
        written = write_cleaned(found, data, apply, decided)
        if written.copies:
            print(
                f"! {many(written.copies, 'row')} with a new label {'shows' if written.copies == 1 else 'show'} the "
                "same pixels as another that stays, and went."
            )
        print(f"written: {apply}, less {many(len(written.removed), 'row')}; {written.table} says why")
