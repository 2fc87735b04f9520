"""Parquet with encoded pictures, made here and real."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.data import NO_GROUPS_NOTE, load
from hemascope.data import parquet as parquet_module
from hemascope.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "pbc96"
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def written(path: Path, labels: Any = (0, 1, 2, 3, 4, 7), names: list[str] | None = None, **columns: Any) -> Path:
    pictures = [{"bytes": png(pixels), "path": f"{row}.png"} for row, pixels in enumerate(PIXELS)]
    table = pa.table({"image": pictures, "label": labels, **columns})
    if names is not None:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=4)
    return path


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([0, 1, 2, 3, 4, 7], pa.int8()),
        ["BA", "EO", "ERB", "IG", "LY", "platelets"],
        pa.array(["BA", "EO", "ERB", "IG", "LY", "PLT"]).dictionary_encode(),
    ],
    ids=["integers", "names", "dictionary"],
)
def test_pictures_and_labels(tmp_path: Path, labels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_module, "CHUNK", 2)
    cells = load(written(tmp_path / "cells.parquet", labels), size=16)
    assert np.array_equal(cells.images[:], PIXELS)
    assert cells.labels.tolist() == [0, 1, 2, 3, 4, 7]
    assert cells.ids[[0, 5]].tolist() == ["cells.parquet#0:0.png", "cells.parquet#5:5.png"]
    assert NO_GROUPS_NOTE in cells.notes


def test_plain_bytes_are_pictures_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [png(pixels) for pixels in PIXELS], "label": ["MO"] * 6}), path)
    cells = load(path, size=16)
    assert np.array_equal(cells.images[:], PIXELS)
    assert cells.ids[3] == "a.parquet#3"


def test_names_that_the_file_records_say_what_its_numbers_mean(tmp_path: Path) -> None:
    names = ["platelet", "neutrophil", "monocyte", "lymphocyte", "ig", "erythroblast", "eosinophil", "basophil"]
    assert load(written(tmp_path / "a.parquet", names=names)).labels.tolist() == [7, 6, 5, 4, 3, 0]


def test_split_and_groups_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", split=["train", "val", "test"] * 2, slide=[1, 1, 1, 2, 2, 2])
    cells = load(path, group_by="slide")
    assert cells.split is not None
    assert cells.split.tolist() == ["train", "validation", "test"] * 2
    assert cells.groups is not None
    assert cells.groups.tolist() == ["1"] * 3 + ["2"] * 3


def test_a_folder_of_parts_named_after_splits_keeps_the_split(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test"):
        written(tmp_path / f"{name}.parquet")
    cells = load(tmp_path)
    assert len(cells) == 18
    assert cells.split is not None
    assert cells.split.tolist() == ["test"] * 6 + ["train"] * 12
    assert len(set(cells.ids.tolist())) == 18


def test_a_folder_of_other_parts_has_no_split(tmp_path: Path) -> None:
    written(tmp_path / "part-0.parquet")
    written(tmp_path / "part-1.parquet")
    assert load(tmp_path).split is None


def test_bad_pictures_are_listed_and_the_rest_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pictures = [
        {"bytes": png(PIXELS[0]), "path": "a"},
        {"bytes": None, "path": "b"},
        {"bytes": b"x", "path": None},
        None,
    ]
    pq.write_table(pa.table({"image": pictures, "label": [0, 1, 2, 3]}), path)
    cells = load(path)
    assert cells.labels.tolist() == [0]
    assert cells.unreadable["a.parquet#1:b"] == "the row holds no picture; fill it or take it out."
    assert "not a picture" in cells.unreadable["a.parquet#2"]
    assert set(cells.unreadable) == {"a.parquet#1:b", "a.parquet#2", "a.parquet#3"}


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (pa.array([0, 1, None, 3, 4, 5]), "row 2 has nothing in 'label'"),
        (["BA", "", "BA", "BA", "BA", "BA"], "row 1 has nothing in 'label'"),
        ([0, 1, 2, 3, 4, 8], "label 8 is not one of 0 to 7"),
        ([0.0, 1, 2, 3, 4, 5], "column 'label' holds double; expected whole numbers or text"),
        (["blast"] * 6, "'blast' is not the name of one of the eight cells"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, labels: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=rf"a\.parquet: .*{sentence}"):
        load(written(tmp_path / "a.parquet", labels))


def test_numbers_beyond_the_recorded_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 2 has label 2, but the file names 2 classes"):
        load(written(tmp_path / "a.parquet", names=["basophil", "monocyte"]))


def test_other_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for table, sentence in [
        (
            pa.table({"picture": [b"x"], "label": [1]}),
            "no column 'image' of encoded pictures .* among 'picture', 'label'",
        ),
        (pa.table({"image": ["a.png"], "label": [1]}), "no column 'image' of encoded pictures"),
        (pa.table({"image": [b"x"], "kind": [1]}), "no column for the labels among"),
    ]:
        pq.write_table(table, path)
        with pytest.raises(InputError, match=sentence):
            load(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        load(path)
    with pytest.raises(InputError, match="did you mean 'patient_id'"):
        load(written(path, patient_id=[0] * 6), group_by="patient")


def test_no_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int8())}), path)
    with pytest.raises(InputError, match="holds no pictures"):
        load(path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real cells are not beside this checkout")
def test_real_cells_have_the_pixels_that_pillow_gives(tmp_path: Path) -> None:
    table = pq.read_table(SHARED / "test.parquet").take(np.arange(0, 1712, 17))
    pq.write_table(table, tmp_path / "some.parquet")
    cells = load(tmp_path / "some.parquet")
    assert cells.unreadable == {}
    assert np.array_equal(cells.labels, table["label"].to_numpy())
    pictures = [Image.open(io.BytesIO(picture["bytes"])) for picture in table["image"].to_pylist()]
    assert np.array_equal(cells.images[:], np.stack([np.asarray(picture) for picture in pictures]))
    np.savez(tmp_path / "challenge.npz", images=cells.images[:], labels=cells.labels[:, None].astype(np.uint8))
    challenge = load(tmp_path / "challenge.npz")
    assert np.array_equal(challenge.images[:], cells.images[:])
    assert np.array_equal(challenge.labels, cells.labels)
