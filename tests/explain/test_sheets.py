from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.explain.sheets import explain_pictures, explaining
from hemascope.export import export_file
from hemascope.run import Run


@pytest.fixture
def pictures(drawn: Cells, tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for row in range(3):
        Image.fromarray(np.asarray(drawn.images[row])).save(folder / f"a cell {row}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_each_picture_has_a_sheet(finished: Run, pictures: Path, tmp_path: Path) -> None:
    assert explain_pictures(finished.folder, [pictures], tmp_path / "out") == 3
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{row + 1:03d}-a_cell_{row}.png" for row in range(3)]


def test_the_shipped_model_explains() -> None:
    assert explaining("small").explains


def test_a_model_without_heat_maps_is_refused(finished: Run, pictures: Path, tmp_path: Path) -> None:
    export_file(finished.folder, tmp_path / "bare.onnx", heatmap=False)
    with pytest.raises(InputError, match="gives no heat maps"):
        explain_pictures(tmp_path / "bare.onnx", [pictures], tmp_path / "out")
