"""Corruptions by cameras and files: coarse pixels, compression, grain and lines."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw


def pixelate(images: Images, rows: Rows, draw: Draw, *, factor: float) -> Images:
    """Squares of one colour: the picture has `factor` times as many pixels along each side."""
    height, width = images.shape[1:3]
    small = max(1, int(width * factor)), max(1, int(height * factor))
    box = Image.Resampling.BOX
    return np.stack(
        [np.asarray(Image.fromarray(image).resize(small, box).resize((width, height), box)) for image in images]
    )


def jpeg(images: Images, rows: Rows, draw: Draw, *, quality: int) -> Images:
    """Compression with loss, colours at half the resolution. quality: 1 to 100, as libjpeg has it."""
    return np.stack([_through_jpeg(image, quality) for image in images])


def _through_jpeg(image: Images, quality: int) -> Images:
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(stream) as decoded:
        return np.asarray(decoded)
