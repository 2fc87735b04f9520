"""Write files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
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


def new_folder(path: Path) -> Path:
    """The path of an output folder that does not exist yet or is empty; made when it is first written to.

    Raises InputError when something stands there already.
    """
    if (path / "config.yaml").is_file():
        raise InputError(f"{path}: holds a run already; go on with it by --resume, or name another folder with --out.")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path}: the folder exists and is not empty; name another with --out, or remove it first.")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, expected a folder to write to; name another with --out.")
    return path
