"""Corruptions by cameras and files: coarse pixels, compression, grain and lines."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from hemascope.corrupt.fields import levels, side
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

_GRAIN_SIZE = 0.008  # of the side


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


def film_grain(images: Images, rows: Rows, draw: Draw, *, amount: float) -> Images:
    """Grains of silver: clumped noise, the same in all colours, strongest in the middle tones.

    amount: its standard deviation in the middle tones, in grey levels.
    """
    height, width = images.shape[1:3]
    sigma = max(_GRAIN_SIZE * side(images), 0.5)
    raw = draw.signed(rows, "grain", height * width).astype(np.float32).reshape(-1, height, width)
    grain = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in raw])
    # A Gaussian filter leaves of white noise 1 / (2 sqrt(pi) sigma) of its deviation, which is 1 / sqrt(3) here.
    gain = np.float32(amount * 2 * np.sqrt(np.pi) * sigma * np.sqrt(3))
    tones = np.arange(256, dtype=np.float32) / 255
    response = 0.3 + 0.7 * 4 * tones * (1 - tones)
    return levels(images + (gain * grain)[..., None] * response[images])


def scan_lines(images: Images, rows: Rows, draw: Draw, *, depth: float) -> Images:
    """Even dark lines along the rows or the columns. depth: how much of the light the middle of a line lacks."""
    height, width = images.shape[1:3]
    drawn = draw.uniform(rows, "lines", 3)
    periods = np.maximum(side(images) * (0.03 + 0.03 * drawn[:, :1]), 2.0)
    places = np.arange(max(height, width))
    waves = 0.5 + 0.5 * np.cos(2 * np.pi * (places / periods + drawn[:, 1:2]))
    light = (1 - depth * waves**2).astype(np.float32)
    upright = drawn[:, 2] < 0.5
    result = np.empty_like(images)
    for number, image in enumerate(images):
        lines = light[number, None, :width] if upright[number] else light[number, :height, None]
        result[number] = levels(image * lines[..., None])
    return result
