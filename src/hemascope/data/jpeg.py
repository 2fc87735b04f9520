"""A quick way through the commonest JPEG, 8 bits of luminance and colour; every other picture is opened by Pillow.

The decoder is Pillow's, too, without the objects around it, which take longer than a picture of one cell does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from hemascope.data.cells import Images

_BEGINNING, _END = b"\xff\xd8\xff", b"\xff\xd9"
_TABLES, _HUFFMAN, _RESTART, _SCAN = 0xDB, 0xC4, 0xDD, 0xDA
_BASELINE, _PROGRESSIVE = 0xC0, 0xC2
_JFIF, _COMMENT = 0xE0, 0xFE
# 8 bits, and three channels that are numbered as those of luminance and colour are.
_PLAIN_IDS = b"\x01\x02\x03"
_TABLE_BYTES = 65


class PlainJpeg(NamedTuple):
    """Width and height, and the sum of the luminance table, which tells the quality."""

    size: tuple[int, int]
    table_sum: int


def plain_jpeg(content: bytes) -> PlainJpeg | None:
    """What the head of a whole JPEG of luminance and colour says, or None where there is anything unusual in it.

    Nothing but the picture may be in it: what may be turned (Exif), is in other colours (Adobe), has further frames, is
    cut off or goes on after its end is not plain.
    """
    if content[:3] != _BEGINNING or content[-2:] != _END:
        return None
    at, size, table_sum = 2, None, None
    while at + 4 <= len(content) and content[at] == 0xFF:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        body = content[at + 4 : at + 2 + length]
        at += 2 + length
        if kind == _SCAN:
            ends = content.find(_END, at) == len(content) - 2
            return PlainJpeg(size, table_sum) if ends and size and table_sum else None
        if kind in (_BASELINE, _PROGRESSIVE) and size is None:
            if len(body) != 15 or body[0] != 8 or body[5] != 3 or body[6::3] != _PLAIN_IDS:
                return None
            size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
        elif kind == _TABLES:
            if len(body) % _TABLE_BYTES or any(first > 3 for first in body[::_TABLE_BYTES]):
                return None
            if (first := body[::_TABLE_BYTES].find(b"\x00")) >= 0:
                table_sum = sum(body[first * _TABLE_BYTES + 1 : (first + 1) * _TABLE_BYTES])
        elif kind not in (_HUFFMAN, _RESTART, _JFIF, _COMMENT):
            return None
    return None


def decode_plain_jpeg(content: bytes, size: tuple[int, int]) -> Images | None:
    """The pixels, uint8 (height, width, 3), of what `plain_jpeg` knows, or None where they are damaged."""
    try:
        return np.array(Image.frombytes("RGB", size, content, "jpeg", "RGB", ""))
    except (ValueError, OSError):
        return None
