from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.data import CLASS_NAMES, Cells, Changes, load, load_pictures, rewrite
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells

Writer = Callable[[Path], Path]
COUNT = 24


@pytest.fixture(scope="module")
def some() -> Cells:
    """Pictures larger than those that are audited, so that what is written can be told from what was read."""
    return draw_cells(COUNT, seed=4, size=128)


def spoil(path: Path) -> None:
    path.write_bytes(b"no picture")


def as_npz(some: Cells, folder: Path) -> Path:
    np.savez_compressed(
        folder / "set.npz", images=np.asarray(some.images), labels=some.labels.astype(np.int16)[:, None]
    )
    return folder / "set.npz"


def as_folder(some: Cells, folder: Path) -> Path:
    for row, (picture, label) in enumerate(zip(np.asarray(some.images), some.labels, strict=True)):
        path = folder / "set" / CLASS_NAMES[label].upper() / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    spoil(folder / "set" / "BASOPHIL" / "zz.png")
    return folder / "set"


def as_table(some: Cells, folder: Path) -> Path:
    lines = ["note;path;label"]
    (folder / "pictures").mkdir()
    for row, (picture, label) in enumerate(zip(np.asarray(some.images), some.labels, strict=True)):
        Image.fromarray(picture).save(folder / "pictures" / f"{row:02}.png")
        lines.append(f'"no. ""{row}""; mine";pictures/{row:02}.png;{CLASS_NAMES[label][:3].upper()}')
    spoil(folder / "pictures" / "zz.png")
    text = "\r\n".join([*lines, "x;pictures/zz.png;BAS"]).replace("IMM", "IG").replace("PLA", "PLT")
    (folder / "set.csv").write_text(text.replace("ERY", "ERB"))
    return folder / "set.csv"


def table_of(some: Cells, folder: Path, rows: slice) -> pa.Table:
    coded = []
    for row, picture in enumerate(np.asarray(some.images)[rows]):
        path = folder / "one.png"
        Image.fromarray(picture).save(path)
        coded.append({"bytes": path.read_bytes(), "path": f"{row:02}.png"})
    names = {"names": [name.title() for name in CLASS_NAMES[::-1]]}
    about = {b"huggingface": json.dumps({"info": {"features": {"label": names}}}).encode()}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64()), ("slide", pa.string())], metadata=about)
    labels = [len(CLASS_NAMES) - 1 - int(label) for label in some.labels[rows]]
    return pa.table({"image": coded, "label": labels, "slide": ["s"] * len(coded)}, schema=schema)


def as_parquet(some: Cells, folder: Path) -> Path:
    pq.write_table(table_of(some, folder, slice(None)), folder / "set.parquet", row_group_size=7)
    return folder / "set.parquet"


def as_parquet_folder(some: Cells, folder: Path) -> Path:
    (folder / "set").mkdir()
    for name, rows in (("train-0", slice(0, 16)), ("test-0", slice(16, None))):
        pq.write_table(table_of(some, folder, rows), folder / "set" / f"{name}.parquet")
    return folder / "set"


FORMATS: dict[str, Callable[[Cells, Path], Path]] = {
    "npz": as_npz,
    "folder": as_folder,
    "csv": as_table,
    "parquet": as_parquet,
    "parquet folder": as_parquet_folder,
}


