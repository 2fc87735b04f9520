from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hemascope.bulk.plan import Part, plan, sorted_names, survey
from hemascope.bulk.reader import Item, Reader
from hemascope.data import find_pictures, save_npz
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


def rows(parts: list[Part]) -> list[Item]:
    reader = Reader()
    return [item for part in parts for item in reader.items(part)]


def ids(*inputs: str | Path) -> list[str]:
    return [item.id for item in rows(list(plan(inputs)))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a ü.png", "inner/c.jpg", "inner/deep/d.png", ".hidden.png", "__MACOSX/e.png", "zoo/f.PNG"):
        picture(tmp_path / "cells" / name)
    (tmp_path / "cells" / "notes.txt").write_text("no picture")
    return tmp_path / "cells"


def test_a_folder_is_walked_in_the_order_in_which_it_is_found_elsewhere(folder: Path) -> None:
    assert ids(folder) == [path.as_posix() for path in find_pictures([folder])]
    assert len(ids(folder)) == 5


def test_the_folder_where_one_is_has_short_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert ids(".") == [path.as_posix() for path in find_pictures(["."])]
    assert ids("inner") == ["inner/c.jpg", "inner/deep/d.png"]


def test_each_file_comes_once_wherever_it_is_named(folder: Path) -> None:
    first, inner = folder / "b.png", folder / "inner"
    assert ids(first, folder, inner, folder / "a ü.png", first) == [
        first.as_posix(),
        *(name for name in ids(folder) if name != first.as_posix()),
    ]
    assert ids(inner, folder)[:2] == ids(inner)
    assert len(ids(inner, folder)) == 5


def test_patterns_are_followed_and_a_file_of_such_a_name_goes_first(folder: Path) -> None:
    assert ids(f"{folder}/*.png") == [f"{folder.as_posix()}/a ü.png", f"{folder.as_posix()}/b.png"]
    assert len(ids(f"{folder}/**/*.png")) == 3
    odd = picture(folder / "[b].png")
    assert ids(str(odd)) == [odd.as_posix()]
    with pytest.raises(InputError, match="nothing matches this pattern"):
        ids(f"{folder}/*.webp")


def test_nothing_to_do_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        ids(tmp_path)
    with pytest.raises(InputError, match="hold no pictures"):
        survey(plan([]))


def test_what_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_text("no zip")
    (tmp_path / "bad.npz").write_text("no npz")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "list.csv").write_text("path\ngone.png\n\n")
    found = rows(list(plan([tmp_path / name for name in ("bad.zip", "bad.npz", "bad.csv", "list.csv", "none.png")])))
    assert len(found) == 5
    for item, said in zip(found, ["not a zip", "not an npz", "no column", "not exist", "not exist"], strict=True):
        with pytest.raises(InputError, match=said):
            item.pixels(16)


def test_all_that_holds_pictures_gives_the_same_pixels(tmp_path: Path) -> None:
    cells = draw_cells(40, seed=3, size=32)
    images = np.asarray(cells.images)
    files = []
    for row in range(40):
        files.append(tmp_path / "png" / f"{row:02}.png")
        files[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(images[row]).save(files[-1])
    np.savez(tmp_path / "stored.npz", images=images)
    np.savez_compressed(tmp_path / "packed.npz", images=images)
    np.savez(tmp_path / "floats.npz", images=images / np.float32(255))
    np.savez(tmp_path / "fortran.npz", images=np.asfortranarray(images))
    np.savez(tmp_path / "parts.npz", train_images=images[:25], val_images=images[25:])
    save_npz(cells, tmp_path / "named.npz")
    content = [file.read_bytes() for file in files]
    table = pa.table({"image": [{"bytes": one, "path": None} for one in content]})
    pq.write_table(table, tmp_path / "cells.parquet", row_group_size=7)
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    (tmp_path / "list.tsv").write_text("name\tpath\n" + "".join(f"x\tpng/{file.name}\n" for file in files))
    sources = [path.name for path in tmp_path.iterdir() if path.name != "png"]
    for name in [*sorted(sources), "png"]:
        for part_rows in (64, 9):
            reader = Reader()
            parts = list(plan([tmp_path / name], part_rows))
            pixels = [item.pixels(32) for part in parts for item in reader.items(part)]
            assert np.array_equal(np.stack(pixels), images), name
            # A part by itself, as another process sees it.
            alone = [item.pixels(32) for item in Reader().items(parts[-1])]
            assert np.array_equal(np.stack(alone), images[parts[-1].first :]), name
    assert [item.id for item in rows(list(plan([tmp_path / "named.npz"])))] == cells.ids.tolist()
    assert len(set(ids(*(tmp_path / name for name in sources)))) == 40 * len(sources)


def test_parts_are_equally_long_and_follow_each_other(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", images=np.zeros((20, 16, 16, 3), np.uint8))
    parts = list(plan([folder, tmp_path / "cells.npz", folder / "none.png"], part_rows=6))
    assert [(part.first, part.count) for part in parts] == [(0, 6), (6, 6), (12, 6), (18, 6), (24, 2)]
    assert [part.number for part in parts] == [0, 1, 2, 3, 4]
    assert survey(parts).pictures == 26


def test_a_change_of_any_file_is_seen(folder: Path) -> None:
    before = survey(plan([folder]))
    assert survey(plan([folder])) == before
    assert survey(plan([folder], part_rows=2)) != before
    file = folder / "b.png"
    was = file.stat()
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    changed = survey(plan([folder]))
    assert changed != before
    file.rename(folder / "bb.png")
    assert survey(plan([folder])) not in (before, changed)


def test_a_file_that_has_become_shorter_keeps_its_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", images=np.zeros((20, 16, 16, 3), np.uint8))
    parts = list(plan([tmp_path / "cells.npz"]))
    np.savez(tmp_path / "cells.npz", images=np.zeros((12, 16, 16, 3), np.uint8))
    found = rows(parts)
    assert len(found) == 20
    assert [isinstance(item.source, InputError) for item in found] == [False] * 12 + [True] * 8


def test_names_are_sorted_on_the_disk_where_they_are_many() -> None:
    names = [f"{name} ü\n.png" for name in np.random.default_rng(0).permutation(1000)]
    assert list(sorted_names(iter(names), in_memory=64)) == sorted(names)
    assert list(sorted_names(iter(names), in_memory=1000)) == sorted(names)
    assert list(sorted_names(iter([]))) == []
