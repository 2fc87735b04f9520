"""The quick way gives what Pillow gives, and leaves to Pillow whatever is not whole and plain."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from hemascope.data import Images
from hemascope.data.jpeg import decode_plain_jpeg, plain_jpeg
from hemascope.data.pictures import decode_picture
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells

PIXELS = np.asarray(draw_cells(1, seed=0).images[0][:90])


def encoded(image: Image.Image, **options: object) -> bytes:
    with io.BytesIO() as file:
        image.save(file, "JPEG", **options)
        return file.getvalue()


def by_pillow(content: bytes) -> Images | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None


PLAIN = encoded(Image.fromarray(PIXELS))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [20, 75, 100])
def test_plain_pictures_have_the_pixels_that_pillow_finds(subsampling: int, progressive: bool, quality: int) -> None:
    content = encoded(
        Image.fromarray(PIXELS), subsampling=subsampling, progressive=progressive, quality=quality, comment=b"a"
    )
    about = plain_jpeg(content)
    assert about is not None
    assert about.size == (96, 90)
    pixels = decode_plain_jpeg(content, about.size)
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(by_pillow(content)))
    found = decode_picture(content)
    assert np.array_equal(found.pixels, pixels)
    assert found.jpeg
    assert found.mode == "RGB"
    assert abs(found.jpeg_quality - quality) < 2


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(PIXELS), exif=exif)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        PLAIN[:3],
        PLAIN[:-1],
        PLAIN[: len(PLAIN) // 2],
        PLAIN + b"\0",
        PLAIN + PLAIN,
        PLAIN[:-2],
        encoded(Image.fromarray(PIXELS[..., 0])),
        encoded(Image.fromarray(PIXELS).convert("CMYK")),
        encoded(Image.fromarray(PIXELS), keep_rgb=True),
        turned(),
    ],
)
def test_what_is_not_plain_and_whole_is_left_to_pillow(content: bytes) -> None:
    assert plain_jpeg(content) is None


def test_a_turned_picture_is_turned_back() -> None:
    assert decode_picture(turned()).pixels.shape == (96, 90, 3)


def test_damaged_pictures_come_out_as_pillow_has_them() -> None:
    drawn = random.Random(0)
    met = 0
    for _ in range(400):
        content = bytearray(PLAIN)
        for _ in range(drawn.randint(1, 3)):
            at = drawn.randrange(2, len(content) - 2)
            if drawn.random() < 0.5:
                content[at] = drawn.randrange(256)
            else:
                del content[at : at + drawn.randint(1, 40)]
        damaged = bytes(content)
        if (about := plain_jpeg(damaged)) is None or about.size[0] * about.size[1] > 10**6:
            continue
        met += 1
        expected = by_pillow(damaged)
        found = decode_plain_jpeg(damaged, about.size)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert np.array_equal(found, expected)
    assert met > 100


def test_a_picture_that_ends_in_its_data_is_told() -> None:
    scan = PLAIN.index(b"\xff\xda")
    content = PLAIN[: scan + 14] + PLAIN[-2:]
    assert plain_jpeg(content) is not None
    pixels = decode_plain_jpeg(content, (96, 90))
    if pixels is None:
        with pytest.raises(InputError, match="it cannot be decoded"):
            decode_picture(content)
    else:
        assert np.array_equal(pixels, np.asarray(by_pillow(content)))
