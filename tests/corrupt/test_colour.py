from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageEnhance

from hemascope.corrupt import FAMILIES, colour, corrupt
from hemascope.data.cells import Images
from hemascope.draws import Draw

ROWS = np.arange(4)
DRAW = Draw(0, 0, "test")


def noise() -> Images:
    return np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def test_brightness_and_contrast_are_those_of_pillow_within_a_level() -> None:
    images = noise() // 2 + 60
    for name, enhance in (("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast)):
        for factor in (*FAMILIES[f"{name}_up"].parameters["factor"], *FAMILIES[f"{name}_down"].parameters["factor"]):
            seen = getattr(colour, name)(images, ROWS, DRAW, factor=factor)
            for image, own in zip(images, seen, strict=True):
                reference = np.asarray(enhance(Image.fromarray(image)).enhance(factor)).astype(int)
                assert np.abs(own - reference).max() <= 1


def test_saturation_is_added_in_hsv() -> None:
    images = noise()[:1, :8, :8]
    images[0, 0, :4] = [[90, 90, 90], [0, 0, 0], [255, 255, 255], [255, 0, 0]]
    for added in FAMILIES["saturate"].parameters["added"]:
        seen = colour.saturate(images, ROWS[:1], DRAW, added=added)
        for pixel, own in zip(images.reshape(-1, 3), seen.reshape(-1, 3), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255).tolist())
            wanted = colorsys.hsv_to_rgb(hue, min(saturation + added, 1.0), value)
            assert np.abs(own - 255 * np.array(wanted)).max() <= 0.51


def test_the_stain_of_the_own_laboratory_changes_nothing_and_another_one_its_background() -> None:
    image = np.full((1, 32, 32, 3), (250, 232, 205), np.uint8)
    image[:, 8:24, 8:24] = (110, 70, 150)
    images = np.repeat(image, 40, axis=0)
    rows = np.arange(40)
    unchanged = colour.stain_transfer(images, rows, DRAW, share=0.0)
    assert np.abs(unchanged.astype(int) - images).max() <= 1
    moved = colour.stain_transfer(images, rows, DRAW, share=1.0)
    backgrounds = {tuple(colours) for colours in moved[:, 0, 0].tolist()}
    assert backgrounds == {(236, 240, 246), (250, 236, 232), (243, 240, 245), (238, 236, 212)}
    cells = moved[:, 16, 16].astype(int)
    assert (cells.max(axis=0) - cells.min(axis=0)).min() > 15  # four laboratories and their strengths
    assert (cells < moved[:, 0, 0]).all()  # a stain takes light away


def test_a_stain_darkens_where_there_is_more_of_it() -> None:
    ramp = np.linspace(60, 240, 32).astype(np.uint8)
    images = np.repeat(np.broadcast_to(ramp[None, None, :, None], (1, 32, 32, 3)), 8, axis=0)
    seen = corrupt(np.ascontiguousarray(images), "stain_transfer", 5, seed=0, rows=np.arange(8)).astype(int)
    assert (np.diff(seen.sum(axis=-1), axis=2) >= 0).all()
