"""Write files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hemascope.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix; renamed to `path` when the block ends well, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; renamed to `path`, where nothing may stand, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file at once."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file at once; NaN is refused, as JSON has none."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def new_folder(path: Path, *, inputs: Iterable[Path] = (), resumes: bool = True) -> Path:
    """The path of an output folder that does not exist yet or is empty; made when it is first written to.

    inputs: what is read, as for `check_writable`. resumes: whether who asks can go on with a run that stands there.
    Raises InputError when something stands there already, or nothing can be written there.
    """
    check_writable(path, inputs)
    if resumes and any(found for pattern in ("config.yaml", "*/config.yaml") for found in path.glob(pattern)):
        raise InputError(f"{path}: holds a run already; go on with it by --resume, or name another folder.")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path}: the folder exists and is not empty; name another, or remove it first.")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, expected a folder to write to; name another.")
    return path


def check_writable(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise InputError unless a file or a folder can be made at `path`, before work is done that would be lost.

    inputs: what is read. Nothing may be written into a folder among them: it would count as data the next time. The
    name - is refused: who gives it means the standard output, and gets no folder of that name.
    """
    if path.name == "-":
        raise InputError(
            f"{path}: stands for the standard output, expected a place on the disk; name a file or a folder."
        )
    try:
        for source in inputs:
            if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
                raise InputError(f"{path}: lies inside {source}, which is only read; name a place outside of it.")
        missing = path
        while not os.path.lexists(missing.parent):
            missing = missing.parent
        there = path if path.is_dir() else missing.parent
        if not there.is_dir():
            raise InputError(f"{path}: {there} is no folder, so nothing can be written inside it; name another place.")
        # What a folder grants is known for sure only once something stands in it.
        tempfile.TemporaryDirectory(prefix=f".{missing.name}.", dir=there).cleanup()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); name another place.") from error
