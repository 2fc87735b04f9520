"""RandAugment and AugMix against torchvision's functional forms, and the distributions of their draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from hemascope.augment import on_cpu, on_tensors
from hemascope.augment.plan import Plan, Warp
from hemascope.augment.randaugment import (
    OF_AUGMIX,
    OF_RANDAUGMENT,
    RANDAUGMENT,
    Ranges,
    operations,
)
from hemascope.data import load
from hemascope.synthetic import draw_cells

Pictures = NDArray[np.uint8]

LEVELS = np.linspace(0, 1, 20)
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
GEOMETRIC = SIGNED[:5]


def torchvision_picture(name: str, picture: torch.Tensor, level: float, ranges: Ranges) -> torch.Tensor:
    """One operation of torchvision at a signed level, as its RandAugment and AugMix call it."""
    height, width = picture.shape[1:]
    mode = InterpolationMode.BILINEAR if ranges.smooth else InterpolationMode.NEAREST
    lean = math.degrees(math.atan(0.3 * level))

    def affine(right: float, down: float, shear: list[float], center: list[float] | None) -> torch.Tensor:
        moved = functional.affine(picture, 0.0, [right, down], 1.0, shear, interpolation=mode, center=center)
        assert isinstance(moved, torch.Tensor)
        return moved

    calls: dict[str, Callable[[], torch.Tensor]] = {
        "Identity": lambda: picture,
        "ShearX": lambda: affine(0, 0, [lean, 0.0], [0.0, 0.0]),
        "ShearY": lambda: affine(0, 0, [0.0, lean], [0.0, 0.0]),
        "TranslateX": lambda: affine(int(ranges.reach * width * level), 0, [0.0, 0.0], None),
        "TranslateY": lambda: affine(0, int(ranges.reach * height * level), [0.0, 0.0], None),
        "Rotate": lambda: functional.rotate(picture, 30 * level, interpolation=mode),
        "Brightness": lambda: functional.adjust_brightness(picture, 1 + 0.9 * level),
        "Color": lambda: functional.adjust_saturation(picture, 1 + 0.9 * level),
        "Contrast": lambda: functional.adjust_contrast(picture, 1 + 0.9 * level),
        "Sharpness": lambda: functional.adjust_sharpness(picture, 1 + 0.9 * level),
        "Posterize": lambda: functional.posterize(picture, round(ranges.bits - 4 * level)),
        "Solarize": lambda: functional.solarize(picture, round(255 * (1 - level), 3)),
        "AutoContrast": lambda: functional.autocontrast(picture),
        "Equalize": lambda: functional.equalize(picture),
    }
    changed = calls[name]()
    assert isinstance(changed, torch.Tensor)
    return changed


@pytest.fixture(scope="module", params=["real", "synthetic", "random", "not square", "flat"])
def pictures(request: pytest.FixtureRequest) -> Pictures:
    if request.param == "real":
        folder: Path = request.getfixturevalue("challenge")
        cells = load(folder / "training_set.npz")
        return np.asarray(cells.images[np.arange(40, len(cells), len(cells) // 20)])[:20]
    if request.param == "synthetic":
        return np.asarray(draw_cells(20, seed=3).images[:])
    if request.param == "flat":
        return np.broadcast_to(np.arange(7, 247, 12, dtype=np.uint8)[:, None, None, None], (20, 33, 33, 3)).copy()
    rng = np.random.default_rng(0)
    side = (96, 96) if request.param == "random" else (61, 90)
    return rng.integers(0, 256, (20, *side, 3), dtype=np.uint8)


def on_both(plan: Plan, pictures: Pictures) -> list[Pictures]:
    by_opencv = pictures.copy()
    on_cpu.carry_out(plan, by_opencv)
    tensors = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    on_tensors.carry_out(plan, tensors)
    return [by_opencv, tensors.permute(0, 2, 3, 1).numpy()]


@pytest.mark.parametrize("ranges", [OF_RANDAUGMENT, OF_AUGMIX], ids=["RandAugment", "AugMix"])
@pytest.mark.parametrize("name", RANDAUGMENT)
def test_each_operation_is_that_of_torchvision_within_one_grey_level(
    name: str, ranges: Ranges, pictures: Pictures
) -> None:
    height, width = pictures.shape[1:3]
    codes = np.full(len(LEVELS), RANDAUGMENT.index(name))
    for sign in (1, -1) if name in SIGNED else (1,):
        levels = sign * LEVELS
        plan = operations(np.arange(len(LEVELS)), codes, levels, (height, width), ranges)
        expected = np.stack(
            [
                torchvision_picture(name, torch.from_numpy(picture).permute(2, 0, 1), level, ranges).permute(1, 2, 0)
                for picture, level in zip(pictures, levels.tolist(), strict=True)
            ]
        )
        for found in on_both(plan, pictures):
            off = np.abs(found.astype(int) - expected).max(axis=3)
            if name in GEOMETRIC and not ranges.smooth:
                off = np.where(ties(plan, (height, width)), 0, off)
                assert off.max() == 0
            assert off.max() <= 1, (off.max(), LEVELS[off.max(axis=(1, 2)) > 1])


def ties(plan: Plan, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose source lies midway between two pixels, within 1/1000: which one is taken is a matter of rounding."""
    (warp,) = plan
    assert isinstance(warp, Warp)
    y, x = np.mgrid[: shape[0], : shape[1]]
    source = np.einsum("kij,jhw->kihw", warp.matrices - np.array([0, 0, 2.0**-11]), np.stack([x, y, np.ones_like(x)]))
    return np.asarray((np.abs(source % 1 - 0.5) < 1e-3).any(axis=1))
