"""Read a folder of class folders, and write it again with changes; read loose pictures without labels."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hemascope.data.cells import Cells
from hemascope.data.changes import Changes
from hemascope.data.classes import CLASS_NAMES, LABEL_ORDER_NOTE, label_table
from hemascope.data.pictures import PICTURE_ENDINGS
from hemascope.data.reading import Row, read_pictures
from hemascope.data.text import known_split
from hemascope.errors import InputError
from hemascope.files import replacing_folder

# Controls, the separators of lines and paragraphs, and what turns the direction of writing.
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def read_folder(
    path: Path,
    *,
    size: int | None = 96,
    crop: int | None = None,
    class_map: Mapping[str, str] | None = None,
    group_by: str | None = None,
    classes: tuple[str, ...] = CLASS_NAMES,
) -> Cells:
    """Cells of a folder with a folder for each class, or with train, val and test folders that hold those.

    Pictures may lie deeper inside a class folder. Hidden files are passed over; other files that are not pictures by
    their ending are counted in the notes. Raises InputError when there are no class folders, a folder is named after
    no class, or no picture can be read.
    """
    if group_by is not None:
        raise InputError(
            f"{path.name}: a folder has no columns, so --group-by {group_by} cannot be followed; "
            "list the pictures in a CSV with that column."
        )
    found = [(folder, split, list(_files(folder))) for folder, split in _class_folders(path)]
    pictures = [(folder, split, file) for folder, split, files in found for file in files if is_picture(file)]
    if not pictures:
        raise InputError(
            f"{path}: has no pictures in class folders; expected a folder for each class (basophil, eosinophil, ...) "
            "with its pictures, or name the pictures in a CSV."
        )
    names = list(dict.fromkeys(folder.name for folder, _, _ in pictures))
    table = label_table(names, class_map, path.name, classes)
    notes = [LABEL_ORDER_NOTE] if all(name.strip().isdecimal() for name in names) else []
    others = [file for _, _, files in found for file in files if not is_picture(file)]
    if others:
        notes.append(
            f"Files that are not pictures by their ending were passed over ({len(others):,}: {others[0].name}, ...)."
        )
    rows = [Row(printable(file.relative_to(path)), table[folder.name], split) for folder, split, file in pictures]
    sources = (file for _, _, file in pictures)
    source = path.name or str(path)
    return read_pictures(sources, rows, size=size, crop=crop, source=source, notes=notes, classes=classes)


def rewrite_folder(path: Path, out: Path, changes: Changes) -> None:
    """A copy of the folder with the pictures that stay, byte for byte, each in the folder of the class it has now.

    Where there are no folders of classes, pictures that a person has labelled go into one, and the others stay.
    """
    if holds_pictures(path):
        _rewrite_pictures(path, out, changes)
        return
    pictures = [(folder, file) for folder, _ in _class_folders(path) for file in _files(folder) if is_picture(file)]
    names = [printable(file.relative_to(path)) for _, file in pictures]
    spelling = changes.spelling((name, folder.name) for name, (folder, _) in zip(names, pictures, strict=True))
    with replacing_folder(out) as temporary:
        for name, (folder, file) in zip(names, pictures, strict=True):
            if not changes.stays(name):
                continue
            place, label = file.relative_to(folder), changes.new_label(name)
            target = temporary / folder.relative_to(path)
            if label is not None:
                target = target.with_name(spelling[label])
                # Two classes may each have a picture of that name.
                place = place.with_name(f"{folder.name} {place.name}")
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target / place)


def _rewrite_pictures(path: Path, out: Path, changes: Changes) -> None:
    with replacing_folder(out) as temporary:
        for file in find_pictures([path]):
            name = printable(file)
            if changes.stays(name):
                label = changes.new_label(name)
                target = (temporary if label is None else temporary / CLASS_NAMES[label]) / file.relative_to(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)


def holds_pictures(path: Path) -> bool:
    """Whether a folder holds pictures themselves, and so no folders of classes."""
    return path.is_dir() and any(is_picture(file) for file in path.iterdir())


def _class_folders(path: Path) -> list[tuple[Path, str | None]]:
    """The folders of classes, and the split of each where they lie in folders named after those."""
    splits = {folder: known_split(folder.name) for folder in _folders(path)}
    if splits and all(splits.values()):
        return [(folder, split) for parent, split in splits.items() for folder in _folders(parent)]
    return [(folder, None) for folder in splits]


def load_pictures(
    inputs: str | Path | Sequence[str | Path], *, size: int | None = 96, crop: int | None = None
) -> Cells:
    """Cells without labels from pictures and folders of pictures, at any depth; for prediction.

    inputs: one path or several. The ids are the paths; size and crop are as in `load`. A picture that is missing or
    bad is listed in `unreadable`. Raises InputError when no picture can be read.
    """
    given = [Path(inputs)] if isinstance(inputs, (str, Path)) else [Path(one) for one in inputs]
    files = list(find_pictures(given))
    shown = [printable(file) for file in files]
    source = printable(given[0]) if len(given) == 1 else "the pictures given"
    return read_pictures(iter(files), [Row(name) for name in shown], size=size, crop=crop, source=source)


def find_pictures(inputs: Sequence[str | Path]) -> Iterator[Path]:
    """The files among the inputs, as they are, and the pictures inside the folders among them, sorted; each once.

    Raises InputError for a folder without pictures.
    """
    seen: set[Path] = set()
    for path in map(Path, inputs):
        files = [path]
        if path.is_dir():
            files = [file for file in _files(path) if is_picture(file)]
            if not files:
                raise InputError(
                    f"{path}: holds no pictures ({', '.join(sorted(PICTURE_ENDINGS))}); name another folder."
                )
        yield from (file for file in files if file not in seen)
        seen.update(files)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its ending."""
    return path.suffix.lower() in PICTURE_ENDINGS


def printable(path: Path) -> str:
    """The path with forward slashes; bytes that are no UTF-8, and what would break a line or steer a terminal, are
    spelt out, so that every table and every screen can hold it."""
    text = path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over by its name."""
    return name.startswith(".") or name == "__MACOSX"


def _folders(path: Path) -> list[Path]:
    return sorted(
        Path(entry.path) for entry in os.scandir(path) if not is_hidden(entry.name) and Path(entry.path).is_dir()
    )


def _files(folder: Path) -> Iterator[Path]:
    """Files at any depth, sorted; links to folders are not followed, so that a loop of them ends."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(parent, name) for name in sorted(names) if not is_hidden(name))
