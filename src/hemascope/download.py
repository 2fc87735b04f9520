"""Fetch the public archives of blood cells, check them, and leave an npz that `load` reads."""

from __future__ import annotations

import hashlib
import http.client
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import build_opener

from hemascope.data.cells import Cells
from hemascope.data.classes import CLASS_NAMES, class_of
from hemascope.data.folder import is_picture
from hemascope.data.reading import Row, read_pictures
from hemascope.data.save import save_npz
from hemascope.errors import InputError
from hemascope.files import check_writable, replacing
from hemascope.progress import Progress

_BLOCK = 2**20
_PATIENCE_SECONDS = 60
# Mendeley Data turns away clients that do not present themselves as a browser.
_HEADERS = {"User-Agent": "Mozilla/5.0 (compatible; hemascope)"}
_NETWORK_ERRORS = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Archive:
    """One file to fetch. checksum: "md5:..." or "sha256:...", or None when its host has to be asked (listing)."""

    url: str
    checksum: str | None = None
    listing: str | None = None


# BloodMNIST by the side of its pictures: Zenodo record 10519652, MD5 as MedMNIST v2 publishes them (CC BY 4.0).
_ZENODO = "https://zenodo.org/records/10519652/files"
BLOODMNIST = {
    28: Archive(f"{_ZENODO}/bloodmnist.npz?download=1", "md5:7053d0359d879ad8a5505303e11de1dc"),
    64: Archive(f"{_ZENODO}/bloodmnist_64.npz?download=1", "md5:2b94928a2ae4916078ca51e05b6b800b"),
    128: Archive(f"{_ZENODO}/bloodmnist_128.npz?download=1", "md5:adace1e0ed228fccda1f39692059dd4c"),
    224: Archive(f"{_ZENODO}/bloodmnist_224.npz?download=1", "md5:b718ff6835fcbdb22ba9eacccd7b2601"),
}

# The original photographs, 360 x 363 JPEG: Mendeley Data, doi 10.17632/snkd93bnjr.1 (CC BY 4.0).
PBC = Archive(
    "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
    listing="https://data.mendeley.com/public-api/datasets/snkd93bnjr/files?folder_id=root&version=1",
)
PBC_FILE = "PBC_dataset_normal_DIB.zip"
# Acevedo et al., A dataset of microscopic peripheral blood cell images, Data in Brief 30, 2020, table 2; in the
# order of CLASS_NAMES.
PBC_COUNTS = dict(zip(CLASS_NAMES, (1218, 3117, 1551, 2895, 1214, 1420, 3329, 2348), strict=True))
# The cell fills the middle of the photograph; BloodMNIST takes the same window.
PBC_CROP = 200


