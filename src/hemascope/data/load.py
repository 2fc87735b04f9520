"""The front door: a file or folder of any known kind -> Cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from hemascope.data.cells import Cells
from hemascope.data.classes import with_eight
from hemascope.data.folder import is_picture, read_folder
from hemascope.data.npz import read_npz
from hemascope.data.parquet import read_parquet
from hemascope.data.pixels import MIN_SIDE
from hemascope.data.tables import read_table
from hemascope.data.text import NO_GROUPS_NOTE
from hemascope.errors import InputError

READERS: dict[str, Callable[..., Cells]] = {
    ".npz": read_npz,
    ".csv": read_table,
    ".tsv": read_table,
    ".parquet": read_parquet,
    ".pq": read_parquet,
}


def load(
    source: str | Path,
    *,
    size: int | None = 96,
    crop: int | None = None,
    class_map: Mapping[str, str] | None = None,
    group_by: str | None = None,
    classes: Iterable[str] = (),
) -> Cells:
    """Read labelled pictures of cells from whatever they come in.

    source: an npz (`images` and `labels`, or MedMNIST's `train_images`, ...), a folder of class folders, a CSV or TSV
    of paths and labels, or Parquet with `image` and `label` (a file or a folder of them).
    size: side in pixels that every picture is brought to, by its central square and then antialiased resizing; None
    keeps the pictures as they are, which must then be equal.
    crop: side in pixels of the central square that is cut out first; without it, the largest there is.
    class_map: name -> one of the classes, for names that are not known.
    group_by: the column (in an npz the array) that names the patient or slide of each picture.
    classes: those that labels may name besides the eight cells, such as the class_names of a model that learnt more.

    Returns `Cells` whose class_names are the eight of CLASS_NAMES, then the others, and whose notes say what reading
    had to do. An npz that holds just such pictures is memory-mapped and read only where it is used. Pictures that
    cannot be read are in `unreadable`. Raises InputError when the source as a whole cannot be used.
    """
    path = Path(source)
    _check_sides(size, crop)
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the name.")
        cells = _reader(path)(
            path, size=size, crop=crop, class_map=class_map, group_by=group_by, classes=with_eight(classes)
        )
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check the name and your rights."
        ) from error
    if cells.labelled and cells.groups is None:
        cells = replace(cells, notes=(*cells.notes, NO_GROUPS_NOTE))
    return cells


def _check_sides(size: int | None, crop: int | None) -> None:
    for name, side in (("size", size), ("crop", crop)):
        if side is not None and side < MIN_SIDE:
            raise InputError(f"--{name} {side}: a cell needs at least {MIN_SIDE} pixels; give {MIN_SIDE} or more.")


def _reader(path: Path) -> Callable[..., Cells]:
    if path.is_dir():
        return read_parquet if any(path.glob("*.parquet")) else read_folder
    reader = READERS.get(path.suffix.lower())
    if reader is None and is_picture(path):
        raise InputError(
            f"{path.name}: is one picture and has no label; put pictures into class folders or list them in a CSV, "
            "or predict it."
        )
    if reader is None:
        raise InputError(
            f"{path.name}: is of no known kind; expected {', '.join(READERS)}, a folder of class folders or one of "
            "Parquet files."
        )
    return reader
