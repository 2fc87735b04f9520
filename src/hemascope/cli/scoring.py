"""The commands `evaluate` and `predict`, which let a trained model name cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hemascope.cli.options import AnyCrop, ClassMap, GroupBy, Prior, Stain, Views, complete_models, load_any, prior_for
from hemascope.errors import InputError
from hemascope.wording import many

if TYPE_CHECKING:
    from hemascope.data import Cells, Pictures
    from hemascope.evaluate import Evaluation
    from hemascope.runtime import Model
    from hemascope.unlabelled import Unlabelled


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
    labels: Annotated[
        Path | None, typer.Option(help="The table that --spot-check wrote, filled in: what its labels prove.")
    ] = None,
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
    from hemascope.preparation.cells import prepared_pictures
    from hemascope.runtime import load_model
    from hemascope.spotcheck import read_labels
    from hemascope.trust.prior import precision_by_class
    from hemascope.unlabelled import look_at

    shares = prior_for(model, prior)
    few = spot_check is not None or labels is not None
    wanted = (("--against", against), ("--stress", stress), ("--prior", prior))
    needs_labels = f"{named[0]} needs labelled pictures" if (named := [name for name, given in wanted if given]) else ""
    if few and needs_labels:
        raise InputError(f"{needs_labels}, and --spot-check labels few; leave one of them out.")
    if labels is not None:
        read_labels(labels)
    elif spot_check is not None and out is None:
        raise InputError("--spot-check needs --out DIR, where the table to fill in is written; name a folder.")
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
    for name, why in cells.unreadable.items():
        print(f"{name}: {why}")

    def prepared(model: Path) -> tuple[Model, Pictures, dict[str, Any]]:
        """A model, the pictures as it is to see them, and what was done to them."""
        opened = load_model(model).with_views(views)
        preparation, shown = prepared_pictures(opened, cells, asked, read)
        for note in preparation.notes if preparation.changes else ():
            print(note)
        return opened, shown, preparation.as_json() | {"views": views}

    if few or not (cells.labels >= 0).any():
        if needs_labels:
            raise InputError(f"{needs_labels}, and {data} has none; leave it out.")
        opened, shown, done = prepared(model)
        _without_labels(
            look_at(opened, cells, model.name, shown=shown, preparation=done), cells, out, spot_check, labels
        )
        return
    from hemascope.cli.tables import summary
    from hemascope.evaluate import evaluate as score

    def scored(model: Path) -> Evaluation:
        opened, shown, done = prepared(model)
        found = score(model, cells, shown=shown, views=views)
        weights = opened.metadata.get("weights", "unknown")
        found.scores.update(preparation=done, unreadable=dict(cells.unreadable), weights=weights)
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


def _without_labels(found: Unlabelled, cells: Cells, out: Path | None, count: int | None, labels: Path | None) -> None:
    """Say what was found without labels, and what the few prove that a spot check asks for."""
    from hemascope.files import replacing
    from hemascope.spotcheck import checked, sample

    named = ((name, number) for name, number in found.facts["predicted"].items() if number)
    print(f"{many(len(cells), 'picture')}: " + ", ".join(f"{number:,} {name}" for name, number in named))
    table = None
    if labels is not None:
        proved, table = checked(labels, cells.ids, found.predicted)
        found = found.with_spot_check(proved)
    for sentence in found.sentences:
        print(sentence)
    if table is not None:
        for row in table[table["label"] != table["predicted"]].to_dict("records"):
            print(f"  {row['id']}: labelled {row['label']}, named {row['predicted']}")
    elif count is not None and out is not None:
        with replacing(out / "spot-check.csv") as temporary:
            sample(cells.ids, count).to_csv(temporary, index=False)
        these = f"{'this' if count == 1 else 'these'} {many(count, 'picture')}"
        print(f"label {these}: {out / 'spot-check.csv'}; then give it with --labels")
    if out is not None:
        print(f"written: {out}, with {found.write(out).name}")


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
