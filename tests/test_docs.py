"""What README and docs say is so: commands run or are understood, options and files exist, the site builds."""

from __future__ import annotations

import functools
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import typer.main
import yaml
from PIL import Image

import hemascope
from hemascope.cli import app, main
from hemascope.data import Cells
from hemascope.novelty import novelty
from hemascope.recipe import Recipe, recipe_from

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STAYS_RUNNING = {"serve", "review"}
"""Commands that a signal ends; tests/serve starts them."""
NOT_RUN = {"ray": "starts a cluster", "keras": "needs TensorFlow", "int8": "needs hundreds of held-out cells"}
"""Words of commands that are not run here, but by tests/bulk and tests/export."""
FEW = 120
"""Cells of a sample, where a page draws more."""
SCRIPTS_OPTIONS = {"--serve"}
"""Options of ./scripts, not of the command."""


class Command(NamedTuple):
    """A `hemascope ...` of a fenced block: its words after the program's name, and the language of the block.

    into: the file that the shell writes what it prints to; empty for none.
    """

    words: list[str]
    language: str
    into: str


def fenced(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and content."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[Command]:
    for language, block in fenced(page):
        if language not in ("bash", "text"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words and words[0] == "torchrun":
                words = words[words.index("-m") + 1 :]
            into = words[words.index(">") + 1] if ">" in words else ""
            if words and words[0] == "hemascope":
                yield Command(words[1 : words.index(">") if into else None], language, into)


def prose(page: Path) -> list[str]:
    """What stands between backquotes in a page's sentences and tables."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]


def options_of(name: str | None) -> set[str]:
    """The options of a command; of all and of `hemascope` itself for None."""
    group = typer.main.get_group(app)
    chosen = list(group.commands.values()) if name is None else [group.commands[name]]
    return {option for one in (group, *chosen) for parameter in one.params for option in parameter.opts} | {
        "--help", "--install-completion", "--show-completion",
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    group = typer.main.get_group(app)
    for words, _, _ in commands(page):
        if words[0].startswith("--"):
            assert words[0] in options_of(None), words
            continue
        assert words[0] in group.commands, words
        group.commands[words[0]].make_context(words[0], words[1:])
    for told in prose(page):
        words = told.split()
        if words[0] == "hemascope" and len(words) > 1 and words[1].isalpha() and words[1].islower():
            assert words[1] in group.commands, told
            known = options_of(words[1])
        elif words[0] == "hemascope" or words[0].startswith("--"):
            known = options_of(None) | SCRIPTS_OPTIONS
        else:
            continue
        for word in words:
            assert not word.startswith("--") or word.split("=")[0] in known, told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\bbench/\w+\.py|\bscripts/\w+\b|\btests/[\w/]+\.py", text):
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), name
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_front_page_fits_two_screens() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 110


def test_no_page_of_the_site_is_out_of_reach() -> None:
    shown = yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    for page in PAGES[1:]:
        assert page.name in shown, f"{page.name} is missing in mkdocs.yml"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dirty: Cells) -> Path:
    """A folder with the files that the pages speak of, all drawn and small."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("hemascope.stress")
    monkeypatch.setattr(module, "novelty", functools.partial(novelty, pictures=8, draws=24, own_draws=1))
    hemascope.save_npz(hemascope.draw_cells(160, seed=1, size=32), "cells.npz")
    hemascope.save_npz(dirty, "training_set.npz")
    for seed, name in enumerate(("other.npz", "slides.npz", "other_lab.npz"), start=2):
        hemascope.save_npz(hemascope.draw_cells(40, seed=seed, size=32), name)
    cells = hemascope.draw_cells(24, seed=1)
    for row, pixels in enumerate(np.asarray(cells.images)):
        for place in map(Path, ("crops", f"slides/{row % 2}", f"other_slides/{cells.class_names[cells.labels[row]]}")):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).rotate(5).save(place / f"{row}.png")
    Path("new_slides").mkdir()
    for row, pixels in enumerate(np.asarray(hemascope.draw_cells(64, seed=9, size=32).images)):
        Image.fromarray(pixels).save(f"new_slides/{row}.png")
    labelled = hemascope.draw_cells(40, seed=10, size=32)
    for row, pixels in enumerate(np.asarray(labelled.images)):
        place = Path("other_lab", "blast" if row < 6 else labelled.class_names[labelled.labels[row]])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{row}.png")
    Path("count.csv").write_text("neutrophil,60\nlymphocyte,30\nmonocyte,10\n", encoding="utf-8")
    Path("shards").mkdir()
    for name in ("more.zip", "shards/0.zip", "shards/1.zip"):
        with zipfile.ZipFile(name, "w") as archive:
            archive.write("crops/0.png", f"{Path(name).stem}.png")
    with tarfile.open("old.tar.gz", "w:gz") as packed:
        packed.add("crops/1.png")
    return tmp_path


def with_tiny_recipes(words: list[str], tiny: Callable[..., Recipe]) -> list[str]:
    """The same command with recipes of seconds in place of those of minutes, and fewer drawn cells."""
    words = list(words)
    if "--recipe" in words:
        place = words.index("--recipe") + 1
        names = words[place].split(",")
        light = len(names) > 1 or "--learning-curve" in words
        for name in names:
            recipe = tiny(name=name, stages=[], backbone="none") if light else tiny(name=name)
            Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
        words[place] = ",".join(f"{name}.yaml" for name in names)
    if "--count" in words:
        place = words.index("--count") + 1
        words[place] = str(min(FEW, int(words[place])))
    return words


def make_room(words: list[str]) -> None:
    """Remove what an earlier command of the page wrote to the same place: each block of a page stands for itself."""
    out = words[words.index("--out") + 1] if "--out" in words else "predictions.csv" if words[0] == "predict" else None
    if words[0] == "sample":
        out = words[1]
    if out is not None and "--resume" not in words:
        shutil.rmtree(out, ignore_errors=True)
        if Path(out).is_file():
            Path(out).unlink()


def label_by_hand(words: list[str]) -> None:
    """Fill in the table that a spot check asks for, as a person would before the next command."""
    if "--spot-check" in words and "--out" in words:
        path = Path(words[words.index("--out") + 1]) / "spot-check.csv"
        pd.read_csv(path).assign(label="neutrophil").to_csv(path, index=False)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(one.language == "bash" for one in commands(page))],
    ids=lambda page: page.stem,
)
def test_the_commands_of_a_page_run(
    page: Path,
    world: Path,
    request: pytest.FixtureRequest,
    tiny: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here = [
        (words, into)
        for words, language, into in commands(page)
        if language == "bash" and words[0] not in STAYS_RUNNING and not NOT_RUN.keys() & set(words)
    ]
    # The run that a page speaks of and does not make.
    made = {words[words.index("--out") + 1] for words, _ in run_here if "--out" in words}
    for name in {"RUN", "run"} & {word for words, _ in run_here for word in words} - made:
        shutil.copytree(request.getfixturevalue("finished").folder, name)
    for words, into in run_here:
        make_room(words)
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["hemascope", *with_tiny_recipes(words, tiny)])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        assert not end.value.code, f"{words}: {told.err}"
        if into:
            assert told.out, words
            Path(into).write_text(told.out, encoding="utf-8")
        label_by_hand(words)
        if "--out" in words:
            assert Path(words[words.index("--out") + 1]).exists(), words


