"""Every npz that is taken gives the right pixels and labels; every other is refused in one sentence."""

from __future__ import annotations

import tracemalloc
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hemascope.data import CLASS_NAMES, NO_GROUPS_NOTE, Cells, save_npz
from hemascope.data import load as load_any_size
from hemascope.data import storage as storage_module
from hemascope.data.members import open_members
from hemascope.errors import InputError

RNG = np.random.default_rng(0)
SIDE = 16
IMAGES = RNG.integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)
LABELS = np.arange(24) % 8


load = partial(load_any_size, size=SIDE)


def written(path: Path, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.astype(np.uint8)[:, None],
        LABELS.astype(np.float32),
        np.eye(8, dtype=np.uint8)[LABELS],
        np.eye(8)[LABELS],
        np.eye(8, dtype=bool)[LABELS],
        np.array(CLASS_NAMES)[LABELS],
        np.array(["BA", "EO", "ERB", "IG", "LY", "MO", "SNE", "PLATELET"], "S")[LABELS],
    ],
    ids=["(n,)", "(n,1)", "float", "one-hot uint8", "one-hot float", "one-hot bool", "names", "bytes"],
)
def test_labels_of_every_shape(tmp_path: Path, labels: NDArray[Any]) -> None:
    cells = load(written(tmp_path / "a.npz", images=IMAGES, labels=labels))
    assert np.array_equal(cells.labels, LABELS)
    assert cells.labels.dtype == np.int64
    assert cells.class_names == CLASS_NAMES
    assert cells.labelled
    assert NO_GROUPS_NOTE in cells.notes


@pytest.mark.parametrize("compressed", [False, True])
def test_the_pixels_are_those_of_the_file(tmp_path: Path, compressed: bool) -> None:
    cells = load(written(tmp_path / "training.npz", compressed, images=IMAGES, labels=LABELS))
    assert np.array_equal(np.asarray(cells.images), IMAGES)
    assert cells.ids[[0, -1]].tolist() == ["training.npz#0", "training.npz#23"]
    assert isinstance(cells.images, np.memmap) is not compressed


def test_a_stored_array_is_mapped_read_only_and_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", labels=LABELS, images=IMAGES)
    images = load(path).images
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    cropped = load(path, size=10, crop=10).images
    assert isinstance(cropped, np.memmap)
    assert np.array_equal(cropped, IMAGES[:, 3:13, 3:13])


def test_fortran_order_is_read_right(tmp_path: Path) -> None:
    fortran = np.asfortranarray(IMAGES)
    for compressed in (False, True):
        cells = load(written(tmp_path / f"{compressed}.npz", compressed, images=fortran, labels=LABELS))
        assert np.array_equal(np.asarray(cells.images), IMAGES)


def test_without_labels_every_label_is_unknown_and_nothing_is_said_of_patients(tmp_path: Path) -> None:
    cells = load(written(tmp_path / "a.npz", images=IMAGES))
    assert (cells.labels == -1).all()
    assert not cells.labelled
    assert cells.notes == ()


