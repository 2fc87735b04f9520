"""The commands: typed functions, thin over the Python API."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hemascope.errors import InputError
from hemascope.processes import leads, processes
from hemascope.stopping import StoppedError, raising_on_signals, tell
from hemascope.version import __version__

if TYPE_CHECKING:
    from hemascope.data import Cells
    from hemascope.recipe import Recipe

app = typer.Typer(
    help="Audit, train, stress and trust classifiers of single blood cells. Research only, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Data = Annotated[
    Path, typer.Argument(help="An npz, a folder of class folders, a CSV or TSV of paths and labels, or Parquet.")
]
ClassMap = Annotated[
    list[str] | None, typer.Option("--map", help="NAME=CLASS for a class name that is not known; may be repeated.")
]
GroupBy = Annotated[str | None, typer.Option(help="The column that names the patient or slide of each picture.")]
Crop = Annotated[int | None, typer.Option(help="Use the central square of so many pixels of each picture.")]


def main() -> None:
    """Run the command line; bad input ends it with one sentence and exit status 2, a signal with 128 and its number."""
    try:
        with raising_on_signals():
            app()
    except InputError as error:
        print(f"hemascope: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"hemascope: {where}there is no room left on the disk; make some and try again.", file=sys.stderr)
        raise SystemExit(2) from None
    except StoppedError as stopped:
        tell(f"hemascope: {stopped}")
        raise SystemExit(stopped.exit_status) from None


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Options that stand before a command."""


@app.command()
def train(
    data: Data,
    recipe: Annotated[str, typer.Option(help="A recipe's name or YAML file; several, with commas, are compared.")],
    out: Annotated[Path, typer.Option(help="The run folder to write; it must not exist or be empty.")],
    test: Annotated[Path | None, typer.Option(help="A further labelled file, scored with the chosen model.")] = None,
    all_tests: Annotated[bool, typer.Option(help="Score every recipe on test rows, not the chosen alone.")] = False,
    pretrained: Annotated[
        str | None, typer.Option(help="In place of the recipe's: auto, required, none or a safetensors file.")
    ] = None,
    seed: Annotated[
        str, typer.Option(help="Decides split, draws and order; several, with commas, are compared on one split.")
    ] = "0",
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds, counted from --seed on.")] = None,
    split_seed: Annotated[
        int | None, typer.Option(min=0, help="Decides the split in place of the first --seed.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop training when so much time is used.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many epochs in each stage.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Go on without the pictures that stand on two sides.")
    ] = False,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on 12, 25, 50, 100 % of rows.")
    ] = False,
    search: Annotated[
        float | None, typer.Option("--search", metavar="MINUTES", help="Search the recipe's fields for so long.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only draw what augmentation does.")] = False,
    stress: Annotated[bool, typer.Option("--stress", help="The whole stress test on the test rows, too.")] = False,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures at a time through the network; the batch stays.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network, with CUDA graphs on a GPU.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write scalars to OUT/tensorboard, too.")] = False,
    class_map: ClassMap = None,
    group_by: GroupBy = None,
    crop: Crop = None,
) -> None:
    """Clean, split, train, score and report: the main job, from labelled pictures to RUN/report.html."""
    from hemascope import pipeline

    recipes = [_recipe(name.strip(), pretrained, epochs) for name in recipe.split(",") if name.strip()]
    if repeated := [one.name for one in recipes if sum(one.name == other.name for other in recipes) > 1]:
        raise InputError(f"--recipe names '{repeated[0]}' more than once; name each recipe once.")
    if (learning_curve or preview) and len(recipes) != 1:
        raise InputError(f"--recipe names {len(recipes)} recipes; --learning-curve and --preview take one.")
    if processes().total > 1 and (len(recipes) != 1 or learning_curve or preview):
        raise InputError(
            "several processes train one recipe together; name one, without --learning-curve or --preview."
        )
    if stress and (learning_curve or preview):
        raise InputError("--stress needs a score on the test rows, which --learning-curve and --preview do not give.")
    numbers = _seeds(seed, seeds)
    if len(numbers) > 1 and (learning_curve or preview):
        raise InputError(f"--seed names {len(numbers)} seeds; --learning-curve and --preview take one.")
    if search is not None:
        alone = {
            "--test": test, "--all-tests": all_tests, "--stress": stress, "--learning-curve": learning_curve,
            "--preview": preview, "--max-minutes": max_minutes,
        }  # fmt: skip
        _check_search(search, recipes, numbers, [name for name, given in alone.items() if given])
    first = numbers[0] if split_seed is None else split_seed
    options: dict[str, Any] = {
        "split_seed": first, "device": device, "precision": precision, "max_minutes": max_minutes, "resume": resume,
        "allow_leaks": allow_leaks, "micro_batch": micro_batch, "compiled": compiled, "tensorboard": tensorboard,
    }  # fmt: skip
    if leads() and not (resume or preview):
        from hemascope.files import new_folder

        new_folder(out, inputs=[data])
    pipeline.require_training()
    cells = _load(data, class_map, group_by, crop)
    further = None if test is None else _load(test, class_map, None, crop)
    if preview:
        path = pipeline.preview(
            pipeline.prepare(cells, seed=first, allow_leaks=True), recipes[0], out / "preview.png", seed=numbers[0]
        )
        print(f"preview: {path}")
    elif search is not None:
        from hemascope.search import search_recipe

        del options["max_minutes"]
        search_recipe(cells, recipes[0], out, minutes=search, seed=numbers[0], **options)
    elif learning_curve:
        from hemascope.search import learning_curve as grow

        _print_table(grow(cells, recipes[0], out, seed=numbers[0], **options))
    elif len(recipes) > 1 or len(numbers) > 1:
        from hemascope.search import compare_recipes

        options |= {"test": further, "all_tests": all_tests, "stress": stress}
        _print_table(compare_recipes(cells, recipes, out, seeds=numbers, **options))
    else:
        from hemascope.evaluate import summary

        run = pipeline.train(cells, recipes[0], out, test=further, stress=stress, seed=numbers[0], **options)
        if not leads():
            return
        import json

        print(summary(json.loads(run.metrics.read_text(encoding="utf-8"))["test"]))


