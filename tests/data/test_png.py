"""The quick way gives what Pillow gives, and leaves to Pillow whatever is not whole and plain."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hemascope.data.pictures import decode_picture
from hemascope.data.png import decode_plain_png, plain_png_size
from hemascope.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def encoded(image: Image.Image, **options: object) -> bytes:
    with io.BytesIO() as file:
        image.save(file, "PNG", **options)
        return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


PLAIN = encoded(Image.fromarray(PIXELS))


@pytest.mark.parametrize("level", [0, 1, 9])
def test_plain_pictures_come_out_as_they_went_in(level: int) -> None:
    content = encoded(Image.fromarray(PIXELS), compress_level=level)
    assert plain_png_size(content) == (24, 20)
    pixels = decode_plain_png(content)
    assert pixels is not None
    assert np.array_equal(pixels, PIXELS)
    assert np.array_equal(decode_picture(content).pixels, PIXELS)


def test_gamma_and_text_change_no_pixel() -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text("microscope", "a")
    told.add(b"gAMA", struct.pack(">I", 100000))
    content = encoded(Image.fromarray(PIXELS), pnginfo=told, dpi=(300, 300))
    assert plain_png_size(content) == (24, 20)
    assert np.array_equal(decode_picture(content).pixels, PIXELS)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(PIXELS), exif=exif)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        PLAIN[:8],
        PLAIN[:-1],
        PLAIN[: len(PLAIN) // 2],
        PLAIN + b"\0",
        PLAIN.replace(b"IDAT", b"IDXT"),
        PLAIN[:200] + bytes([PLAIN[200] ^ 1]) + PLAIN[201:],
        encoded(Image.fromarray(PIXELS[..., 0])),
        encoded(Image.fromarray(PIXELS).convert("RGBA")),
        encoded(Image.fromarray(PIXELS).quantize(16)),
        encoded(Image.fromarray(PIXELS), transparency=(0, 0, 0)),
        encoded(Image.fromarray(PIXELS), save_all=True, append_images=[Image.fromarray(PIXELS[::-1])]),
        turned(),
    ],
)
def test_what_is_not_plain_and_whole_is_left_to_pillow(content: bytes) -> None:
    assert plain_png_size(content) is None


def test_a_turned_picture_is_turned_back() -> None:
    assert decode_picture(turned()).pixels.shape == (24, 20, 3)


def test_pixels_that_are_missing_in_a_whole_file_are_told() -> None:
    header = struct.pack(">IIBBBBB", 24, 20, 8, 2, 0, 0, 0)
    content = PLAIN[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    assert plain_png_size(content) == (24, 20)
    assert decode_plain_png(content) is None
    with pytest.raises(InputError, match="it is damaged or incomplete"):
        decode_picture(content)
