"""What a notebook uses, as the README shows it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import hemascope

README = Path(__file__).resolve().parent.parent / "README.md"


def test_functions_are_not_hidden_by_the_modules_of_their_name() -> None:
    for name in ("train", "split", "clean", "evaluate", "predict"):
        importlib.import_module(f"hemascope.{name}")
        assert callable(getattr(hemascope, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hemascope.nothing  # noqa: B018


def test_the_snippet_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    hemascope.save_npz(hemascope.draw_cells(160, seed=1, size=32), "cells.npz")
    for block in blocks:
        # The same calls with a network of seconds in place of minutes.
        names: dict[str, object] = {}
        exec(block.replace('"small"', "tiny_recipe"), {"tiny_recipe": _tiny(), **names})


def _tiny() -> object:
    from hemascope.recipe import load_recipe, recipe_from

    fields = load_recipe("small").model_dump(mode="json")
    stages = [{**stage, "epochs": 1, "image_size": None} for stage in fields["stages"][:1]]
    return recipe_from({**fields, "backbone": "test_resnet", "image_size": 32, "stages": stages})
