"""Decode one picture, whatever it is, to 8-bit RGB, or say in a few words why not."""

from __future__ import annotations

import re
import stat
import threading
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageOps, UnidentifiedImageError

from hemascope.data.cells import Images
from hemascope.data.jpeg import decode_plain_jpeg, plain_jpeg
from hemascope.data.pixels import MIN_SIDE, expected_ranges, from_16_bit, over_white, scale_for
from hemascope.data.png import decode_plain_png, plain_png_size
from hemascope.errors import InputError

# A picture of one cell has some 0.1 million pixels; what is far beyond a whole field of view is refused undecoded.
MAX_PIXELS = 64_000_000
# Up to so many bytes a file is read in one go, as the many small reads of a decoder take a tenth of its time.
READ_AT_ONCE = 2**20
PICTURE_ENDINGS = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

_SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_JPEG_FORMATS = frozenset({"JPEG", "MPO"})
# Formats that run a program (PostScript) or fetch other files are never opened.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# What `_opened` changes and puts back belongs to the whole process, so only one thread at a time may.
_opening = threading.Lock()


# The sum of the luminance table that the JPEG standard (ITU-T T.81, table K.1) gives as an example.
_LUMINANCE_AT_50 = 3688


@dataclass(frozen=True)
class Decoded:
    """One decoded picture.

    pixels: uint8 (height, width, 3). jpeg: whether it was JPEG. several: whether it had further frames, left out.
    mode: Pillow's name for how the file holds its pixels ("RGB", "L", "P", ...). jpeg_quality: 1 to 100, as its
    quantisation table tells, or NaN where it was no JPEG.
    """

    pixels: Images
    jpeg: bool
    several: bool
    mode: str
    jpeg_quality: float


def decode(source: bytes | Path, most_pixels: int = MAX_PIXELS) -> Images:
    """The pixels of a picture: uint8 (height, width, 3), RGB.

    source: the encoded file (AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF, WebP) or its path. Grey, palette
    and CMYK become RGB, 16 bits are scaled to 8, transparency is laid on white, the EXIF orientation is applied, and
    of several frames the first is taken. Raises InputError with the reason when it is no picture, is damaged, has
    less than 8 pixels on a side, or has more than `most_pixels` (refused before decoding).
    """
    return decode_picture(source, most_pixels).pixels


def decode_picture(source: bytes | Path, most_pixels: int = MAX_PIXELS) -> Decoded:
    """As `decode`, with what the pixels do not tell: whether it was JPEG, and whether it had further frames."""
    try:
        content = source if isinstance(source, bytes) else _content(source)
        plain = _plain(content, most_pixels) if isinstance(content, bytes) else None
        if plain is not None:
            return plain
        with _opened(content) as image:
            _check_size(image.size, most_pixels)
            jpeg = image.format in _JPEG_FORMATS
            # A camera's JPEG may carry a small preview as its second frame, which is nothing to tell.
            several = not jpeg and getattr(image, "n_frames", 1) > 1
            if several:
                image.seek(0)
            mode, quality = image.mode, _jpeg_quality(image)
            # In place, since each copy of a small picture costs a tenth of decoding it.
            ImageOps.exif_transpose(image, in_place=True)
            return Decoded(_rgb(image), jpeg, several, mode, quality)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("it does not exist; check the name.") from error
    except UnidentifiedImageError as error:
        raise InputError(
            "it is not a picture of a known format; expected PNG, JPEG, TIFF, BMP, GIF, WebP or AVIF."
        ) from error
    except Image.DecompressionBombError as error:
        # Pillow refuses such a picture before its sides can be asked for; their product stands in its message.
        found = re.search(r"\d+", str(error))
        pixels = f"{int(found[0]):,}" if found else "far too many"
        raise InputError(_too_large(pixels, most_pixels)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"it cannot be opened ({error.strerror}); check the name and your rights.") from error
        # A damaged file makes the decoders raise errors of nearly every type; each means the same here.
        reason = str(error) or type(error).__name__
        raise InputError(f"it cannot be decoded ({reason.rstrip('.')}); it is damaged or incomplete.") from error


def _content(path: Path) -> bytes | Path:
    """What a file holds, or its path where it is too large to be read in one go."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise InputError("it is not a file; give a picture.")
    return path.read_bytes() if about.st_size <= READ_AT_ONCE else path


def _plain(content: bytes, most_pixels: int) -> Decoded | None:
    """What the quick ways give; None where the picture is not plain, or where Pillow is to say what is wrong."""
    if (size := plain_png_size(content)) is not None:
        _check_size(size, most_pixels)
        pixels, jpeg, quality = decode_plain_png(content), False, float("nan")
    elif (about := plain_jpeg(content)) is not None:
        _check_size(about.size, most_pixels)
        pixels, jpeg, quality = decode_plain_jpeg(content, about.size), True, _quality_of(about.table_sum)
    else:
        return None
    return None if pixels is None else Decoded(pixels, jpeg, False, "RGB", quality)


def _opened(content: bytes | Path) -> Image.Image:
    if not content:
        raise InputError("it is empty (0 bytes); copy it again.")
    file = BytesIO(content) if isinstance(content, bytes) else content
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = AvifImagePlugin.DEFAULT_MAX_THREADS
        # Starting threads for one small AVIF costs more than decoding it (0.8 against 2.2 ms for 96 x 96).
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        try:
            return Image.open(file, formats=_FORMATS)
        finally:
            AvifImagePlugin.DEFAULT_MAX_THREADS = threads


def _jpeg_quality(image: Image.Image) -> float:
    """The quality at which the Independent JPEG Group's encoder would write the file's luminance table."""
    table = getattr(image, "quantization", {}).get(0)
    return _quality_of(sum(table)) if table else float("nan")


def _quality_of(table_sum: int) -> float:
    scale = 100 * table_sum / _LUMINANCE_AT_50
    return float(np.clip(5000 / scale if scale > 100 else (200 - scale) / 2, 1, 100))


def _check_size(size: tuple[int, int], most_pixels: int) -> None:
    width, height = size
    if width * height > most_pixels:
        raise InputError(_too_large(f"{width:,} x {height:,}", most_pixels))
    if min(width, height) < MIN_SIDE:
        raise InputError(f"it has {width} x {height} pixels; a cell needs at least {MIN_SIDE} x {MIN_SIDE}.")


def _too_large(pixels: str, most_pixels: int) -> str:
    most = f"{most_pixels / 10**6:g} million" if most_pixels >= 10**6 else f"{most_pixels:,}"
    return f"it has {pixels} pixels, more than the {most} that are decoded; cut the cell out first."


def _rgb(image: Image.Image) -> Images:
    if image.mode in _SIXTEEN_BIT_MODES:
        return _grey(from_16_bit(np.asarray(image)))
    if image.mode in ("I", "F"):
        return _grey(_scaled(np.asarray(image)))
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _grey(values: NDArray[np.uint8]) -> Images:
    return np.repeat(values[:, :, None], 3, axis=2)


def _scaled(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "i" and low >= 0 and high <= 65535:
        return from_16_bit(values)
    scale = scale_for(values.dtype, low, high) if np.isfinite(values).all() else None
    if scale is None:
        raise InputError(f"its values run from {low:.6g} to {high:.6g}; expected {expected_ranges(values.dtype)}.")
    return scale.to_bytes(values)
