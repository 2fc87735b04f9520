"""The commands `sample` and `download`, which make data, `recipes`, and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hemascope.errors import InputError


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


def download(
    name: Annotated[str, typer.Argument(help="bloodmnist or pbc.")],
    out: Annotated[Path, typer.Argument(help="The npz file to write.")],
    size: Annotated[int | None, typer.Option(help="Picture size; bloodmnist comes in 28, 64, 128, 224.")] = None,
) -> None:
    """Fetch public data from their archive, with the checksum checked."""
    from hemascope.download import download as fetch

    print(f"written: {fetch(name, out) if size is None else fetch(name, out, size=size)}")


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe as YAML, to begin one of your own.")] = None,
    fields: Annotated[bool, typer.Option("--fields", help="Say what may stand in a recipe.")] = False,
) -> None:
    """List the recipes that come with hemascope, print one, or say what may stand in one."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hemascope.recipe import field_help, load_recipe, recipe_names, recipe_text

    if name is not None:
        print(recipe_text(name), end="")
        return
    lines = field_help() if fields else [(known, load_recipe(known).description) for known in recipe_names()]
    table = Table(show_header=False, box=None, padding=(0, 1))
    for called, told in lines:
        table.add_row(f"[bold]{called}[/bold]", escape(told))
    Console().print(table)


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