def test_medmnist_keeps_its_split(tmp_path: Path) -> None:
    parts = {"train": slice(0, 12), "val": slice(12, 16), "test": slice(16, 24)}
    arrays: dict[str, Any] = {}
    for name, rows in parts.items():
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = IMAGES[rows], LABELS[rows, None].astype(np.uint8)
    cells = load(written(tmp_path / "bloodmnist.npz", compressed=True, **arrays))
    assert cells.split is not None
    assert cells.split.tolist() == ["train"] * 12 + ["validation"] * 4 + ["test"] * 8
    assert np.array_equal(np.asarray(cells.images), IMAGES)
    assert np.array_equal(cells.images[np.array([20, 3, 13])], IMAGES[[20, 3, 13]])
    assert np.array_equal(cells.labels, LABELS)
    assert cells.ids[[0, 12, 23]].tolist() == [
        "bloodmnist.npz#train/0",
        "bloodmnist.npz#val/0",
        "bloodmnist.npz#test/7",
    ]
    assert len(cells.notes) == len(set(cells.notes))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("images", "expected", "said"),
    [
        (IMAGES[..., 0], IMAGES[..., :1].repeat(3, 3), "Grey"),
        (IMAGES[..., :1], IMAGES[..., :1].repeat(3, 3), "Grey"),
        (IMAGES.astype(np.float32) / 255, IMAGES, "0 to 1"),
        (IMAGES.astype(np.float64), IMAGES, "0 to 255"),
        ((IMAGES / 255).astype(np.float16), IMAGES, "0 to 1"),
        (IMAGES.astype(np.uint16) * 257, IMAGES, "16-bit"),
        (IMAGES.astype(">u2") * 257, IMAGES, "16-bit"),
        (IMAGES.astype(np.uint16), IMAGES, "Integers"),
        (IMAGES.astype(np.int64), IMAGES, "Integers"),
        (np.concatenate([IMAGES, np.full((24, SIDE, SIDE, 1), 255, np.uint8)], 3), IMAGES, "white"),
        (np.concatenate([IMAGES, np.zeros((24, SIDE, SIDE, 1), np.uint8)], 3), np.full_like(IMAGES, 255), "white"),
    ],
    ids=[
        "grey",
        "grey1",
        "unit",
        "byte floats",
        "half",
        "uint16",
        "big-endian",
        "small uint16",
        "int64",
        "opaque",
        "clear",
    ],
)
def test_other_kinds_of_pixels_are_converted_and_said(
    tmp_path: Path, images: NDArray[Any], expected: NDArray[np.uint8], said: str, compressed: bool
) -> None:
    cells = load(written(tmp_path / "a.npz", compressed, images=images, labels=LABELS))
    assert np.array_equal(np.asarray(cells.images), expected)
    assert any(said in note for note in cells.notes)


def test_other_sizes_are_cut_square_and_resized_and_said(tmp_path: Path) -> None:
    wide = RNG.integers(0, 256, (5, 60, 83, 3), dtype=np.uint8)
    path = written(tmp_path / "a.npz", images=wide, labels=LABELS[:5])
    cells = load(path, size=32)
    expected = [
        Image.fromarray(image).crop((11, 0, 71, 60)).resize((32, 32), Image.Resampling.BICUBIC) for image in wide
    ]
    assert np.abs(np.asarray(cells.images).astype(int) - np.stack([np.asarray(image) for image in expected])).max() <= 1
    assert cells.notes[0] == (
        "The pictures were 83 x 60 pixels; each was cut to the central 60 x 60 pixels, then resized to 32 x 32 with "
        "antialiasing."
    )
    assert np.array_equal(load(path, size=None).images[:], wide)
    assert np.array_equal(load(path, size=None, crop=20).images[:], wide[:, 20:40, 31:51])
    with pytest.raises(
        InputError, match=r"a\.npz: the central 61 x 61 pixels were asked for but the picture is 83 x 60"
    ):
        load(path, crop=61)


def test_too_much_for_memory_goes_to_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "MEMORY_LIMIT", 1000)
    path = written(tmp_path / "a.npz", compressed=True, images=IMAGES, labels=LABELS)
    cells = load(path)
    assert isinstance(cells.images, np.memmap)
    assert cells.images.filename is None
    assert np.array_equal(cells.images, IMAGES)


def test_names_ids_groups_and_split_of_the_file_are_taken(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.npz",
        images=IMAGES[:4],
        labels=[1, 0, 0, 2],
        class_names=["PLT", "BNE", "myelocytes"],
        ids=["p", "q", "r", "s"],
        groups=["x", "x", "y", "y"],
        slide=[3, 3, 3, 4],
        split=["train", "val", "cal", "test"],
    )
    cells = load(path)
    assert cells.labels.tolist() == [6, 7, 7, 3]
    assert cells.ids.tolist() == ["p", "q", "r", "s"]
    assert cells.groups is not None
    assert cells.groups.tolist() == ["x", "x", "y", "y"]
    assert cells.split is not None
    assert cells.split.tolist() == ["train", "validation", "calibration", "test"]
    assert NO_GROUPS_NOTE not in cells.notes
    by_slide = load(path, group_by="slide").groups
    assert by_slide is not None
    assert by_slide.tolist() == ["3", "3", "3", "4"]


