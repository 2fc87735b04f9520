from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hemascope.recipe import Recipe

Tiny = Callable[..., Recipe]


@pytest.fixture
def recipe_file(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny().model_dump(mode="json")))
    return path