def python_of(page: Path) -> list[str]:
    return [block for language, block in fenced(page) if language == "python"]


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if python_of(page)], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, world: Path, tiny: Callable[..., Recipe]) -> None:
    drawn = np.asarray(hemascope.draw_cells(8, seed=1).images)
    names = {"tiny_recipe": tiny(), "pictures": drawn, "rows": np.arange(len(drawn))}
    for block in python_of(page):
        # The same calls with a network of seconds in place of one of minutes.
        exec(block.replace('"small"', "tiny_recipe"), names)


def test_the_python_of_the_front_page_runs_as_part_of_another() -> None:
    runs = {line for page in PAGES[1:] for block in python_of(page) for line in block.splitlines()}
    assert python_of(PAGES[0])
    for block in python_of(PAGES[0]):
        assert set(block.splitlines()) <= runs


def test_every_recipe_of_a_page_is_one(tiny: Callable[..., Recipe]) -> None:
    given = [yaml.safe_load(block) for page in PAGES for name, block in fenced(page) if name == "yaml"]
    assert given
    for fields in given:
        recipe_from(fields if "backbone" in fields else tiny().model_dump(mode="json") | fields)


def test_the_site_builds_and_asks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="mkdocs is not installed: pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|source)[^>]+src="(?:https?:)?//', text)
        assert not re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(?:https?:)?//', text)
    reference = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for name in hemascope.__all__:
        assert name == "__version__" or f">{name}<" in reference, f"docs/api.md lacks {name}"
