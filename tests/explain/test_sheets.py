from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.explain.neighbours import FILE, distance, load_known_cells
from hemascope.explain.sheets import explain_pictures, explaining
from hemascope.export import export_file
from hemascope.run import Run
from hemascope.runtime import load_model


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


def test_a_sheet_shows_the_nearest_training_cells(finished: Run, pictures: Path, tmp_path: Path) -> None:
    table = load_known_cells(finished.model / FILE)
    assert explain_pictures(finished.folder, [pictures], tmp_path / "out", most=1) == 1
    image = np.asarray(Image.open(pictures / "a cell 0.png"))[None]
    found = table.nearest(load_model(finished.folder).answers(image).embedding, 5)
    nearest = [
        f"{table.class_names[label]} ({table.ids[row]}, distance {distance(cosine):.3f})"
        for row, label, cosine in zip(found.rows[0], found.labels[0], found.cosine[0], strict=True)
    ]
    with Image.open(tmp_path / "out" / "001-a_cell_0.png") as sheet:
        assert sheet.info["Description"].endswith(f"Nearest training cells: {', '.join(nearest)}.")
        height = sheet.height
    # Without the table a sheet says nothing of neighbours.
    alone = tmp_path / "run"
    shutil.copytree(finished.folder, alone)
    (alone / "model" / FILE).unlink()
    explain_pictures(alone, [pictures], tmp_path / "without", most=1)
    with Image.open(tmp_path / "without" / "001-a_cell_0.png") as sheet:
        assert "training cells" not in sheet.info["Description"]
        assert sheet.height < height


def test_the_shipped_model_explains() -> None:
    assert explaining("small").explains


def test_a_model_without_heat_maps_is_refused(finished: Run, pictures: Path, tmp_path: Path) -> None:
    export_file(finished.folder, tmp_path / "bare.onnx", heatmap=False)
    with pytest.raises(InputError, match="gives no heat maps"):
        explain_pictures(tmp_path / "bare.onnx", [pictures], tmp_path / "out")