def test_the_map_gives_a_number_another_meaning(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", images=IMAGES[:3], labels=[0, 8, 1])
    assert load(path, class_map={"8": "monocyte", "1": "platelet"}).labels.tolist() == [0, 5, 7]


@pytest.mark.parametrize("labelled", [True, False])
def test_saving_gives_everything_back(tmp_path: Path, labelled: bool) -> None:
    cells = Cells(
        images=IMAGES,
        labels=LABELS if labelled else np.full(24, -1),
        class_names=CLASS_NAMES,
        ids=np.array([f"zelle ä {row}" for row in range(24)]),
        split=np.array(["train", "validation", "calibration", "test"])[np.arange(24) % 4],
        groups=np.array([f"patient {row // 5}" for row in range(24)]),
        jpeg=np.arange(24) % 3 == 0,
    ).take(np.array([5, 3, 20, 11]))
    path = tmp_path / "a.npz"
    path.write_bytes(b"something older")
    save_npz(cells, path)
    again = load(path, size=None)
    assert np.array_equal(again.images[:], cells.images[:])
    for name in ("labels", "ids", "split", "groups", "jpeg"):
        assert np.array_equal(getattr(again, name), getattr(cells, name)), name
    assert again.class_names == cells.class_names
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_saving_refuses_half_a_labelling_and_leaves_nothing(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[3] = -1
    cells = Cells(IMAGES, labels, CLASS_NAMES, np.arange(24).astype(str))
    with pytest.raises(InputError, match="only some of the pictures have a label"):
        save_npz(cells, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def with_nan() -> NDArray[np.float32]:
    images = (IMAGES / 255).astype(np.float32)
    images[17, 3, 3, 1] = np.nan
    return images


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "other names": ({"x": IMAGES, "y": LABELS}, r"holds 'x', 'y'; expected 'images' and 'labels'"),
    "no arrays": ({}, r"holds no arrays; expected 'images'"),
    "no rows": ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"'images' holds no pictures"),
    "too few labels": (
        {"images": IMAGES, "labels": LABELS[:23]},
        r"'labels' has 23 rows but 'images' has 24; remove the extra image or add its label\.",
    ),
    "too many labels": ({"images": IMAGES[:23], "labels": LABELS}, r"'labels' has 24 rows but 'images' has 23"),
    "one label": ({"images": IMAGES, "labels": np.int64(3)}, r"'labels' has 1 row but 'images' has 24"),
    "label too large": (
        {"images": IMAGES, "labels": LABELS + (LABELS == 7)},
        r"'labels' row 7 is 8, but labels run from 0 to 7",
    ),
    "label below zero": ({"images": IMAGES, "labels": LABELS - 1}, r"'labels' row 0 is -1, but labels run from 0 to 7"),
    "half label": ({"images": IMAGES, "labels": LABELS + 0.5}, r"'labels' row 0 is 0\.5, which is no label"),
    "nan label": ({"images": IMAGES, "labels": np.where(LABELS == 2, np.nan, LABELS)}, r"'labels' row 2 is nan"),
    "complex label": ({"images": IMAGES, "labels": LABELS + 0j}, r"'labels' has dtype complex128"),
    "soft labels": ({"images": IMAGES, "labels": np.full((24, 8), 0.125)}, r"'labels' row 0 is not one-hot"),
    "two hot": ({"images": IMAGES, "labels": np.eye(8)[LABELS] + np.eye(8)[0]}, r"'labels' row 0 is not one-hot"),
    "five columns": ({"images": IMAGES, "labels": np.zeros((24, 5))}, r"'labels' has shape \(24, 5\); expected"),
    "mistyped name": ({"images": IMAGES, "label": LABELS}, r"has no 'labels' but an array 'label'"),
    "unknown class": ({"images": IMAGES, "labels": np.full(24, "blast")}, r"'blast' is not the name of one"),
    "nan": ({"images": with_nan(), "labels": LABELS}, r"'images' row 17 holds NaN or infinite values"),
    "infinite": ({"images": np.where(with_nan() > 2, 0, np.inf), "labels": LABELS}, r"'images' row 0 holds NaN or inf"),
    "standardised": (
        {"images": (IMAGES - 127.5) / 60, "labels": LABELS},
        r"runs from -2\.125 to 2\.125; expected floats in",
    ),
    "floats to 3": (
        {"images": IMAGES / 85, "labels": LABELS},
        r"\(float64\) runs from 0 to 3; expected floats in 0\.\.1",
    ),
    "12 bits": ({"images": IMAGES.astype(np.uint16) * 16, "labels": LABELS}, r"runs from 0 to 4080; expected 16-bit"),
    "negative": ({"images": IMAGES.astype(np.int16) - 1, "labels": LABELS}, r"runs from -1 to 254; expected values in"),
    "complex": ({"images": IMAGES + 0j, "labels": LABELS}, r"'images' has dtype complex128"),
    "text": ({"images": np.array(["a", "b"]), "labels": [0, 1]}, r"'images' has shape \(2,\)"),
    "channels first": ({"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, r"channels first; transpose it"),
    "two channels": ({"images": IMAGES[..., :2], "labels": LABELS}, r"shape \(24, 16, 16, 2\); expected \(n, height"),
    "five axes": ({"images": IMAGES[None], "labels": LABELS}, r"expected \(n, height, width, 3\)"),
    "one picture": ({"images": IMAGES[0], "labels": LABELS}, r"'images' has shape \(16, 16, 3\), a single picture"),
    "tiny": ({"images": IMAGES[:, :1, :1], "labels": LABELS}, r"pictures of 1 x 1 pixels; a cell needs at least 8 x 8"),
    "short ids": (
        {"images": IMAGES, "labels": LABELS, "ids": ["a"]},
        r"'ids' has shape \(1,\) but 'images' has 24 rows",
    ),
    "same ids": ({"images": IMAGES, "labels": LABELS, "ids": ["a"] * 24}, r"'ids' names some pictures twice"),
    "odd split": ({"images": IMAGES, "labels": LABELS, "split": ["fold1"] * 24}, r"the split 'fold1' is not known"),
    "medmnist without labels": ({"train_images": IMAGES}, r"has 'train_images' but no 'train_labels'"),
    "medmnist lengths": (
        {"train_images": IMAGES, "train_labels": LABELS, "val_images": IMAGES, "val_labels": LABELS[:3]},
        r"'val_labels' has 3 rows but 'val_images' has 24",
    ),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, kind: str, compressed: bool) -> None:
    arrays, sentence = BAD[kind]
    path = written(tmp_path / "bad.npz", compressed, **arrays)
    with pytest.raises(InputError, match=sentence) as refusal:
        load(path)
    assert str(refusal.value).startswith("bad.npz: ")
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


class Trap:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["images", "labels"])
def test_objects_are_never_unpickled(tmp_path: Path, name: str) -> None:
    sprung = tmp_path / "sprung"
    arrays: dict[str, Any] = {"images": IMAGES, "labels": LABELS}
    arrays[name] = np.array([Trap(sprung)] * 24, dtype=object)
    with pytest.raises(InputError, match=f"'{name}' is an array of Python objects, which is never unpickled"):
        load(written(tmp_path / "a.npz", **arrays))
    assert not sprung.exists()


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"no zip at all", b"PK\x03\x04 nor this"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz: is not an npz file"):
            load(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_file_is_refused(tmp_path: Path, compressed: bool) -> None:
    path = written(tmp_path / "a.npz", compressed, images=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.npz: is not an npz file"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00\x04\x00{{}}")
        archive.writestr("labels.npy", b"")
    with pytest.raises(InputError, match=r"a\.npz: 'images' cannot be read"):
        load(path)


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "whole.npz", images=IMAGES, labels=LABELS)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "a.npz", "w") as shorter:
        shorter.writestr("images.npy", archive.read("images.npy")[:-100])
    with pytest.raises(InputError, match="does not have the size that it announces"):
        load(tmp_path / "a.npz")


def test_a_compressed_array_is_streamed_in_bounded_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hemascope.data.members._BATCH_BYTES", IMAGES[:5].nbytes)
    path = written(tmp_path / "a.npz", compressed=True, images=IMAGES)
    steps = list(open_members(path)["images"].batches())
    assert [rows for rows, _ in steps] == [slice(0, 5), slice(5, 10), slice(10, 15), slice(15, 20), slice(20, 24)]
    assert np.array_equal(np.concatenate([values for _, values in steps]), IMAGES)


def test_loading_a_stored_array_takes_no_memory_for_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", images=np.zeros((500, 96, 96, 3), np.uint8))
    tracemalloc.start()
    try:
        cells = load_any_size(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 < np.prod(cells.images.shape)
    finally:
        tracemalloc.stop()
