"""Folders of class folders, folders with a split of their own, and loose pictures to predict."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.data import NO_GROUPS_NOTE, load, load_pictures
from hemascope.data import reading as reading_module
from hemascope.errors import InputError

RNG = np.random.default_rng(0)


def draw(path: Path, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Write a picture of noise and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_class_folders_give_labels_ids_and_pixels(tmp_path: Path) -> None:
    root = tmp_path / "cells"
    pixels = [draw(root / name) for name in ("BA/b 1.png", "BA/sub/b2.png", "Platelets/p.bmp", "lymphocyte/ü.png")]
    cells = load(root, size=32)
    assert cells.ids.tolist() == ["BA/b 1.png", "BA/sub/b2.png", "Platelets/p.bmp", "lymphocyte/ü.png"]
    assert cells.labels.tolist() == [0, 0, 7, 4]
    assert np.array_equal(cells.images[:], np.stack(pixels))
    assert cells.notes == (NO_GROUPS_NOTE,)
    assert cells.jpeg is not None
    assert not cells.jpeg.any()
    assert (cells.split, cells.groups, cells.source) == (None, None, "cells")


def test_a_split_of_folders_is_kept(tmp_path: Path) -> None:
    for place in ("train/BA/1.png", "train/EO/1.png", "val/BA/1.png", "test/EO/1.png"):
        draw(tmp_path / place)
    cells = load(tmp_path)
    assert cells.split is not None
    assert dict(zip(cells.ids.tolist(), cells.split.tolist(), strict=True)) == {
        "train/BA/1.png": "train",
        "train/EO/1.png": "train",
        "val/BA/1.png": "validation",
        "test/EO/1.png": "test",
    }
    assert cells.labels.tolist() == [1, 0, 1, 0]


def test_folders_named_by_numbers_are_labels(tmp_path: Path) -> None:
    draw(tmp_path / "0" / "a.png")
    draw(tmp_path / "6" / "a.png")
    cells = load(tmp_path)
    assert cells.labels.tolist() == [0, 6]
    assert "0 basophil" in cells.notes[0]


def test_sizes_are_cut_square_and_resized_the_same_as_in_an_array(tmp_path: Path) -> None:
    wide = draw(tmp_path / "BA" / "a.png", 40, 61)
    tall = draw(tmp_path / "BA" / "b.png", 90, 50)
    cells = load(tmp_path, size=20)
    np.savez(tmp_path / "a.npz", images=np.stack([wide]))
    np.savez(tmp_path / "b.npz", images=np.stack([tall]))
    for row, name in enumerate(("a.npz", "b.npz")):
        assert np.array_equal(cells.images[row], load(tmp_path / name, size=20).images[0])
    assert cells.notes[0] == (
        "The pictures were of several sizes; each was cut to the central square, then resized to 20 x 20 with "
        "antialiasing."
    )
    assert np.array_equal(load(tmp_path, size=None, crop=30).images[0], wide[5:35, 15:45])
    with pytest.raises(InputError, match=r"BA/b\.png has 50 x 90 pixels but BA/a\.png has 61 x 40; give a size"):
        load(tmp_path, size=None)


def test_a_crop_larger_than_a_picture_makes_it_unreadable(tmp_path: Path) -> None:
    draw(tmp_path / "BA" / "large.png", 50, 50)
    draw(tmp_path / "BA" / "small.png", 30, 30)
    cells = load(tmp_path, crop=40)
    assert cells.ids.tolist() == ["BA/large.png"]
    assert "central 40 x 40 pixels were asked for but the picture is 30 x 30" in cells.unreadable["BA/small.png"]


def test_bad_pictures_are_listed_and_the_rest_go_on(tmp_path: Path) -> None:
    good = draw(tmp_path / "EO" / "good.png")
    last = draw(tmp_path / "MO" / "z.png")
    (tmp_path / "EO" / "empty.png").touch()
    (tmp_path / "EO" / "text.jpg").write_text("hello")
    (tmp_path / "EO" / "broken.png").write_bytes((tmp_path / "EO" / "good.png").read_bytes()[:300])
    Image.new("RGB", (1, 1)).save(tmp_path / "EO" / "dot.png")
    (tmp_path / "EO" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "EO" / "loop").symlink_to(tmp_path / "EO", target_is_directory=True)
    (tmp_path / "EO" / "itself.png").symlink_to(tmp_path / "EO" / "itself.png")
    cells = load(tmp_path, size=32)
    assert cells.ids.tolist() == ["EO/good.png", "MO/z.png"]
    assert cells.labels.tolist() == [1, 5]
    assert np.array_equal(cells.images[:], np.stack([good, last]))
    assert set(cells.unreadable) == {
        f"EO/{name}" for name in ("empty.png", "text.jpg", "broken.png", "dot.png", "gone.png", "itself.png")
    }
    assert "1 x 1 pixels" in cells.unreadable["EO/dot.png"]
    assert "0 bytes" in cells.unreadable["EO/empty.png"]
    assert "does not exist" in cells.unreadable["EO/gone.png"]


def test_hidden_files_are_passed_over_and_others_told(tmp_path: Path) -> None:
    for name in ("BA/a.png", "BA/.hidden.png", ".cache/x.png", "__MACOSX/BA/a.png"):
        draw(tmp_path / name)
    (tmp_path / "BA" / "notes.txt").write_text("x")
    (tmp_path / "empty folder").mkdir()
    cells = load(tmp_path)
    assert cells.ids.tolist() == ["BA/a.png"]
    assert any("passed over (1: notes.txt" in note for note in cells.notes)


def test_more_than_a_chunk_of_pictures_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "CHUNK", 4)
    pixels = [draw(tmp_path / "LY" / f"{row:02}.png", 9, 9) for row in range(11)]
    assert np.array_equal(load(tmp_path, size=9).images[:], np.stack(pixels))


def test_jpeg_and_several_frames_are_told(tmp_path: Path) -> None:
    draw(tmp_path / "BA" / "a.jpg")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "BA" / "b.gif", save_all=True, append_images=frames[1:])
    cells = load(tmp_path)
    assert cells.jpeg is not None
    assert cells.jpeg.tolist() == [True, False]
    assert "Pictures with several frames gave their first (1: BA/b.gif)." in cells.notes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a file name be any bytes")
def test_a_name_that_is_no_text_is_spelt_out(tmp_path: Path) -> None:
    draw(tmp_path / "BA" / "a.png")
    (tmp_path / "BA" / "a.png").rename(Path(f"{tmp_path}/BA/\udcff.png"))
    identity = str(load(tmp_path).ids[0])
    assert identity == r"BA/\xff.png"
    identity.encode("utf-8")


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    for make in (lambda: None, lambda: draw(tmp_path / "a.png"), lambda: (tmp_path / "BA").mkdir()):
        make()
        with pytest.raises(InputError, match="has no pictures in class folders; expected a folder for each class"):
            load(tmp_path)


def test_a_folder_of_no_known_class_is_refused_unless_mapped(tmp_path: Path) -> None:
    draw(tmp_path / "neutrofils" / "a.png")
    with pytest.raises(InputError, match=r"'neutrofils' is not the name .* nearest is neutrophil"):
        load(tmp_path)
    assert load(tmp_path, class_map={"neutrofils": "SNE"}).labels.tolist() == [6]


def test_a_folder_has_no_groups(tmp_path: Path) -> None:
    draw(tmp_path / "BA" / "a.png")
    with pytest.raises(InputError, match="--group-by patient cannot be followed"):
        load(tmp_path, group_by="patient")


def test_when_no_picture_can_be_read_the_first_reason_is_given(tmp_path: Path) -> None:
    (tmp_path / "BA").mkdir()
    (tmp_path / "BA" / "a.png").touch()
    (tmp_path / "BA" / "b.png").touch()
    with pytest.raises(InputError, match=r"none of its 2 pictures can be read; the first is BA/a\.png: it is empty"):
        load(tmp_path)


def test_loose_pictures_and_flat_folders_have_no_labels(tmp_path: Path) -> None:
    one = draw(tmp_path / "one.png")
    two = draw(tmp_path / "more" / "deep" / "two.png")
    (tmp_path / "more" / "bad.png").write_text("x")
    cells = load_pictures([tmp_path / "one.png", str(tmp_path / "more"), tmp_path / "one.png"], size=32)
    assert cells.ids.tolist() == [(tmp_path / "one.png").as_posix(), (tmp_path / "more/deep/two.png").as_posix()]
    assert np.array_equal(cells.images[:], np.stack([one, two]))
    assert (cells.labels == -1).all()
    assert cells.notes == ()
    assert list(cells.unreadable) == [(tmp_path / "more" / "bad.png").as_posix()]
    assert len(load_pictures(tmp_path / "one.png")) == 1


def test_loose_pictures_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: it does not exist"):
        load_pictures(tmp_path / "none.png")
    with pytest.raises(InputError, match="holds no pictures"):
        load_pictures(tmp_path)
    draw(tmp_path / "a.png")
    cells = load_pictures([tmp_path / "a.png", tmp_path / "none.png"])
    assert "does not exist" in cells.unreadable[(tmp_path / "none.png").as_posix()]
