"""What several commands share: arguments and the reading of data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hemascope.errors import InputError

if TYPE_CHECKING:
    from hemascope.data import Cells


def complete_recipes(incomplete: str) -> list[str]:
    """What the shell offers for --recipe: the names that begin so, behind those that a comma ended already."""
    from hemascope.recipe import recipe_names

    done, comma, begun = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in recipe_names() if name.startswith(begun)]


def complete_models(incomplete: str) -> list[str]:
    """What the shell offers for a model before it offers files: those that come with the package."""
    from hemascope.models import shipped_models

    return [name for name in shipped_models() if name.startswith(incomplete)]


Data = Annotated[
    Path, typer.Argument(help="An npz, a folder of class folders, a CSV or TSV of paths and labels, or Parquet.")
]
ClassMap = Annotated[
    list[str] | None, typer.Option("--map", help="NAME=CLASS for a class name that is not known; may be repeated.")
]
GroupBy = Annotated[str | None, typer.Option(help="The column that names the patient or slide of each picture.")]
Crop = Annotated[int | None, typer.Option(help="Use the central square of so many pixels of each picture.")]
AnyCrop = Annotated[
    str,
    typer.Option(
        metavar="cell|whole|PIXELS",
        help="cell: bring a set of another scale to that of training. Or the largest square, or so many pixels.",
    ),
]
Stain = Annotated[
    str,
    typer.Option(metavar="normalise|keep", help="normalise: bring a set of a far stain to the colours of training."),
]
Views = Annotated[int, typer.Option(metavar="N", help="Average over 1, 2, 4 or 8 poses of each picture.")]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|PAIRS",
        help="The differential count where it is used: CLASS=SHARE,CLASS=SHARE,... or a file of it.",
    ),
]


def prior_for(model: Path, text: str | None) -> dict[str, float] | None:
    """The shares or counts by class that --prior gives; None without it.

    Checked against the model's classes before anything is done that takes long.
    """
    if text is None:
        return None
    from hemascope.runtime import load_model
    from hemascope.trust.prior import prior_shares, read_prior

    names = load_model(model).class_names
    shares = read_prior(text, names)
    prior_shares(names, shares)
    return shares


def load_any(
    data: Path,
    class_map: list[str] | None,
    group_by: str | None,
    crop: int | None,
    classes: Iterable[str] = (),
    size: int = 96,
) -> Cells:
    """Labelled data, or pictures alone: a picture, or a folder of pictures without folders of classes."""
    from hemascope.data import load_pictures
    from hemascope.data.folder import holds_pictures, is_picture

    if is_picture(data) or holds_pictures(data):
        return load_pictures(data, crop=crop, size=size)
    return load_cells(data, class_map, group_by, crop, classes, size)


def load_cells(
    data: Path,
    class_map: list[str] | None,
    group_by: str | None,
    crop: int | None,
    classes: Iterable[str] = (),
    size: int = 96,
) -> Cells:
    """Labelled data; classes: those that they may name besides the eight cells. size: the side to bring them to."""
    from hemascope.data import load

    pairs = {}
    for entry in class_map or ():
        name, sign, target = entry.partition("=")
        if not (name and sign and target):
            raise InputError(f"--map is '{entry}', expected NAME=CLASS such as BNE=neutrophil.")
        pairs[name] = target
    return load(data, class_map=pairs or None, group_by=group_by, crop=crop, size=size, classes=classes)
