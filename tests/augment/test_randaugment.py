"""RandAugment and AugMix against torchvision's functional forms, and the distributions of their draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from hemascope.augment import by_numba, by_opencv, on_tensors
from hemascope.augment.plan import NUDGE, Autocontrast, Colour, Equalise, Mix, Plan, Sharpen, Shift, Table, Warp
from hemascope.augment.randaugment import (
    ALL,
    OF_AUGMIX,
    OF_RANDAUGMENT,
    PLAIN,
    RANDAUGMENT,
    Ranges,
    augmix,
    operations,
    randaugment,
)
from hemascope.data import load
from hemascope.draws import Draw
from hemascope.synthetic import draw_cells

Pictures = NDArray[np.uint8]

LEVELS = np.linspace(0, 1, 20)
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
WARPED = ("ShearX", "ShearY", "Rotate")


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


def by_all(plan: Plan, pictures: Pictures) -> list[Pictures]:
    found = []
    for way in (by_opencv, by_numba):
        changed = pictures.copy()
        way.carry_out(plan, changed)
        found.append(changed)
    tensors = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    on_tensors.carry_out(plan, tensors)
    return [*found, tensors.permute(0, 2, 3, 1).numpy()]


@pytest.mark.parametrize("ranges", [OF_RANDAUGMENT, OF_AUGMIX], ids=["RandAugment", "AugMix"])
@pytest.mark.parametrize("name", RANDAUGMENT)
def test_each_operation_is_that_of_torchvision_within_one_grey_level(
    name: str, ranges: Ranges, pictures: Pictures
) -> None:
    height, width = pictures.shape[1:3]
    codes = np.full((1, len(LEVELS)), RANDAUGMENT.index(name))
    for sign in (1, -1) if name in SIGNED else (1,):
        levels = sign * LEVELS
        plan = operations(codes, levels[None], (height, width), ranges)
        expected = np.stack(
            [
                torchvision_picture(name, torch.from_numpy(picture).permute(2, 0, 1), level, ranges).permute(1, 2, 0)
                for picture, level in zip(pictures, levels.tolist(), strict=True)
            ]
        )
        for found in by_all(plan, pictures):
            off = np.abs(found.astype(int) - expected).max(axis=3)
            if name in WARPED and not ranges.smooth:
                off = np.where(ties(plan, len(LEVELS), (height, width)), 0, off)
                assert off.max() == 0
            assert off.max() <= 1, (off.max(), LEVELS[off.max(axis=(1, 2)) > 1])


def ties(plan: Plan, count: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose source lies midway between two pixels, within 1/1000: which one is taken is a matter of rounding."""
    (warp,) = plan
    assert isinstance(warp, Warp)
    y, x = np.mgrid[: shape[0], : shape[1]]
    source = np.einsum("kij,jhw->kihw", warp.matrices - np.array([0, 0, NUDGE]), np.stack([x, y, np.ones_like(x)]))
    tied = np.zeros((count, *shape), np.bool_)
    tied[warp.where] = (np.abs(source % 1 - 0.5) < 1e-3).any(axis=1)
    return tied


MANY = np.arange(30_000, dtype=np.int64)
SHAPE = (96, 96)


