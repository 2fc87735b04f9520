from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemascope.audit.labels import find_label_suspects
from hemascope.data import Cells, pixel_hashes, save_npz
from hemascope.errors import InputError
from hemascope.predict import opinions_of, predict
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
    assert list(table.columns) == [
        *("id", "label", "confidence"),
        *drawn.class_names,
        *("outlier_score", "trust", "error"),
    ]
    good = table[table["error"] == ""]
    assert good.index.tolist() == [0, 1, 3, 4, 5]
    assert len(str(table.loc[2, "error"])) > 10
    # Without an answer there is nothing to trust.
    assert table.loc[2, "trust"]
    assert table.loc[2, list(drawn.class_names)].isna().all()
    assert good["outlier_score"].notna().all()
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


def test_a_model_has_no_opinion_of_what_made_it_or_of_a_class_that_it_does_not_know(
    finished: Run, dirty: Cells, drawn: Cells
) -> None:
    table = pd.read_csv(finished.folder / "split.csv")
    made_it = np.isin(pixel_hashes(dirty), table.loc[table["split"] != "test", "pixel_hash"].to_numpy(np.uint64))
    assert 0 < made_it.sum() < len(dirty)
    found = opinions_of(finished.folder, dirty)
    assert np.array_equal(np.isnan(found).any(axis=1), made_it)
    assert found[~made_it].sum(axis=1) == pytest.approx(1, abs=1e-5)

    foreign = replace(drawn, class_names=(*drawn.class_names[:-1], "thrombus"))
    assert np.array_equal(np.isnan(opinions_of(finished.folder, foreign)).all(axis=1), drawn.labels == 7)
    with pytest.raises(InputError, match="can judge no label"):
        opinions_of(finished.folder, dirty.take(made_it))
    told = find_label_suspects(dirty, found.astype(np.float64))
    assert (told["label_suspect_score"][made_it] == 1).all()
    assert told["label_suspect_score"][~made_it].nunique() > 10
