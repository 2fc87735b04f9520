from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hemascope.corrupt import compose, corrupt
from hemascope.corrupt.cache import cache_folder, cache_limit, cached
from hemascope.data import Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells

ROWS = np.arange(12)


@pytest.fixture(scope="module")
def cells() -> Cells:
    return draw_cells(12, seed=4, size=32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEMASCOPE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept" / "corrupt"


def test_what_is_kept_is_what_would_be_made(folder: Path, cells: Cells) -> None:
    images = np.asarray(cells.images)
    for turn in range(2):
        seen = cached(cells, "bubble", 3, seed=7)
        assert (seen == corrupt(images, "bubble", 3, seed=7, rows=ROWS)).all()
        assert not seen.flags.writeable
        assert isinstance(seen, np.memmap), turn
        assert len(list(folder.iterdir())) == 1
    mixed = cached(cells, "hidden", seed=7, rows=ROWS + 40, hashes=pixel_hashes(cells))
    assert (mixed == compose(images, "hidden", seed=7, rows=ROWS + 40)).all()
    assert len(list(folder.iterdir())) == 2


def test_a_kept_entry_is_read_and_not_made_again(folder: Path, cells: Cells) -> None:
    cached(cells, "jpeg", 2, seed=0)
    (path,) = folder.iterdir()
    os.utime(path, (1000, 1000))
    inode = path.stat().st_ino
    cached(cells, "jpeg", 2, seed=0)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1000  # used just now


def test_every_part_of_the_content_tells_entries_apart(folder: Path, cells: Cells) -> None:
    cached(cells, "fog", 2, seed=0)
    cached(cells, "fog", 3, seed=0)
    cached(cells, "fog", 2, seed=1)
    cached(cells, "elastic", 2, seed=0)
    cached(cells, "fog", 2, seed=0, rows=ROWS + 1)
    cached(cells.take(ROWS[::-1]), "fog", 2, seed=0)
    cached(cells, "mild", seed=0)
    assert len(list(folder.iterdir())) == 7


def _spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "a flipped bit":
        content[len(content) // 2] ^= 1
    elif how == "cut short":
        del content[len(content) // 2 :]
    elif how == "empty":
        content.clear()
    elif how == "another file":
        content = bytearray(b"PK\x03\x04 no pictures")
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["a flipped bit", "cut short", "empty", "another file"])
def test_a_damaged_entry_is_made_again(folder: Path, cells: Cells, how: str) -> None:
    whole = cached(cells, "film_grain", 5, seed=0).copy()
    (path,) = folder.iterdir()
    content = path.read_bytes()
    _spoil(path, how)
    assert path.read_bytes() != content
    assert (cached(cells, "film_grain", 5, seed=0) == whole).all()
    assert [file.read_bytes() for file in folder.iterdir()] == [content]


def test_a_folder_that_cannot_be_written_does_without(
    tmp_path: Path, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file where the folder should be, and permissions, which do not hold back an administrator.
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "locked").mkdir(mode=0o500)
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "locked"):
        monkeypatch.setenv("HEMASCOPE_CACHE", str(place))
        seen = cached(cells, "fog", 1, seed=0)
        assert (seen == corrupt(np.asarray(cells.images), "fog", 1, seed=0, rows=ROWS)).all()
        assert not seen.flags.writeable
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_disk_that_fills_up_does_without(folder: Path, cells: Cells) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # an entry takes 36,864 bytes and more
    try:
        seen = cached(cells, "fog", 1, seed=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (seen == corrupt(np.asarray(cells.images), "fog", 1, seed=0, rows=ROWS)).all()
    assert list(folder.iterdir()) == []


def test_the_least_recently_used_go_first(folder: Path, cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[str]:
        return {path.name.rsplit("-", 1)[0] for path in folder.iterdir()}

    entry = 32 * 32 * 3 * 12 + 1000
    monkeypatch.setenv("HEMASCOPE_CACHE_GIB", repr(3 * entry / 2**30))
    for age, name in enumerate(("fog", "elastic", "fibre")):
        cached(cells, name, 1, seed=0)
        (path,) = folder.glob(f"{name}-*")
        os.utime(path, (1000 + age, 1000 + age))
    cached(cells, "fog", 1, seed=0)  # used again, so that elastic is the oldest now
    cached(cells, "occlusion", 1, seed=0)
    assert names() == {"fog-1", "fibre-1", "occlusion-1"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= cache_limit()


def test_what_is_larger_than_the_limit_is_not_kept_and_drives_nothing_out(
    folder: Path, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(cells.take(ROWS[:2]), "fog", 1, seed=0)
    for limit in (repr(20_000 / 2**30), "0"):
        monkeypatch.setenv("HEMASCOPE_CACHE_GIB", limit)
        seen = cached(cells, "fog", 1, seed=0)
        assert (seen == corrupt(np.asarray(cells.images), "fog", 1, seed=0, rows=ROWS)).all()
        assert len(list(folder.iterdir())) == 1


def test_what_a_killed_process_left_is_removed_in_time(folder: Path, cells: Cells) -> None:
    folder.mkdir(parents=True)
    for name, age in ((".fog.old.npy", 1000.0), (".fog.new.npy", None)):
        (folder / name).write_bytes(b"half")
        if age is not None:
            os.utime(folder / name, (age, age))
    cached(cells, "fog", 1, seed=0)
    assert sorted(path.name[:9] for path in folder.iterdir()) == [
        ".fog.new.",
        "fog-1-" + next(folder.glob("fog*")).name[6:9],
    ]


def test_where_entries_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEMASCOPE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "corrupt"
    monkeypatch.delenv("HEMASCOPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "hemascope" / "corrupt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "hemascope" / "corrupt"


def test_bad_input_is_told_in_a_sentence(folder: Path, cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="severity None was asked for"):
        cached(cells, "jpeg", seed=0)
    with pytest.raises(InputError, match="'mild' takes no severity"):
        cached(cells, "mild", 2, seed=0)
    with pytest.raises(InputError, match="'hiden' is not a composite; did you mean 'hidden'"):
        cached(cells, "hiden", seed=0)
    with pytest.raises(InputError, match="3 rows were given for 12 pictures"):
        cached(cells, "jpeg", 1, seed=0, rows=ROWS[:3])
    monkeypatch.setenv("HEMASCOPE_CACHE_GIB", "much")
    with pytest.raises(InputError, match="HEMASCOPE_CACHE_GIB is 'much'"):
        cached(cells, "jpeg", 1, seed=0)
    assert not folder.exists()
    assert len(cached(cells.take(ROWS[:0]), "jpeg", 1, seed=0)) == 0
