from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hemascope.bulk import archives
from hemascope.bulk.archives import Slice, tar_pictures, zip_pictures
from hemascope.errors import InputError

NAMES = ["a/1.png", "a/2.png", "notes.txt", "b ü.png", "__MACOSX/a/1.png", ".hidden/x.png", "c.png"]
PICTURES = ["a/1.png", "a/2.png", "b ü.png", "c.png"]


def encoded(seed: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


CONTENT = {name: encoded(place) for place, name in enumerate(NAMES)}


def as_zip(path: Path, method: int = zipfile.ZIP_DEFLATED, before: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(before)
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in CONTENT.items():
                archive.writestr(name, content)
            archive.comment = b"a comment PK"
    return path


def as_tar(path: Path, mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in CONTENT.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


def read(pictures: Iterator[tuple[str, Any]]) -> dict[str, bytes]:
    return {name: source.read() if isinstance(source, Slice) else source for name, source in pictures}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh a program that unpacks itself\n"])
def test_a_zip_gives_the_pictures_that_zipfile_gives(tmp_path: Path, method: int, before: bytes) -> None:
    path = as_zip(tmp_path / "cells.zip", method, before)
    with zipfile.ZipFile(path) as archive:
        expected = {f"{path.as_posix()}/{name}": archive.read(name) for name in PICTURES}
    assert read(zip_pictures(path)) == expected
    assert list(read(zip_pictures(path, first=2))) == list(expected)[2:]


def test_a_zip_with_numbers_of_64_bits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cells.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("1.png", "w", force_zip64=True) as file:
        file.write(CONTENT["c.png"])
    content = path.read_bytes()
    # The list itself in 64 bits, as beyond 4 GiB: an end record of that kind and the way to it before the usual one.
    end = content.rfind(b"PK\x05\x06")
    length, start = struct.unpack_from("<LL", content, end + 12)
    entry = bytearray(content[start:end])
    sizes = struct.pack("<HHQQQ", 1, 24, len(CONTENT["c.png"]), len(CONTENT["c.png"]), 0)
    name = struct.unpack_from("<H", entry, 28)[0]
    entry[20:28], entry[42:46] = b"\xff" * 8, b"\xff" * 4
    entry[30:32] = struct.pack("<H", len(sizes))
    entry = entry[: 46 + name] + sizes
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), start)
    way = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(entry), 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(content[:start] + entry + end64 + way + last)
    assert length
    with zipfile.ZipFile(path) as archive:
        assert archive.read("1.png") == CONTENT["c.png"]
    assert list(read(zip_pictures(path)).values()) == [CONTENT["c.png"]]


@pytest.mark.parametrize(
    ("ending", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz")]
)
def test_a_tar_gives_its_pictures(tmp_path: Path, ending: str, mode: str) -> None:
    path = as_tar(tmp_path / f"cells{ending}", mode)
    expected = {f"{path.as_posix()}/{name}": CONTENT[name] for name in PICTURES}
    assert read(tar_pictures(path)) == expected
    assert list(read(tar_pictures(path, first=3))) == list(expected)[3:]


def test_links_and_devices_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(9))
    with tarfile.open(tmp_path / "cells.tar", "w") as archive:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, str(secret)
            archive.addfile(about)
    assert read(tar_pictures(tmp_path / "cells.tar")) == {}


def test_an_encrypted_or_strangely_packed_picture_is_told(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "cells.zip")
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 8] |= 1
    other = content.find(b"PK\x01\x02", place + 4)
    content[other + 10] = 99
    path.write_bytes(bytes(content))
    found = dict(zip_pictures(path))
    first, second, *rest = found.values()
    assert "encrypted" in str(first)
    assert "method 99" in str(second)
    assert all(isinstance(source, Slice) for source in rest)


def test_a_picture_that_is_not_what_the_list_says_is_refused(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "cells.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.find(CONTENT["a/1.png"]) + 50] ^= 1
    path.write_bytes(bytes(content))
    first = next(source for _, source in zip_pictures(path))
    assert isinstance(first, Slice)
    with pytest.raises(InputError, match="not what the archive's list says"):
        first.read()
    grown = as_zip(tmp_path / "grown.zip")
    content = bytearray(grown.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<L", 10)
    grown.write_bytes(bytes(content))
    # It unpacks to more than it announces, and no further than one byte of that.
    lying = next(source for _, source in zip_pictures(grown))
    assert isinstance(lying, Slice)
    with pytest.raises(InputError, match="not what the archive's list says"):
        lying.read()


def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE", 2**20)
    zeros = bytes(4 * 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bmp", zeros)
    with pytest.raises(InputError, match=r"bomb\.zip: unpacks to more than 100 times"):
        list(zip_pictures(tmp_path / "bomb.zip"))
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
        about = tarfile.TarInfo("zeros.bmp")
        about.size = len(zeros)
        tar.addfile(about, io.BytesIO(zeros))
    with pytest.raises(InputError, match=r"bomb\.tar\.gz: unpacks to more than 100 times"):
        list(tar_pictures(tmp_path / "bomb.tar.gz"))


def test_pictures_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    # The list names one picture many times, as "better zip bombs" do (Fifield, 2019).
    path = as_zip(tmp_path / "cells.zip")
    content = path.read_bytes()
    start, end = content.find(b"PK\x01\x02"), content.rfind(b"PK\x05\x06")
    second = content.find(b"PK\x01\x02", start + 4)
    entry = content[start:second]
    listed = entry * 200
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 200, 200, len(listed), start, 0)
    path.write_bytes(content[:start] + listed + last)
    assert end > start
    with pytest.raises(InputError, match="counts bytes twice"):
        list(zip_pictures(path))


def test_one_picture_that_is_too_large_is_a_row_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST_PICTURE", len(CONTENT["a/1.png"]) - 1)
    assert all("MiB" in str(source) for _, source in zip_pictures(as_zip(tmp_path / "cells.zip")))
    assert all("MiB" in str(source) for _, source in tar_pictures(as_tar(tmp_path / "cells.tar")))


@pytest.mark.parametrize("name", ["empty", "text", "cut", "half"])
def test_a_damaged_archive_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    whole = as_zip(tmp_path / "whole.zip").read_bytes()
    packed = as_tar(tmp_path / "whole.tar.gz", "w:gz").read_bytes()
    text = b"this is no archive at all, but a note about one. " * 30
    made = {
        "empty": (b"", b""), "text": (text, text), "cut": (whole[:-40], packed[: len(packed) // 2]),
        "half": (whole[len(whole) // 2 :], gzip.compress(text)),
    }  # fmt: skip
    (tmp_path / "bad.zip").write_bytes(made[name][0])
    (tmp_path / "bad.tar.gz").write_bytes(made[name][1])
    with pytest.raises(InputError, match=r"bad\.zip: is not a zip that can be read"):
        list(zip_pictures(tmp_path / "bad.zip"))
    with pytest.raises(InputError, match=r"bad\.tar\.gz: is not a tar that can be read"):
        list(tar_pictures(tmp_path / "bad.tar.gz"))