def named(plan: Plan) -> list[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
    """What each operation of a plan at level 0.5 is: (name, the positions of its pictures, its signs or none)."""
    found = []
    for operation in plan:
        where = operation.where
        if isinstance(operation, Warp):
            lean = operation.matrices[:, :, :2]
            turned, right, down = lean[:, 0, 0] != 1, lean[:, 0, 1], lean[:, 1, 0]
            found.append(("Rotate", where[turned], np.sign(down[turned])))
            for name, by in (("ShearX", right), ("ShearY", down)):
                own = ~turned & (by != 0)
                found.append((name, where[own], np.sign(by[own])))
        elif isinstance(operation, Shift):
            for axis, name in enumerate(("TranslateX", "TranslateY")):
                own = operation.moves[:, axis] != 0
                found.append((name, where[own], np.sign(operation.moves[own, axis])))
        elif isinstance(operation, Table):
            solarised = operation.tables[:, 255] == 0
            posterised = (operation.tables == (np.arange(256) & 252)).all(1)
            rest = ~solarised & ~posterised
            found.append(("Solarize", where[solarised], np.zeros(0)))
            found.append(("Posterize", where[posterised], np.zeros(0)))
            found.append(("Brightness", where[rest], np.sign(operation.tables[rest, 100] - 100.0)))
        elif isinstance(operation, Colour):
            contrast = (operation.means != 0).any((1, 2))
            signs = np.sign(operation.matrices[:, 0, 0] - 1)
            found += [("Contrast", where[contrast], signs[contrast]), ("Color", where[~contrast], signs[~contrast])]
        elif isinstance(operation, Sharpen):
            found.append(("Sharpness", where, np.sign(operation.factors - 1)))
        else:
            name = "AutoContrast" if isinstance(operation, Autocontrast) else "Equalize"
            found.append((name, where, np.zeros(0)))
    return [one for one in found if len(one[1])]


@pytest.mark.parametrize("layers", [1, 2])
def test_randaugment_draws_each_operation_and_each_sign_as_often(layers: int) -> None:
    plan = randaugment(MANY, Draw(3, 1, "randaugment"), 0.5, SHAPE, layers=layers)
    counts = dict.fromkeys(RANDAUGMENT, 0)
    signs: dict[str, list[float]] = {name: [] for name in SIGNED}
    for name, where, directions in named(plan):
        counts[name] += len(where)
        if name in SIGNED:
            signs[name] += directions.tolist()
            assert len(directions) == len(where)
    counts["Identity"] = layers * len(MANY) - sum(counts.values())
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    for name in SIGNED:
        assert stats.chisquare([signs[name].count(-1.0), signs[name].count(1.0)]).pvalue > 1e-3


def test_the_two_operations_of_a_picture_are_unrelated() -> None:
    first = {name: where for name, where, _ in named(randaugment(MANY, Draw(0, 0, "x"), 0.5, SHAPE, layers=1))}
    second = [(name, where) for name, where, _ in named(randaugment(MANY, Draw(0, 0, "x"), 0.5, SHAPE, layers=2))]
    # The first numbers of a picture do not depend on how many are drawn, so what is not of the first is of the second.
    halves = len(second) // 2
    assert all((where == first[name]).all() for name, where in second[:halves])
    table = [[len(np.intersect1d(one, other)) for one in first.values()] for _, other in second[halves:]]
    assert np.shape(table) == (13, 13)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_a_recipe_of_magnitude_one_is_level_thirty() -> None:
    rotated = [
        operation.matrices[np.abs(operation.matrices[:, 0, 0]) < 1]
        for operation in randaugment(MANY, Draw(0, 0, "x"), 1.0, SHAPE)
        if isinstance(operation, Warp)
    ]
    assert np.allclose(np.concatenate(rotated)[:, 0, 0], np.cos(np.deg2rad(30)))


def mixture(plan: Plan) -> Mix:
    (mix,) = plan
    assert isinstance(mix, Mix)
    return mix


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_the_weights_of_augmix_are_beta_and_dirichlet(alpha: float) -> None:
    weights = mixture(augmix(MANY, Draw(0, 0, "augmix"), 0.3, SHAPE, names=("Equalize",), alpha=alpha)).weights
    assert np.allclose(weights.sum(1), 1)
    own = weights[:, 0]
    assert stats.kstest(own, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    shares = (weights[:, 1:] / (1 - own)[:, None])[own < 1 - 1e-6]
    for share in shares.T:
        assert stats.kstest(share, stats.beta(alpha, 2 * alpha).cdf).pvalue > 1e-3
    # The covariance of a Dirichlet of three equal parameters, and none with the picture's own weight.
    expected = -1 / (9 * (3 * alpha + 1))
    assert np.cov(shares[:, 0], shares[:, 1])[0, 1] == pytest.approx(expected, rel=0.05)
    assert abs(np.corrcoef(own[own < 1 - 1e-6], shares[:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("width", [3, 5])
def test_the_chains_of_augmix_are_one_to_three_deep_alike(width: int) -> None:
    mix = mixture(augmix(MANY, Draw(0, 0, "augmix"), 0.3, SHAPE, names=("Equalize",), width=width))
    depths = np.zeros(width * len(MANY), np.int64)
    for operation in mix.plan:
        depths[operation.where] += 1
    assert mix.weights.shape == (len(MANY), 1 + width)
    assert set(depths) == {1, 2, 3}
    for chain in range(width):
        assert stats.chisquare(np.bincount(depths[chain::width])[1:]).pvalue > 1e-3


@pytest.mark.parametrize(("magnitude", "severity"), [(0.0, 1), (0.3, 3), (1.0, 10)])
def test_the_levels_of_augmix_are_those_below_its_severity_alike(magnitude: float, severity: int) -> None:
    mix = mixture(augmix(MANY, Draw(0, 0, "augmix"), magnitude, SHAPE, names=("Rotate",), depth=1))
    matrices = [operation.matrices for operation in mix.plan if isinstance(operation, Warp)]
    found = np.concatenate([np.zeros((0, 2, 3)), *matrices])
    steps = np.rint(np.degrees(np.arctan2(found[:, 1, 0], found[:, 0, 0])) / 30 * 9).astype(int)
    counts = np.bincount(np.abs(steps), minlength=severity)
    counts[0] = 3 * len(MANY) - len(found)
    assert len(counts) == severity
    assert severity == 1 or stats.chisquare(counts).pvalue > 1e-3
    assert severity == 1 or stats.chisquare([(steps < 0).sum(), (steps > 0).sum()]).pvalue > 1e-3


@pytest.mark.parametrize(("names", "operation"), [(ALL, "Sharpness"), (PLAIN, "Rotate")])
def test_augmix_draws_each_operation_as_often(names: tuple[str, ...], operation: str) -> None:
    plan = mixture(augmix(MANY, Draw(1, 0, "augmix"), 0.3, SHAPE, names=names, depth=1)).plan
    kinds = {Warp: 3, Shift: 2, Table: 3, Colour: 2, Sharpen: 1, Autocontrast: 1, Equalise: 1}
    assert operation in names
    counts = {kind: sum(len(one.where) for one in plan if isinstance(one, kind)) for kind in kinds}
    # Of three levels one is 0, at which most operations do nothing and are left out; solarise and posterise are not.
    present = {Warp: 3 * 2 / 3, Shift: 2 * 2 / 3, Table: 2.0, Autocontrast: 1.0, Equalise: 1.0}
    if names == ALL:
        present |= {Table: 2 + 2 / 3, Colour: 2 * 2 / 3, Sharpen: 2 / 3}
    expected = np.array([present.get(kind, 0.0) for kind in kinds]) * 3 * len(MANY) / len(names)
    observed = np.array(list(counts.values()))
    rest = 3 * len(MANY) - np.array([observed.sum(), expected.sum()])
    kept = expected > 0
    assert (observed[~kept] == 0).all()
    assert stats.chisquare([*observed[kept], rest[0]], [*expected[kept], rest[1]]).pvalue > 1e-3


@pytest.mark.parametrize("way", [by_opencv, by_numba])
def test_augmix_is_the_weighted_sum_of_its_chains(way: ModuleType, pictures: Pictures) -> None:
    height, width = pictures.shape[1:3]
    plan = augmix(np.arange(20), Draw(0, 0, "augmix"), 0.5, (height, width))
    mix = mixture(plan)
    copies = np.repeat(pictures, 3, axis=0)
    way.carry_out(mix.plan, copies)
    stacked = np.concatenate([pictures[:, None], copies.reshape(20, 3, height, width, 3)], axis=1)
    expected = np.einsum("nk,nkhwc->nhwc", mix.weights, stacked.astype(np.float64))
    mixed = pictures.copy()
    way.carry_out(plan, mixed)
    assert np.abs(mixed - expected).max() <= 0.5 + 1e-3
