from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemascope.data import Cells, save_npz
from hemascope.errors import InputError
from hemascope.predict import predict
from hemascope.run import Run


@pytest.fixture
def folder(drawn: Cells, tmp_path: Path) -> Path:
    for row in range(6):
        Image.fromarray(drawn.images[row]).save(tmp_path / f"cell {row} ü.png")
    (tmp_path / "cell 2 ü.png").write_bytes(b"no picture")
    return tmp_path


def test_each_picture_has_a_row_also_a_bad_one(finished: Run, folder: Path, drawn: Cells) -> None:
    table = predict(finished.folder, folder)
    assert table["id"].tolist() == [(folder / f"cell {row} ü.png").as_posix() for row in range(6)]
    assert list(table.columns) == ["id", "label", "confidence", *drawn.class_names, "error"]
    good = table[table["error"] == ""]
    assert good.index.tolist() == [0, 1, 3, 4, 5]
    assert len(str(table.loc[2, "error"])) > 10
    assert np.allclose(good[list(drawn.class_names)].sum(axis=1), 1, atol=1e-5)
    assert good["confidence"].tolist() == good[list(drawn.class_names)].max(axis=1).tolist()


def test_files_and_pictures_may_be_mixed_and_agree(finished: Run, folder: Path, drawn: Cells) -> None:
    save_npz(drawn.take(np.arange(6)), folder / "cells.npz")
    mixed = predict(finished.folder, [folder / "cells.npz", folder / "cell 0 ü.png"])
    assert len(mixed) == 7
    columns = list(drawn.class_names)
    alone = predict(finished.folder, drawn.take(np.arange(6)))
    assert alone["id"].tolist() == drawn.ids[:6].tolist()
    assert np.isfinite(mixed[columns].to_numpy()).all()


def test_nothing_to_read_is_refused(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        predict(finished.folder, tmp_path)
