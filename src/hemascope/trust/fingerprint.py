"""Which of these pictures trained this model? A short fingerprint of each training picture travels with the model.

A fingerprint is 64 signs of low frequencies of a picture's grey levels, which recompression and resizing leave alone.
Signs of cosine coefficients tell copies, as in Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010. Here only frequencies that are odd along an axis are used: the even ones show that a cell is round and
lies in the middle, in which all pictures of cells agree. Among the 60 million pairs of pictures that made the model
`small` the nearest two differ in 7 signs (`bench/trust_drift.py`).

The hash of the exact pixels does not travel too: an exact copy has the same fingerprint, and at the distance that is
allowed here no other real cell was taken for one, so that eight more bytes a row would tell nothing new.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.data.cells import Images, Pictures
from hemascope.errors import InputError
from hemascope.wording import many

Hashes = NDArray[np.uint64]

KIND = "odd-cosines-64"
"""What a model's file calls these fingerprints. Others would be another name."""
DISTANCE = 4
"""Up to so many differing signs two pictures show one cell: copies differ in up to 4, other cells in 7 or more."""

_BITS = 64
_READ, _COMPARED = 256, 64
# Grey levels below which a frequency is nothing but rounding.
_LEAST = 0.01


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprints of the pictures that made a model: uint64 (rows,), in the order of those rows."""

    hashes: Hashes

    def __len__(self) -> int:
        return len(self.hashes)

    def as_json(self) -> dict[str, Any]:
        """kind, rows, and the numbers as little-endian bytes in base64: 10.7 characters a row."""
        packed = base64.b64encode(np.ascontiguousarray(self.hashes, "<u8").tobytes()).decode("ascii")
        return {"kind": KIND, "rows": len(self.hashes), "hashes": packed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Fingerprint:
        """What `as_json` gave. Raises InputError when it is of another kind or damaged."""
        if content.get("kind") != KIND:
            raise InputError(
                f"the model's fingerprints are of the kind '{content.get('kind')}', but this version of hemascope "
                f"knows '{KIND}'; install the version that trained the model."
            )
        try:
            packed = base64.b64decode(str(content.get("hashes", "")), validate=True)
        except binascii.Error:
            packed = b""
        rows = content.get("rows")
        if not isinstance(rows, int) or len(packed) != 8 * rows:
            raise InputError(
                f"the model's fingerprints are damaged: {len(packed):,} bytes for {rows} rows, expected 8 a row; "
                "export the model again."
            )
        return cls(np.frombuffer(packed, "<u8").astype(np.uint64))


class Known(NamedTuple):
    """What `known_rows` gives: known bool (n,); nearest int64 (n,), the training row that comes nearest, -1 where the
    picture is blank or there is none; distance int64 (n,), in how many of 64 signs it differs, 64 where there is none.
    """

    known: NDArray[np.bool_]
    nearest: NDArray[np.int64]
    distance: NDArray[np.int64]


def fingerprint(images: Pictures) -> Hashes:
    """The 64 signs of each picture: uint64 (n,); 0 for a picture of one colour.

    images: uint8 (n, height, width, 3), RGB, or pictures that are read by row. Height and width may be any from 28 up,
    and need not agree between the sets that are compared. Raises InputError for another shape or type.
    """
    shape = images.shape
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape[1:]:
        raise InputError(f"pictures have the shape {shape}, but fingerprints take uint8 (n, height, width, 3) in RGB.")
    down, across = _cosines(shape[1]), _cosines(shape[2])
    found = np.zeros(shape[0], np.uint64)
    for start in range(0, shape[0], _READ):
        part = np.asarray(images[start : start + _READ])
        if part.dtype != np.uint8:
            raise InputError(f"pictures are {part.dtype}, but fingerprints take uint8 (n, height, width, 3) in RGB.")
        coefficients = down @ _grey(part) @ across.T
        signs = coefficients[:, _frequencies()[0], _frequencies()[1]] > _LEAST
        packed = np.packbits(signs, axis=1, bitorder="little")
        found[start : start + _READ] = np.ascontiguousarray(packed).view("<u8")[:, 0]
    return found


def fingerprint_of(images: Pictures) -> Fingerprint:
    """What travels with a model that these pictures made; images as for `fingerprint`."""
    return Fingerprint(fingerprint(images))


def known_rows(trained: Fingerprint, images: Pictures, distance: int = DISTANCE) -> Known:
    """Which of some pictures made a model, exactly or after recompression or resizing.

    trained: what the model carries. images: as for `fingerprint`. distance: up to how many differing signs count as one
    picture. A turned, mirrored or moved copy is not found: `hemascope.audit` finds those, with both files at hand.
    """
    return nearest_rows(trained, fingerprint(images), distance)


def nearest_rows(trained: Fingerprint, hashes: Hashes, distance: int = DISTANCE) -> Known:
    """As `known_rows`, where the fingerprints of the pictures, uint64 (n,), are there already."""
    nearest, apart = np.full(len(hashes), -1, np.int64), np.full(len(hashes), _BITS, np.int64)
    stored = np.flatnonzero(trained.hashes)
    if len(stored):
        against = trained.hashes[stored]
        for start in range(0, len(hashes), _COMPARED):
            rows = slice(start, start + _COMPARED)
            differing = np.bitwise_count(hashes[rows, None] ^ against[None])
            place = differing.argmin(1)
            nearest[rows], apart[rows] = stored[place], differing[np.arange(len(place)), place]
    blank = hashes == 0
    nearest[blank], apart[blank] = -1, _BITS
    return Known(apart <= distance, nearest, apart)


def known_sentence(known: ArrayLike, correct: ArrayLike | None = None) -> str:
    """How many pictures trained the model, in words; empty when none did.

    known: bool (n,), from `known_rows`. correct: bool (n,), whether each was named rightly; then the accuracy of the
    others is told.
    """
    rows = np.asarray(known, bool)
    count = int(rows.sum())
    if not count:
        return ""
    told = f"{count:,} of {'this' if len(rows) == 1 else 'these'} {many(len(rows), 'picture')} trained this model"
    if correct is None:
        return f"{told}; it may know {'it' if count == 1 else 'them'} by heart."
    if rows.all():
        return f"{told}, so that its accuracy here says nothing; give pictures that it has not seen."
    right = np.asarray(correct, bool)
    return f"{told}; without them {right[~rows].mean():.3f}, with them {right.mean():.3f}."


def _grey(images: Images) -> NDArray[np.float32]:
    count, height, width = images.shape[:3]
    # One tall picture, so that one call serves them all.
    tall = cv2.cvtColor(np.ascontiguousarray(images).reshape(count * height, width, 3), cv2.COLOR_RGB2GRAY)
    return np.asarray(tall.reshape(count, height, width), np.float32)


@lru_cache(maxsize=1)
def _frequencies() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lowest frequencies (down, across) that are odd along an axis or both, as many as there are bits."""
    most = range(_BITS)
    pairs = sorted((u + v, u, v) for u in most for v in most if u % 2 or v % 2)[:_BITS]
    _, down, across = (np.array(values, np.int64) for values in zip(*pairs, strict=True))
    return down, across


@lru_cache(maxsize=16)
def _cosines(side: int) -> NDArray[np.float32]:
    """(frequencies, side): each row gives one cosine coefficient of a line of pixels, in grey levels at any size."""
    most = int(max(values.max() for values in _frequencies())) + 1
    angle = np.pi * np.arange(most)[:, None] * (np.arange(side) + 0.5)[None, :] / side
    return np.asarray(np.cos(angle) / side, np.float32)
