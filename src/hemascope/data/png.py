"""A quick way through the commonest PNG, 8 bits of red, green and blue; every other picture goes to Pillow."""

from __future__ import annotations

import zlib

import numpy as np

from hemascope.data.cells import Images

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = _SIGNATURE + b"\x00\x00\x00\rIHDR"
# 8 bits, red, green and blue, and the one compression and filter method that there is, not interlaced.
_PLAIN = b"\x08\x02\x00\x00\x00"
# What says nothing about how the pixels are to be shown; a chunk of any other kind leaves the file to Pillow.
_HARMLESS = frozenset({b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sRGB", b"gAMA", b"cHRM", b"tEXt", b"tIME", b"bKGD"})


def plain_png_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a whole PNG of 8-bit RGB without anything unusual in it, or None.

    Every chunk must be known, whole and have the right checksum, and the last must be the end and end the file: what
    is cut off, animated, transparent, turned or damaged is not plain.
    """
    if content[:16] != _HEADER or content[24:29] != _PLAIN:
        return None
    at, kind = len(_SIGNATURE), b""
    while at + 12 <= len(content) and kind != b"IEND":
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if kind not in _HARMLESS or content[end : end + 4] != zlib.crc32(content[at + 4 : end]).to_bytes(4, "big"):
            return None
        at = end + 4
    if kind != b"IEND" or at != len(content):
        return None
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def decode_plain_png(content: bytes) -> Images | None:
    """The pixels, uint8 (height, width, 3), of what `plain_png_size` calls plain, or None where they are damaged."""
    # Not at the top: what reads no plain PNG need not wait for it.
    import cv2

    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if pixels is None else np.asarray(pixels, np.uint8)
