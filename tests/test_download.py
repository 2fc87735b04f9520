"""Downloading from a server on this machine: what is checked, what is rebuilt, what is refused and left behind."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hemascope import download as download_module
from hemascope.data import CLASS_NAMES, load
from hemascope.download import BLOODMNIST, PBC, PBC_COUNTS, PBC_FILE, Archive, download
from hemascope.errors import InputError


class Server:
    """A web server on this machine that holds some files; `missing_bytes` are announced and never sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.missing_bytes = 0
        self.clients: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.clients.append(self.headers.get("User-Agent", ""))
                content = outer.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"") + outer.missing_bytes))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.stop()


def medmnist() -> bytes:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = rng.integers(0, 256, (8, 28, 28, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(8)[:, None]
    with io.BytesIO() as file:
        np.savez_compressed(file, **arrays)
        return file.getvalue()


@pytest.fixture
def bloodmnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    content = medmnist()
    server.files["/b.npz"] = content
    checksum = "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(BLOODMNIST, 28, Archive(server.url("/b.npz"), checksum))
    return server


def photograph(seed: int) -> Image.Image:
    """360 x 363 pixels, white around a square of 200 whose upper half is dark."""
    pixels = np.full((363, 360, 3), 255, np.uint8)
    pixels[81:181, 80:280] = 30 + seed
    pixels[181:281, 80:280] = 200
    return Image.fromarray(pixels)


def pbc_archive(counts: dict[str, int], extra: dict[str, bytes] | None = None) -> bytes:
    folders = dict(
        zip(CLASS_NAMES, ["basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte"], strict=False)
    )
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            for cell, count in counts.items():
                for row in range(count):
                    with io.BytesIO() as picture:
                        photograph(row).save(picture, "JPEG", quality=95)
                        folder = folders.get(cell, cell)
                        archive.writestr(f"PBC_dataset_normal_DIB/{folder}/X_{row}.jpg", picture.getvalue())
            for name, content in (extra or {}).items():
                archive.writestr(name, content)
        return file.getvalue()


@pytest.fixture
def pbc(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    hidden = {"PBC_dataset_normal_DIB/neutrophil/.DS_1.jpg": b"x", "__MACOSX/PBC_dataset_normal_DIB/ig/a.jpg": b"x"}
    content = pbc_archive({"immature granulocyte": 2, "platelet": 3}, hidden)
    listing = [
        {"filename": "readme.txt", "content_details": {"sha256_hash": "0" * 64}},
        {"filename": PBC_FILE, "content_details": {"sha256_hash": hashlib.sha256(content).hexdigest()}},
    ]
    server.files |= {"/pbc.zip": content, "/files": json.dumps(listing).encode()}
    monkeypatch.setattr(download_module, "PBC", Archive(server.url("/pbc.zip"), listing=server.url("/files")))
    monkeypatch.setattr(
        download_module, "PBC_COUNTS", dict.fromkeys(CLASS_NAMES, 0) | {"immature granulocyte": 2, "platelet": 3}
    )
    return server


def test_bloodmnist_arrives_as_published(bloodmnist: Server, tmp_path: Path) -> None:
    said: list[str] = []
    path = download("bloodmnist", tmp_path / "new" / "b.npz", size=28, say=said.append)
    assert path.read_bytes() == bloodmnist.files["/b.npz"]
    assert [file.name for file in path.parent.iterdir()] == ["b.npz"]
    assert "has the checksum that MedMNIST publishes (md5:" in said[0]
    cells = load(path)
    assert len(cells) == 24
    assert cells.split is not None


def test_a_folder_gets_a_file_of_the_usual_name(bloodmnist: Server, tmp_path: Path) -> None:
    assert download("bloodmnist", str(tmp_path), size=28) == tmp_path / "bloodmnist_28.npz"


@pytest.mark.parametrize("damage", ["other bytes", "cut short", "ends early"])
def test_what_is_not_the_published_file_is_refused_and_not_kept(
    bloodmnist: Server, tmp_path: Path, damage: str
) -> None:
    content = bloodmnist.files["/b.npz"]
    if damage == "other bytes":
        bloodmnist.files["/b.npz"] = content[:-1] + bytes([content[-1] ^ 1])
    elif damage == "cut short":
        bloodmnist.files["/b.npz"] = content[:-10]
    else:
        bloodmnist.missing_bytes = 10
    sentence = (
        r"of .* bytes came from|cannot be reached"
        if damage == "ends early"
        else r"has the md5 \w+ but \w+ is published"
    )
    with pytest.raises(InputError, match=sentence):
        download("bloodmnist", tmp_path, size=28)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_not_overwritten(bloodmnist: Server, tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"b\.npz: exists already; remove it first or name another file"):
        download("bloodmnist", path, size=28)
    assert path.read_text() == "mine"
    assert bloodmnist.clients == []


def test_a_place_that_cannot_be_written_is_told(bloodmnist: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"nothing can be written inside it; name another place"):
        download("bloodmnist", tmp_path / "file" / "b.npz", size=28)


@pytest.mark.parametrize("name", ["bloodmnist", "pbc"])
def test_offline_is_told(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    nobody = Archive(server.url("/x"), "sha256:00" if name == "pbc" else "md5:00")
    server.stop()
    monkeypatch.setattr(server, "stop", lambda: None)
    monkeypatch.setitem(BLOODMNIST, 128, nobody)
    monkeypatch.setattr(download_module, "PBC", nobody)
    with pytest.raises(InputError, match=r"127\.0\.0\.1 cannot be reached \(.*\); go online and try again") as refusal:
        download(name, tmp_path)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_host_without_the_file_is_told(bloodmnist: Server, tmp_path: Path) -> None:
    del bloodmnist.files["/b.npz"]
    with pytest.raises(InputError, match=r"127\.0\.0\.1 answers 404 \(Not Found\)"):
        download("bloodmnist", tmp_path, size=28)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("imagenet", None, "'imagenet' is not an archive that can be downloaded; choose bloodmnist or pbc"),
        ("bloodmnist", 96, "there is no 96 x 96 version; choose a size of 28, 64, 128, 224"),
        ("pbc", 201, "a size of 201 is not possible; choose 8 to 200 pixels"),
    ],
)
def test_what_there_is_not_is_refused(tmp_path: Path, name: str, size: int | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        download(name, tmp_path, size=size)


def test_pbc_is_rebuilt_from_the_central_200_pixels(pbc: Server, tmp_path: Path) -> None:
    said: list[str] = []
    path = download("pbc", tmp_path / "pbc.npz", say=said.append)
    cells = load(path)
    assert cells.images.shape == (5, 96, 96, 3)
    assert cells.class_counts()["immature granulocyte"] == 2
    assert cells.class_counts()["platelet"] == 3
    assert cells.ids.tolist() == [
        "ig/X_0.jpg",
        "ig/X_1.jpg",
        "platelet/X_0.jpg",
        "platelet/X_1.jpg",
        "platelet/X_2.jpg",
    ]
    assert cells.jpeg is not None
    assert cells.jpeg.all()
    for image, seed in zip(cells.images[:], (0, 1, 0, 1, 2), strict=True):
        reference = photograph(seed).crop((80, 81, 280, 281)).resize((96, 96), Image.Resampling.BICUBIC)
        assert np.abs(image.astype(int) - np.asarray(reference)).max() <= 8  # JPEG at the edge of the dark half
        assert image[:40].mean() < 50
        assert abs(image[56:].mean() - 200) < 5
    assert "the checksum that its host publishes (sha256:" in said[0]
    assert "5 pictures, each class as many as published" in said[0]
    assert [file.name for file in tmp_path.iterdir()] == ["pbc.npz"]
    assert all(client.startswith("Mozilla/") for client in pbc.clients)


def test_pbc_with_another_checksum_is_refused(pbc: Server, tmp_path: Path) -> None:
    pbc.files["/pbc.zip"] = pbc_archive({"immature granulocyte": 2, "platelet": 3})
    with pytest.raises(InputError, match=r"has the sha256 \w{64} but \w{64} is published; nothing was kept"):
        download("pbc", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("listing", [None, b"<html>", b"[]", b'{"a": 1}'])
def test_pbc_without_a_published_checksum_is_held_to_the_counts(
    pbc: Server, tmp_path: Path, listing: bytes | None
) -> None:
    del pbc.files["/files"]
    if listing is not None:
        pbc.files["/files"] = listing
    said: list[str] = []
    assert len(load(download("pbc", tmp_path / "a.npz", say=said.append))) == 5
    assert "no checksum that its host would tell" in said[0]
    pbc.files["/pbc.zip"] = pbc_archive({"immature granulocyte": 2, "platelet": 2})
    with pytest.raises(InputError, match="what came has 2 pictures of platelet but 3 are published"):
        download("pbc", tmp_path / "b.npz")
    pbc.files["/pbc.zip"] = pbc_archive({"immature granulocyte": 2, "platelet": 3, "blast": 1})
    with pytest.raises(InputError, match="what came has 1 pictures of blast but 0 are published"):
        download("pbc", tmp_path / "b.npz")
    pbc.files["/pbc.zip"] = b"no zip"
    with pytest.raises(InputError, match="what came is damaged"):
        download("pbc", tmp_path / "b.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_the_published_numbers_are_those_of_the_papers() -> None:
    assert sum(PBC_COUNTS.values()) == 17_092
    assert tuple(PBC_COUNTS) == CLASS_NAMES
    assert PBC.url.startswith("https://")
    assert sorted(BLOODMNIST) == [28, 64, 128, 224]
    assert len({archive.checksum for archive in BLOODMNIST.values()}) == 4
    assert all(archive.url.startswith("https://") for archive in BLOODMNIST.values())
