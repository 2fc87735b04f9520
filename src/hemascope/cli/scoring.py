"""The commands `evaluate` and `predict`, which let a trained model name cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hemascope.cli.options import AnyCrop, ClassMap, GroupBy, Prior, Stain, Views, complete_models, load_any, prior_for
from hemascope.errors import InputError
from hemascope.wording import many

if TYPE_CHECKING:
    from collections.abc import Callable

    from hemascope.data import Cells
    from hemascope.evaluate import Evaluation
    from hemascope.preparation.asked import Asked


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A run folder, its model.onnx, or the name of a model of the package.", autocompletion=complete_models
        ),
    ],
    data: Annotated[Path, typer.Argument(help="Labelled pictures, or pictures alone: then what can be said without.")],
    out: Annotated[Path | None, typer.Option(help="A folder for a page, metrics.json and predictions.parquet.")] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another run to compare with, by McNemar's test.", autocompletion=complete_models),
    ] = None,
    stress: Annotated[
        bool,
        typer.Option(
            "--stress",
            help="Corrupt the pictures in every way, too; --out gets stress.html. Keeps them, up to 8 GiB.",
        ),
    ] = False,
    prior: Prior = None,
    spot_check: Annotated[
        int | None, typer.Option("--spot-check", metavar="N", min=1, help="Draw N pictures for a person to label.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="The table of --spot-check, with labels filled in.")] = None,
    class_map: ClassMap = None,
    group_by: GroupBy = None,
    crop: AnyCrop = "cell",
    stain: Stain = "normalise",
    views: Views = 1,
) -> None:
    """Score a trained model on labelled pictures, those that trained it left out; or say what is known without."""
    from hemascope.data import NO_GROUPS_NOTE
    from hemascope.files import new_folder
    from hemascope.preparation.asked import asked_for
    from hemascope.runtime import load_model
    from hemascope.trust.prior import precision_by_class

    shares = prior_for(model, prior)
    if labels is not None and spot_check is None:
        raise InputError("--labels needs --spot-check N, the number of pictures that were drawn; give both.")
    if out is not None:
        new_folder(out, inputs=[data], resumes=False)
    asked = asked_for(crop, stain, views)
    classes = [name for one in (model, against) if one is not None for name in load_model(one).class_names]

    def read(size: int = 96) -> Cells:
        return load_any(data, class_map, group_by, asked.crop, classes, size)

    cells = read()
    for note in cells.notes:
        if note != NO_GROUPS_NOTE:
            print(note)
    if spot_check is not None or not (cells.labels >= 0).any():
        wanted = (("--against", against), ("--stress", stress), ("--prior", prior))
        if named := [name for name, given in wanted if given]:
            raise InputError(f"{named[0]} needs labelled pictures, and --spot-check labels few; leave one of them out.")
        _without_labels(model, cells, out, spot_check, labels, asked, read)
        return
    from hemascope.evaluate import evaluate as score
    from hemascope.evaluate import summary
    from hemascope.preparation.cells import prepared_pictures

    def scored(model: Path) -> Evaluation:
        preparation, shown = prepared_pictures(load_model(model).with_views(views), cells, asked, read)
        for note in preparation.notes if preparation.changes else ():
            print(note)
        found = score(model, cells, shown=shown, views=views)
        found.scores["preparation"] = preparation.as_json() | {"views": views}
        return found

    found = scored(model)
    print(summary(found.scores))
    for sentence in (*found.believe, *found.warnings):
        print(sentence)
    if shares is not None:
        precision = precision_by_class(found.scores["confusion_matrix"], found.scores["class_names"], shares)
        found.scores.update(prior=shares, precision_at_prior=precision)
        told = ", ".join(f"{name} {value:.3f}" for name, value in precision.items() if value is not None)
        print(f"precision at this differential count: {told}")
    if against is not None:
        from hemascope.comparison import compare

        print(compare(found, scored(against), (model.name, against.name))["sentence"])
    if out is not None:
        from hemascope.drawing import draw_answers
        from hemascope.report import write_report

        found.scores["model"] = model.name
        found.scores["weights"] = load_model(model).metadata.get("weights", "unknown")
        found.write(out)
        draw_answers(out / "figures", found.scores, found.predictions, cells, load_model(model))
        page = write_report(out)
    if stress:
        from hemascope.stress import stress as stress_test
        from hemascope.stress_report import draw_stress, write_stress_page
        from hemascope.stress_scores import summary as stress_summary

        # Its pictures are degraded on purpose, one by one, and are not to be repaired as a set.
        print("the stress test shows the pictures as they are, whatever was changed above")
        tested = stress_test(model, cells)
        print(stress_summary(tested.scores))
        for note in tested.notes:
            print(note)
        if out is not None:
            tested.write(out)
            draw_stress(tested, out / "figures")
            print(f"written: {write_stress_page(out)}")
    if out is not None:
        print(f"written: {out}, with {page.name}")
    elif stress:
        print("nothing was written: --out DIR keeps the tables and a page that shows them")


def _without_labels(
    model: Path,
    cells: Cells,
    out: Path | None,
    count: int | None,
    labels: Path | None,
    asked: Asked,
    read: Callable[[int], Cells],
) -> None:
    """What can be said of a model on pictures without labels, and from the few that a spot check labels."""
    from dataclasses import replace

    import numpy as np

    from hemascope.files import replacing, write_json
    from hemascope.judgement import judge_unlabelled, known
    from hemascope.preparation.cells import prepared_pictures
    from hemascope.runtime import answers_of, load_model
    from hemascope.spotcheck import checked, in_words, sample
    from hemascope.trust.fingerprint import known_sentence

    opened = load_model(model).with_views(asked.views)
    preparation, shown = prepared_pictures(opened, cells, asked, read)
    for note in preparation.notes if preparation.changes else ():
        print(note)
    seen = replace(cells, images=shown)
    answers = answers_of(opened, seen, "evaluating")
    predicted = np.array(opened.class_names)[answers.probabilities.argmax(1)]
    counts = {name: int((predicted == name).sum()) for name in opened.class_names}
    for name, why in cells.unreadable.items():
        print(f"{name}: {why}")
    print(
        f"{many(len(cells), 'picture')}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    )
    facts: dict[str, Any] = {"source": cells.source, "rows": len(cells), "predicted": counts}
    facts["unreadable"] = dict(cells.unreadable)
    facts["preparation"] = preparation.as_json() | {"views": asked.views}
    if opened.trust is None:
        print("the model's file does not say when to believe it; export its run again")
    else:
        judged = judge_unlabelled(opened.trust, answers, seen)
        facts |= judged.facts
        for sentence in judged.sentences:
            print(sentence)
        made = known(opened, cells)
        if made is not None and made.any():
            print(known_sentence(made))
    if count is not None and labels is not None:
        found, table = checked(labels, cells.ids, predicted, count)
        facts["spot_check"] = found._asdict()
        print(in_words(found))
        for row in table[table["label"] != table["predicted"]].to_dict("records"):
            print(f"  {row['id']}: labelled {row['label']}, named {row['predicted']}")
    elif count is not None:
        table = sample(cells.ids, count)
        if out is None:
            raise InputError("--spot-check needs --out DIR, where the table to fill in is written; name a folder.")
        with replacing(out / "spot-check.csv") as temporary:
            table.to_csv(temporary, index=False)
        these = f"{'this' if count == 1 else 'these'} {many(count, 'picture')}"
        print(f"label {these}: {out / 'spot-check.csv'}; then give it with --labels")
    if out is not None:
        write_json(out / "metrics.json", facts)
        print(f"written: {out}")


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders of them, patterns in quotes, npz, CSV, Parquet, zip or tar(.gz) files."),
    ],
    model: Annotated[
        Path,
        typer.Option(
            help="A run folder, its model.onnx, or the name of a model that comes with the package.",
            autocompletion=complete_models,
        ),
    ] = Path("small"),
    out: Annotated[
        Path, typer.Option(help="The table, as .csv, .jsonl or .parquet; without an ending a folder of Parquet parts.")
    ] = Path("predictions.csv"),
    crop: AnyCrop = "cell",
    stain: Stain = "normalise",
    views: Views = 1,
    prior: Prior = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a job that was stopped.")] = False,
    columns: Annotated[
        list[str] | None, typer.Option(help="embedding: the numbers that describe a picture, too.")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A sheet for each of the first 100 pictures: where it looks.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="ray: over the cluster that RAY_ADDRESS names, or over the cores here.")
    ] = "local",
) -> None:
    """Name the cell on each picture: one table, a row a picture, also for those that cannot be read."""
    from hemascope.bulk.job import ENGINES, predict_to_table
    from hemascope.runtime import load_model
    from hemascope.trust.prior import prior_in_words

    if unknown := [name for name in columns or () if name != "embedding"]:
        raise InputError(f"--columns {unknown[0]}: there is no such column to add; expected embedding.")
    if engine not in ENGINES:
        raise InputError(f"--engine {engine}: expected {' or '.join(ENGINES)}.")
    shares = prior_for(model, prior)
    if explain is not None:
        from hemascope.files import new_folder

        new_folder(explain, resumes=False)
    found = predict_to_table(
        inputs,
        out,
        model=model,
        crop=crop,
        stain=stain,
        views=views,
        prior=shares,
        resume=resume,
        embedding=bool(columns),
        engine=engine,
    )
    for note in found.notes:
        print(note)
    if found.resumed:
        print(f"{found.resumed:,} of {many(found.rows, 'row')} {'was' if found.resumed == 1 else 'were'} there already")
    counts = ", ".join(f"{count:,} {label}" for label, count in found.by_count())
    print(f"{many(found.rows - found.unreadable, 'picture')}: {counts}")
    if found.doubted:
        print(f"{many(found.doubted, 'answer is', 'answers are')} not to be trusted; the column 'trust' says why")
    if found.unreadable:
        print(f"{found.unreadable:,} could not be read; the column 'error' says why")
    if shares is not None:
        print(f"for this differential count: {prior_in_words(load_model(model).class_names, shares)}")
    print(f"written: {out}")
    if explain is not None:
        from hemascope.explain.sheets import explain_pictures
        from hemascope.preparation.asked import asked_for

        sheets = explain_pictures(model, inputs, explain, asked=asked_for(crop, stain, views), prior=shares)
        print(f"written: {many(sheets, 'sheet')} in {explain}")