def everything(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("kind", FORMATS)
def test_what_stays_comes_back_in_the_format_that_came_in(kind: str, some: Cells, tmp_path: Path) -> None:
    source = FORMATS[kind](some, tmp_path)
    before = everything(source)
    cells = load(source, size=None)
    keep = np.arange(len(cells)) % 3 != 1
    labels = cells.labels.copy()
    changed = int(np.flatnonzero(keep)[0])
    labels[changed] = (labels[changed] + 3) % len(CLASS_NAMES)
    out = (tmp_path / "elsewhere" / "clean").with_suffix(source.suffix)
    rewrite(source, out, Changes(cells, keep, labels))

    assert everything(source) == before
    again = load(out, size=None)
    assert not again.unreadable
    assert order(again) == order(cells.take(keep), labels[keep])
    if cells.split is not None:
        assert again.split is not None
        assert sorted(again.split) == sorted(cells.split[keep])


def order(cells: Cells, labels: NDArray[np.int64] | None = None) -> list[tuple[bytes, int]]:
    """Pictures and labels, sorted, since a folder's order follows the names of its classes."""
    labels = cells.labels if labels is None else labels
    return sorted(
        (picture.tobytes(), int(label)) for picture, label in zip(np.asarray(cells.images[:]), labels, strict=True)
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_class_that_no_row_has_yet_is_spelt_so_that_it_is_read(kind: str, some: Cells, tmp_path: Path) -> None:
    known = some.take(some.labels != 7)
    source = FORMATS[kind](known, tmp_path)
    cells = load(source, size=None)
    labels = cells.labels.copy()
    labels[5] = 7
    out = (tmp_path / "clean").with_suffix(source.suffix)
    rewrite(source, out, Changes(cells, np.ones(len(cells), bool), labels))
    assert order(load(out, size=None)) == order(cells, labels)


def test_a_table_keeps_its_columns_and_an_array_its_type(some: Cells, tmp_path: Path) -> None:
    source = as_table(some, tmp_path)
    cells = load(source)
    rewrite(source, tmp_path / "clean.csv", Changes(cells, np.arange(len(cells)) < 2, cells.labels))
    lines = source.read_text().splitlines()
    assert (tmp_path / "clean.csv").read_text().splitlines() == lines[:3]

    source = as_npz(some, tmp_path)
    cells = load(source)
    rewrite(source, tmp_path / "clean.npz", Changes(cells, np.arange(len(cells)) < 2, cells.labels))
    with np.load(tmp_path / "clean.npz") as arrays:
        assert (arrays["labels"].dtype, arrays["labels"].shape) == (np.int16, (2, 1))
        assert arrays["images"].shape == (2, 128, 128, 3)

    source = as_parquet(some, tmp_path)
    cells = load(source)
    rewrite(source, tmp_path / "clean.parquet", Changes(cells, np.arange(len(cells)) < 2, cells.labels))
    assert pq.read_schema(tmp_path / "clean.parquet").equals(pq.read_schema(source), check_metadata=True)


def test_other_sources_may_come_out_as_an_npz_of_what_was_read(some: Cells, tmp_path: Path) -> None:
    source = as_folder(some, tmp_path)
    cells = load(source)
    rewrite(source, tmp_path / "clean.npz", Changes(cells, np.arange(len(cells)) < 9, cells.labels))
    assert np.array_equal(load(tmp_path / "clean.npz").images[:], cells.images[:9])


@pytest.mark.parametrize(
    ("kind", "name"), [("npz", "out.csv"), ("folder", "out.csv"), ("csv", "out"), ("parquet", "out.csv")]
)
def test_another_kind_is_refused(kind: str, name: str, some: Cells, tmp_path: Path) -> None:
    source = FORMATS[kind](some, tmp_path)
    cells = load(source)
    with pytest.raises(InputError, match="so name one"):
        rewrite(source, tmp_path / name, Changes(cells, np.ones(len(cells), bool), cells.labels))
    assert not (tmp_path / name).exists()


def test_pictures_without_folders_of_classes_stay_where_they_are(some: Cells, tmp_path: Path) -> None:
    source = tmp_path / "crops"
    (source / "deeper").mkdir(parents=True)
    for row, picture in enumerate(np.asarray(some.images)[:4]):
        Image.fromarray(picture).save(source / ("deeper" if row == 3 else "") / f"{row}.png")
    cells = load_pictures(source)
    assert cells.source == str(source)
    labels = cells.labels.copy()
    labels[1] = CLASS_NAMES.index("monocyte")
    rewrite(source, tmp_path / "clean", Changes(cells, np.arange(4) != 0, labels))
    written = sorted(str(path.relative_to(tmp_path / "clean")) for path in (tmp_path / "clean").rglob("*.png"))
    assert written == ["2.png", "deeper/3.png", "monocyte/1.png"]
    assert (tmp_path / "clean" / "2.png").read_bytes() == (source / "2.png").read_bytes()
