"""One picture of each kind decoded to the right pixels, and each bad one refused with its reason."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hemascope.data.pictures import MAX_PIXELS, decode, decode_picture
from hemascope.errors import InputError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_lossless_formats_give_their_pixels(kind: str) -> None:
    decoded = decode_picture(encoded(Image.fromarray(PIXELS), kind))
    assert np.array_equal(decoded.pixels, PIXELS)
    assert (decoded.jpeg, decoded.several) == (False, False)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_give_nearly_their_pixels(kind: str) -> None:
    across, down = np.meshgrid(np.arange(24), np.arange(20))
    smooth = np.stack([10 * across, 5 * across + 5 * down, 12 * down], axis=2).astype(np.uint8)
    decoded = decode_picture(encoded(Image.fromarray(smooth), kind, quality=95))
    assert np.abs(decoded.pixels.astype(int) - smooth).mean() < 3
    assert decoded.jpeg is (kind == "JPEG")


def test_a_path_gives_the_same_as_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "zellen bild ä.png"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))
    assert np.array_equal(decode(path), PIXELS)


def test_grey_gets_three_equal_channels() -> None:
    decoded = decode(encoded(Image.fromarray(PIXELS[..., 0])))
    assert np.array_equal(decoded, np.repeat(PIXELS[..., :1], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled(kind: str) -> None:
    values = RNG.integers(0, 65536, (20, 24)).astype(np.uint16)
    values[0, :3] = (0, 257 * 99, 65535)
    decoded = decode(encoded(Image.fromarray(values), kind))
    assert np.array_equal(decoded[..., 1], np.round(values / 257).astype(np.uint8))
    assert decoded[0, :3, 0].tolist() == [0, 99, 255]


def test_sixteen_bit_colour_is_scaled() -> None:
    values = RNG.integers(0, 65536, (20, 24, 3)).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    png = png_header(24, 20, depth=16) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    assert np.abs(decode(png) - values / 257).max() <= 1


def test_transparency_is_laid_on_white() -> None:
    alpha = RNG.integers(0, 256, (20, 24, 1), dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 255
    expected = PIXELS * (alpha / 255) + 255 * (1 - alpha / 255)
    decoded = decode(encoded(Image.fromarray(np.concatenate([PIXELS, alpha], axis=2))))
    assert np.abs(decoded - expected).max() <= 0.5 + 1e-9
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(decoded[0, 1], PIXELS[0, 1])


def test_grey_with_alpha_is_laid_on_white() -> None:
    values = np.dstack([PIXELS[..., 0], np.zeros((20, 24), np.uint8)])
    assert (decode(encoded(Image.fromarray(values, "LA"))) == 255).all()


def test_a_palette_gives_its_colours_and_its_transparency() -> None:
    palette = Image.fromarray((np.arange(480) % 3).reshape(20, 24).astype(np.uint8)).copy()
    palette.putpalette([200, 10, 20, 0, 90, 0, 1, 2, 3])
    plain = decode(encoded(palette))
    assert plain[0, :3].tolist() == [[200, 10, 20], [0, 90, 0], [1, 2, 3]]
    clear = decode(encoded(palette, transparency=1))
    assert clear[0, :3].tolist() == [[200, 10, 20], [255, 255, 255], [1, 2, 3]]


def test_cmyk_is_converted() -> None:
    cyan = Image.new("CMYK", (20, 20), (255, 0, 0, 0))
    for kind in ("TIFF", "JPEG"):
        red, green, blue = decode(encoded(cyan, kind)).reshape(-1, 3).mean(axis=0)
        assert red < 10
        assert min(green, blue) > 245


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_exif_orientation_is_applied(kind: str) -> None:
    marked = np.full((24, 40, 3), 255, np.uint8)
    marked[:8, :8] = 0
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the top is now on the right
    decoded = decode(encoded(Image.fromarray(marked), kind, exif=exif))
    assert decoded.shape == (40, 24, 3)
    assert decoded[:8, -8:].mean() < 10
    assert decoded[-8:].mean() > 245


def test_of_several_frames_the_first_is_taken_and_told() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    decoded = decode_picture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert decoded.several
    assert decoded.pixels[5, 5].tolist() == [255, 0, 0]


def test_float_pictures_are_taken_in_a_clear_range_only() -> None:
    unit = PIXELS[..., 0].astype(np.float32) / 255
    assert np.array_equal(decode(encoded(Image.fromarray(unit), "TIFF"))[..., 0], PIXELS[..., 0])
    with pytest.raises(InputError, match=r"its values run from .* floats in 0\.\.1 or 0\.\.255"):
        decode(encoded(Image.fromarray(unit * 3000 - 5), "TIFF"))


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (40, 7)])
def test_a_picture_too_small_for_a_cell_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"it has {size[0]} x {size[1]} pixels; a cell needs at least 8 x 8"):
        decode(encoded(Image.new("RGB", size)))


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (9_500, 9_500), (8_001, 8_000), (100_000, 100_000)])
def test_a_huge_picture_is_refused_before_decoding(width: int, height: int) -> None:
    assert width * height > MAX_PIXELS
    header_only = png_header(width, height) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match="more than the 64 million that are decoded"):
        decode(header_only)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"not a picture", "not a picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n", "not a picture of a known format"),
        (encoded(Image.fromarray(PIXELS))[:600], "it cannot be decoded .*damaged or incomplete"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:700], "it cannot be decoded .*damaged or incomplete"),
    ],
)
def test_what_is_no_whole_picture_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        decode(content)
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        decode(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    queue = tmp_path / "queue.png"
    os.mkfifo(queue)
    for path, reason in [
        (tmp_path / "none.png", "does not exist"),
        (tmp_path, "not a file"),
        (loop, "cannot be opened"),
        (queue, "not a file"),
    ]:
        with pytest.raises(InputError, match=reason):
            decode(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "AVIF", "JPEG2000", "PPM"])
def test_damage_of_any_kind_gives_pixels_or_a_reason(kind: str) -> None:
    whole = bytearray(encoded(Image.fromarray(PIXELS), kind))
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(40):
        damaged = whole.copy()
        for place in rng.integers(0, len(whole), 6):
            damaged[place] = rng.integers(256)
        try:
            outcomes.add(decode(bytes(damaged)).shape[-1])
        except InputError as error:
            outcomes.add(str(error).endswith("."))
    assert outcomes <= {3, True}


def test_the_process_is_left_as_it_was() -> None:
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    decode(encoded(Image.fromarray(PIXELS), "AVIF"))
    assert warnings.filters == filters
    assert limit == Image.MAX_IMAGE_PIXELS
