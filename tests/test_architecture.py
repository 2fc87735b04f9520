"""The table of docs/architecture.md is true: imports point down, bold modules need torch, the picture is its own."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "hemascope"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NO_LAYER = {"__init__", "__main__", "recipes", "templates"}
"""The package's front, its start, and folders that hold no module."""

WITHOUT_TORCH = """
import importlib, json, sys
class Refuser:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuser())
needing = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(f"hemascope.{name}")
    except ImportError:
        needing.append(name)
print(json.dumps(needing))
"""


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    """scripts/draw_layers.py."""
    spec = importlib.util.spec_from_file_location("draw_layers", ROOT / "scripts" / "draw_layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The modules of hemascope that a file imports, within functions too, but not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    unseen = {id(inner) for node in checks for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "hemascope":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hemascope."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("hemascope."))


def test_imports_point_down(drawing: ModuleType) -> None:
    found = drawing.layers(PAGE)
    listed = [module for layer in found for module in layer.modules]
    assert len(listed) == len(set(listed))
    there = {module_of(path) for path in PACKAGE.rglob("*.py")}
    assert set(listed) == there - NO_LAYER, "name each module once in the table of docs/architecture.md"
    height = {module: -place for place, layer in enumerate(found) for module in layer.modules}
    upward = [
        f"{path.relative_to(PACKAGE)} imports {other}"
        for path in PACKAGE.rglob("*.py")
        if module_of(path) in height
        for other in imports(path)
        if other in height and height[other] > height[module_of(path)]
    ]
    assert not upward


def test_what_needs_torch_is_told(drawing: ModuleType) -> None:
    found = drawing.layers(PAGE)
    words = [module for layer in found for module in layer.modules]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == {module for layer in found for module in layer.torch}


def test_the_picture_is_that_of_the_table(drawing: ModuleType) -> None:
    drawn = (ROOT / "docs" / "pictures" / "layers.svg").read_text(encoding="utf-8")
    assert drawn == drawing.picture(PAGE), "run ./scripts/draw_layers.py"