@app.command()
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
    cells = _load(data, class_map, group_by, crop)
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


@app.command()
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
        Path | None, typer.Option(help="A run to judge labels by; pictures that made it are not judged.")
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
    cells = _load(data, class_map, group_by, crop)
    others = [_load(path, class_map, None, crop) for path in against or ()]
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
            f"! {silent:,} pictures made {model}, or are of a class that it does not know: it judges no label of them."
        )
    for finding in found.sentences:
        print(f"{'!' if finding.care else ' '} {finding.sentence}")
    for sentence in [] if decided is None else without_effect(found, decided):
        print(f"! {sentence}")
    if out is not None:
        found.write(out)
        print(f"written: {write_audit_report(found, out, against=others)}")
    if apply is not None:
        written = write_cleaned(found, data, apply, decided)
        if written.copies:
            print(f"! {written.copies:,} rows with a new label show the same pixels as another that stays, and went.")
        print(f"written: {apply}, less {len(written.removed):,} rows; {written.table} says why")


@app.command()
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


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="The npz file to write.")],
    count: Annotated[int, typer.Option(min=8, help="How many cells to draw.")] = 1200,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides every pixel; another seed draws other cells, the same one shares rows.")
    ] = 0,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Add what spoils real files, for trying the clean-up.")
    ] = False,
) -> None:
    """Draw cells of the eight classes by a program: data to try everything on."""
    from hemascope.data import save_npz
    from hemascope.synthetic import draw_cells

    if out.exists():
        raise InputError(f"{out}: exists already; name another file, or remove it first.")
    if out.suffix != ".npz":
        raise InputError(f"{out}: ends in '{out.suffix}', expected .npz.")
    cells = draw_cells(count, seed=seed, dirty=dirty)
    save_npz(cells, out)
    print(f"written: {out}, {len(cells):,} pictures")


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="bloodmnist or pbc.")],
    out: Annotated[Path, typer.Argument(help="The npz file to write.")],
    size: Annotated[int | None, typer.Option(help="Picture size; bloodmnist comes in 28, 64, 128, 224.")] = None,
) -> None:
    """Fetch public data from their archive, with the checksum checked."""
    from hemascope.download import download as fetch

    print(f"written: {fetch(name, out) if size is None else fetch(name, out, size=size)}")


