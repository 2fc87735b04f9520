"""The front door, and what stands on its result: stacks, hashes, checks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hemascope.data import CLASS_NAMES, Cells, concatenate, load, pixel_hashes, save_npz
from hemascope.errors import InputError


def made(labels: list[int], side: int = 10, name: str = "a", **columns: Any) -> Cells:
    images = np.random.default_rng(len(labels) + side).integers(0, 256, (len(labels), side, side, 3), dtype=np.uint8)
    ids = np.array([f"{name}#{row}" for row in range(len(labels))])
    cells = Cells(images, np.array(labels, np.int64), CLASS_NAMES, ids, source=name)
    return replace(cells, **columns)


def test_what_is_missing_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: no such file or folder"):
        load(tmp_path / "none.npz")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(InputError, match=r"a\.xlsx: is of no known kind; expected \.npz, \.csv"):
        load(tmp_path / "a.xlsx")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is one picture and has no label"):
        load(str(tmp_path / "a.png"))


@pytest.mark.parametrize(("size", "crop"), [(0, None), (-3, None), (7, None), (96, 0), (96, 5)])
def test_sides_too_small_for_a_cell_are_refused(tmp_path: Path, size: int, crop: int | None) -> None:
    with pytest.raises(InputError, match="a cell needs at least 8 pixels; give 8 or more"):
        load(tmp_path, size=size, crop=crop)


def test_concatenation_reads_rows_from_where_they_lie() -> None:
    parts = [made([0, 1, 2], name="a"), made([3, 4], name="b"), made([5], name="c")]
    whole = concatenate(parts)
    pixels = np.concatenate([np.asarray(part.images) for part in parts])
    assert whole.images.shape == (6, 10, 10, 3)
    assert whole.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert whole.source == "a, b, c"
    assert np.array_equal(whole.images[2], pixels[2])
    assert np.array_equal(whole.images[1:5], pixels[1:5])
    assert np.array_equal(whole.images[np.array([5, 0, 0, 3])], pixels[[5, 0, 0, 3]])
    assert np.array_equal(np.asarray(whole.take(np.array([4, 1])).images), pixels[[4, 1]])
    assert np.array_equal(np.concatenate([batch for _, batch in whole.batches(4)]), pixels)


def test_concatenation_keeps_a_column_only_when_all_have_it() -> None:
    grouped = made([0, 1], groups=np.array(["x", "y"]), jpeg=np.array([True, False]))
    assert concatenate([grouped, made([2], name="b")]).groups is None
    jpeg = concatenate([grouped, made([2], name="b")]).jpeg
    assert jpeg is not None
    assert jpeg.tolist() == [True, False, False]
    both = concatenate([grouped, made([2], name="b", groups=np.array(["z"]))]).groups
    assert both is not None
    assert both.tolist() == ["x", "y", "z"]


def test_pictures_of_two_sizes_are_not_concatenated() -> None:
    with pytest.raises(InputError, match="b: pictures of 12 x 12 cannot stand beside 10 x 10"):
        concatenate([made([0]), made([1], side=12, name="b")])


def test_equal_pixels_have_equal_hashes_and_others_do_not() -> None:
    cells = made([0] * 50)
    rows = np.r_[np.arange(50), 7, 7, 3]
    hashes = pixel_hashes(cells.take(rows))
    assert hashes.dtype == np.uint64
    assert len(np.unique(hashes)) == 50
    assert hashes[50] == hashes[51] == hashes[7]
    changed = np.array(cells.images)
    changed[7, 9, 9, 2] ^= 1
    other = pixel_hashes(Cells(changed, cells.labels, CLASS_NAMES, cells.ids))
    assert (other != hashes[:50]).tolist() == [row == 7 for row in range(50)]


def test_a_hash_is_blake2b_of_shape_and_pixels() -> None:
    cells = made([0])
    content = b"(10, 10, 3)" + np.asarray(cells.images[0]).tobytes()
    digest = hashlib.blake2b(content, digest_size=8).digest()
    assert pixel_hashes(cells)[0] == int.from_bytes(digest, "little")


def test_the_same_bytes_in_another_shape_have_another_hash() -> None:
    pixels = np.zeros((1, 8, 18, 3), np.uint8)
    tall = np.zeros((1, 18, 8, 3), np.uint8)
    one, two = (Cells(images, np.zeros(1, np.int64), CLASS_NAMES, np.array(["a"])) for images in (pixels, tall))
    assert pixel_hashes(one) != pixel_hashes(two)


def test_reading_imports_nothing_heavy(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 96, 96, 3), np.uint8))
    program = (
        "import sys; from hemascope.data import load; load(sys.argv[1]); "
        "heavy = 'torch', 'pandas', 'pyarrow', 'sklearn', 'scipy', 'matplotlib'; "
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.npz")], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_every_reader_takes_further_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    cells = Cells(images, np.array([8, 4, 8]), (*CLASS_NAMES, "blast"), np.array(["a", "b", "c"]))
    save_npz(cells, tmp_path / "cells.npz")
    lines, rows = ["path,label"], []
    for row, (name, image) in enumerate(zip(("Blast", "lymphocyte", "Blast"), images, strict=True)):
        path = tmp_path / "folder" / name / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        lines.append(f"{path.relative_to(tmp_path)},{name}")
        rows.append({"image": {"bytes": path.read_bytes(), "path": None}, "label": name})
    (tmp_path / "cells.csv").write_text("\n".join(lines))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "cells.parquet")
    for name in ("cells.npz", "folder", "cells.csv", "cells.parquet"):
        with pytest.raises(InputError, match=r"--new-class [Bb]last\.$"):
            load(tmp_path / name)
        found = load(tmp_path / name, size=None, classes=["blast", "lymphocyte"])
        assert found.class_names == cells.class_names
        assert sorted(found.labels.tolist()) == [4, 8, 8]
    # Numbers without names are in the order of the eight, and what further ones mean has to be said.
    np.savez(tmp_path / "numbers.npz", images=images, labels=np.array([0, 8, 8]))
    with pytest.raises(InputError, match="labels run from 0 to 7"):
        load(tmp_path / "numbers.npz", size=None, classes=["blast"])
    assert load(tmp_path / "numbers.npz", size=None, classes=["blast"], class_map={"8": "blast"}).labels[1] == 8
