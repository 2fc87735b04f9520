"""What a notebook uses, as the README shows it."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import hemascope
from hemascope.cli import main
from hemascope.recipe import Recipe

README = Path(__file__).resolve().parent.parent / "README.md"


def test_functions_are_not_hidden_by_the_modules_of_their_name() -> None:
    for name in ("train", "split", "clean", "evaluate", "predict", "stress"):
        importlib.import_module(f"hemascope.{name}")
        assert callable(getattr(hemascope, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(hemascope, "nothing")  # noqa: B009


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the files that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    cells = hemascope.draw_cells(160, seed=1, size=32)
    hemascope.save_npz(cells, "cells.npz")
    hemascope.save_npz(hemascope.draw_cells(40, seed=2, size=32), "other.npz")
    for row in range(16):
        for place in (Path("crops"), Path("other_slides", cells.class_names[cells.labels[row]])):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(cells.images)[row]).rotate(5).save(place / f"{row}.png")
    return tmp_path


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_snippet_of_the_readme_runs(folder: Path, tiny: Callable[..., Recipe]) -> None:
    code = blocks("python")
    assert code
    for block in code:
        # The same calls with a network of seconds in place of one of minutes.
        assert '"small"' in block
        exec(block.replace('"small"', "tiny_recipe"), {"tiny_recipe": tiny()})
    assert (folder / "run" / "report.html").is_file()


def test_the_commands_of_the_readme_run(
    folder: Path, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("hemascope ")]
    assert len(commands) >= 6
    for words in commands:
        if "--recipe" in words:
            place = words.index("--recipe") + 1
            names = words[place].split(",")
            for name in names:
                Path(f"{name}.yaml").write_text(
                    yaml.safe_dump(tiny(name=name, stages=[], backbone="none").model_dump(mode="json"))
                    if len(names) > 1 or "--learning-curve" in words
                    else yaml.safe_dump(tiny(name=name).model_dump(mode="json"))
                )
            words[place] = ",".join(f"{name}.yaml" for name in names)
        monkeypatch.setattr(sys, "argv", ["hemascope", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, f"{words}: {capsys.readouterr().err}"
    assert (folder / "predictions.csv").is_file()
    assert (folder / "comparison" / "leaderboard.csv").is_file()
    assert (folder / "look" / "preview.png").is_file()