@app.command()
def doctor() -> None:
    """Say what is installed, on what machine, with which models, and how to get what is missing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hemascope.doctor import examine

    table = Table(show_header=False, box=None, padding=(0, 1))
    for finding in examine():
        mark = "[green]ok[/green]" if finding.well else "[yellow]--[/yellow]"
        advice = f"\n[yellow]→ {escape(finding.advice)}[/yellow]" if finding.advice else ""
        table.add_row(mark, f"[bold]{finding.subject}[/bold]", escape(finding.found) + advice)
    Console().print(table)


def _recipe(name: str, pretrained: str | None, epochs: int | None) -> Recipe:
    from hemascope.recipe import load_recipe

    recipe = load_recipe(name)
    if pretrained is not None:
        recipe = recipe.model_copy(update={"pretrained": pretrained})
    if epochs is not None:
        stages = tuple(stage.model_copy(update={"epochs": min(stage.epochs, epochs)}) for stage in recipe.stages)
        recipe = recipe.model_copy(update={"stages": stages})
    return recipe


def _seeds(named: str, count: int | None) -> list[int]:
    """The seeds that --seed and --seeds name."""
    words = [word.strip() for word in named.split(",") if word.strip()]
    if wrong := [word for word in words if not (word.isascii() and word.isdigit() and len(word) < 10)]:
        raise InputError(f"--seed is '{wrong[0]}', expected a whole number from 0 on, or several with commas.")
    seeds = [int(word) for word in words]
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"--seed is '{named}', expected at least one seed, and each once.")
    if count is None:
        return seeds
    if len(seeds) > 1:
        raise InputError("--seed names several seeds already; leave --seeds out, or name the first one alone.")
    return list(range(seeds[0], seeds[0] + count))


def _check_search(minutes: float, recipes: list[Recipe], seeds: list[int], others: list[str]) -> None:
    if minutes <= 0:
        raise InputError(f"--search is {minutes:g}, expected the minutes that it may take.")
    if len(recipes) != 1 or len(seeds) != 1:
        raise InputError(f"--search takes one recipe and one seed; found {len(recipes)} and {len(seeds)}.")
    if others:
        raise InputError(
            f"--search and {others[0]} exclude each other; train the best.yaml that it finds with the latter."
        )


def _load(data: Path, class_map: list[str] | None, group_by: str | None, crop: int | None) -> Cells:
    from hemascope.data import load

    pairs = {}
    for entry in class_map or ():
        name, sign, target = entry.partition("=")
        if not (name and sign and target):
            raise InputError(f"--map is '{entry}', expected NAME=CLASS such as BNE=neutrophil.")
        pairs[name] = target
    return load(data, class_map=pairs or None, group_by=group_by, crop=crop)


def _print_table(table: Any) -> None:
    """The columns that a choice is made by, on as many characters as they need; the CSV holds the rest."""
    from rich.console import Console
    from rich.table import Table

    hidden = ("_low", "_high", "_std", "balanced_accuracy")
    columns = [name for name in table.columns if not str(name).endswith(hidden)]
    shown = Table()
    for column in columns:
        numbers = table[column].dtype.kind in "fi"
        title = str(column) if str(column).startswith("accuracy on") else str(column).replace("_", " ")
        shown.add_column(title, justify="right" if numbers else "left", overflow="fold")
    for row in table.to_dict("records"):
        shown.add_row(*(_cell(row[column]) + _spread(row.get(f"{column}_std")) for column in columns))
    Console().print(shown)


def _spread(deviation: float | None) -> str:
    return "" if deviation is None or deviation != deviation else f" ± {deviation:.4f}"


def _cell(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