def download(name: str, out: str | Path, *, size: int | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Fetch a public archive of blood cells, check it, and leave it as an npz; returns the path of that file.

    name: "bloodmnist" (17,092 cells with a split of their own, as published) or "pbc" (the photographs behind it, the
    central 200 pixels of each brought to `size`). out: the npz to write, or a folder to write it to. size: side of the
    pictures in pixels, 28, 64, 128 or 224 for bloodmnist (default 128), 8 to 200 for pbc (default 96). say: is given a
    sentence on how the file was checked.

    Raises InputError when the name or size is unknown, the file exists, the host cannot be reached, or the file that
    came is not the one published; no file is left behind then.
    """
    if name not in ARCHIVES:
        raise InputError(f"'{name}' is not an archive that can be downloaded; choose {' or '.join(ARCHIVES)}.")
    try:
        check_writable(Path(out))
        return ARCHIVES[name](Path(out), size, say or (lambda sentence: None))
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error}); name another place.") from error


def _bloodmnist(out: Path, size: int | None, say: Callable[[str], None]) -> Path:
    size = 128 if size is None else size
    if size not in BLOODMNIST:
        sizes = ", ".join(map(str, BLOODMNIST))
        raise InputError(f"bloodmnist: there is no {size} x {size} version; choose a size of {sizes}.")
    path = _target(out, f"bloodmnist_{size}.npz")
    archive = BLOODMNIST[size]
    with replacing(path) as partial, partial.open("wb") as file:
        _fetch(archive.url, archive.checksum, file, path.name)
    say(f"{path.name} has the checksum that MedMNIST publishes ({archive.checksum}).")
    return path


def _pbc(out: Path, size: int | None, say: Callable[[str], None]) -> Path:
    size = 96 if size is None else size
    if not 8 <= size <= PBC_CROP:
        raise InputError(f"pbc: a size of {size} is not possible; choose 8 to {PBC_CROP} pixels.")
    path = _target(out, f"pbc_{size}.npz")
    checksum = PBC.checksum or _published_sha256(PBC.listing, PBC_FILE)
    with tempfile.TemporaryFile(dir=path.parent) as file:
        _fetch(PBC.url, checksum, file, PBC_FILE)
        cells = _rebuilt(file, size)
    save_npz(cells, path)
    counted = f"{len(cells):,} pictures, each class as many as published, each with its CRC-32"
    how = f"the checksum that its host publishes ({checksum})" if checksum else "no checksum that its host would tell"
    say(f"{PBC_FILE} has {how}; {counted}.")
    return path


ARCHIVES: dict[str, Callable[[Path, int | None, Callable[[str], None]], Path]] = {
    "bloodmnist": _bloodmnist,
    "pbc": _pbc,
}


def _target(out: Path, name: str) -> Path:
    """The file to write. Raises InputError when it exists already."""
    path = out if out.suffix == ".npz" else out / name
    if path.exists():
        raise InputError(f"{path}: exists already; remove it first or name another file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _fetch(url: str, checksum: str | None, file: IO[bytes], title: str) -> None:
    """Stream a URL into an open file. Raises InputError offline, and for another checksum than the one given."""
    kind, _, expected = (checksum or "md5:").partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    with _opened(url) as response:
        length = int(response.headers.get("Content-Length") or 0)
        received = 0
        with Progress(f"downloading {title}", -(-length // _BLOCK), "MiB") as progress:
            for block in _blocks(response, url):
                file.write(block)
                digest.update(block)
                progress.advance((received + len(block)) // _BLOCK - received // _BLOCK)
                received += len(block)
    if length and received != length:
        raise InputError(f"{title}: {received:,} of {length:,} bytes came from {_host(url)}; try again.")
    if checksum and digest.hexdigest() != expected:
        raise InputError(
            f"{title}: what came from {_host(url)} has the {kind} {digest.hexdigest()} but {expected} is published; "
            "nothing was kept, so try again later."
        )
    file.flush()


def _opened(url: str) -> Any:
    try:
        opener = build_opener()
        opener.addheaders = list(_HEADERS.items())
        return opener.open(url, timeout=_PATIENCE_SECONDS)
    except HTTPError as error:
        with error:
            raise InputError(
                f"{_host(url)} answers {error.code} ({error.reason}) for {url}; try again later."
            ) from error
    except _NETWORK_ERRORS as error:
        raise _unreachable(url, error) from error


def _blocks(response: IO[bytes], url: str) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except _NETWORK_ERRORS as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> InputError:
    reason = getattr(error, "reason", None) or error
    return InputError(
        f"{_host(url)} cannot be reached ({str(reason) or type(reason).__name__}); go online and try again, or fetch "
        f"{url} elsewhere and bring the file here."
    )


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _published_sha256(listing: str | None, name: str) -> str | None:
    """The checksum that the host's own list of files gives, or None when it gives none."""
    if listing is None:
        return None
    try:
        with _opened(listing) as response:
            files = json.loads(response.read())
        found = [file["content_details"]["sha256_hash"] for file in files if file["filename"] == name]
    except (InputError, ValueError, KeyError, TypeError, *_NETWORK_ERRORS):
        # The list is a help and the archive is what is wanted: without it the published counts still have to agree.
        return None
    return f"sha256:{found[0]}" if found else None


def _rebuilt(file: IO[bytes], size: int) -> Cells:
    """The cells of the PBC archive, `size` pixels wide. Raises InputError unless the counts are as published."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = [(info, class_of(path.parent.name) or path.parent.name) for info, path in _pictures(archive)]
            _check_counts(Counter(cell for _, cell in members))
            rows = [
                Row("/".join(PurePosixPath(info.filename).parts[-2:]), CLASS_NAMES.index(cell))
                for info, cell in members
            ]
            sources = (archive.read(info) for info, _ in members)
            cells = read_pictures(sources, rows, size=size, crop=PBC_CROP, source=PBC_FILE)
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{PBC_FILE}: what came is damaged ({error}); try again.") from error
    if cells.unreadable:
        name, reason = next(iter(cells.unreadable.items()))
        raise InputError(f"{PBC_FILE}: {len(cells.unreadable)} of its pictures cannot be read, as {name}: {reason}")
    return cells


def _pictures(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        path = PurePosixPath(info.filename)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if not hidden and is_picture(Path(path.name)):
            yield info, path


def _check_counts(found: Counter[str]) -> None:
    for cell in [*PBC_COUNTS, *found]:
        if found[cell] != PBC_COUNTS.get(cell, 0):
            raise InputError(
                f"{PBC_FILE}: what came has {found[cell]:,} pictures of {cell} but {PBC_COUNTS.get(cell, 0):,} are "
                "published; try again later."
            )
