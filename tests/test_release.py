"""What is released: the wheel and the source archive hold what they should, and the wheel runs where it is put."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

import hemascope
from hemascope.models import model_file, shipped_models
from hemascope.recipe import recipe_names

ROOT = Path(__file__).resolve().parent.parent
DATA = {".npz", ".npy", ".parquet", ".pt", ".pth", ".pkl", ".ckpt"}
RASTER = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"}
DRAWN = {"cells.webp", "corruptions.webp", "report.webp", "serve.webp"}
"""The pictures of the documentation. Whoever adds one has looked at it: drawn cells only."""
MOST_MIB = 25

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("build") is None or importlib.util.find_spec("hatchling") is None,
    reason="build and hatchling are not installed",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that is made from it, without asking a package index."""
    out = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(words, check=True, capture_output=True, text=True)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


def test_the_wheel_holds_all_that_a_user_needs(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    package = ROOT / "src" / "hemascope"
    here = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"hemascope/{path.relative_to(package)}" for path in here} == {
        name for name in names if name.startswith("hemascope/")
    }
    assert "hemascope/py.typed" in names
    assert all(f"hemascope/recipes/{name}.yaml" in names for name in recipe_names())
    assert shipped_models()
    assert all(f"hemascope/{model_file(name).relative_to(package)}" in names for name in shipped_models())
    for folder in ("templates", "serve/web"):
        assert any(name.startswith(f"hemascope/{folder}/") and ".html" in name for name in names)


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    for entry in wheel.infolist():
        assert entry.filename.startswith(("hemascope/", f"hemascope-{hemascope.__version__}.dist-info/"))
        assert Path(entry.filename).suffix not in DATA | RASTER, f"{entry.filename} has no place in a wheel"
    assert sum(entry.compress_size for entry in wheel.infolist()) < MOST_MIB * 2**20


def test_the_source_archive_holds_no_picture_of_a_person_s_cell(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    assert not [name for name in names if name.suffix in DATA]
    assert {name.name for name in names if name.suffix in RASTER} == DRAWN
    for needed in ("pyproject.toml", "constraints.txt", "mkdocs.yml", "scripts/test", "docs/index.md", "LICENSE"):
        assert Path(needed) in names
    assert Path("tests/test_release.py") in names


def test_the_version_is_one(wheel: zipfile.ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    told = Parser().parsestr(wheel.read(name).decode())
    assert told["Version"] == hemascope.__version__
    assert told["License-Expression"] == "Apache-2.0"
    assert "torch" not in str(told.get_all("Requires-Dist", [])).split("extra ==")[0]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == hemascope.__version__
    for path in (ROOT / "src").rglob("*.py"):
        assert path.name == "version.py" or f'"{hemascope.__version__}"' not in path.read_text(encoding="utf-8"), path


def test_the_changelog_is_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[0].startswith(("Unreleased", hemascope.__version__))
    for release in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (\w+)$", release, re.MULTILINE)
        order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
        assert kinds == sorted(set(kinds), key=order.index), "each kind of change once, in the usual order"


def test_the_wheel_runs_where_it_is_put(built: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--target", str(tmp_path / "site"), str(wheel.filename)], check=True, capture_output=True, text=True
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(tmp_path / "site")
    where = "import hemascope; print(hemascope.__file__)"
    for words, said in (
        (["-c", where], str(tmp_path)),
        (["-m", "hemascope", "--version"], hemascope.__version__),
        (["-m", "hemascope", "sample", "cells.npz", "--count", "16"], "16 pictures"),
        (["-m", "hemascope", "predict", "cells.npz"], "predictions.csv"),
    ):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        assert said in done.stdout
