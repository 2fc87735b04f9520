"""Carries plans out on the CPU with kernels that Numba compiles: uint8 (n, h, w, 3), without torch.

An operation is one call for all its pictures, in which Python's lock is free for another thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.augment import by_opencv, kernels
from hemascope.augment import plan as plans
from hemascope.augment.plan import DENSITIES, QUANTILES, TRUNCATED, Plan, sharpening_weights

Pictures = NDArray[np.uint8]


def carry_out(plan: Plan, pictures: Pictures) -> None:
    """Change `pictures`, uint8 (n, h, w, 3) and contiguous, in place."""
    for operation in plan:
        apply = _APPLY[type(operation)]
        try:
            apply(operation, pictures)
        except OSError:
            # A kernel that has just been compiled could not be kept on a full disk. It is there for this process.
            apply(operation, pictures)


def _singles(values: NDArray[Any]) -> NDArray[np.float32]:
    """In the one type and order that a kernel is compiled for."""
    return np.array(values, np.float32, order="C")


def _doubles(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.array(values, np.float64, order="C")


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.array(values, np.int64, order="C")


def _warp(operation: plans.Warp, pictures: Pictures) -> None:
    warp = kernels.warp_smooth if operation.smooth else kernels.warp_nearest
    warp(_whole(operation.where), _doubles(operation.matrices), operation.fill == "reflect", pictures)


def _shift(operation: plans.Shift, pictures: Pictures) -> None:
    kernels.shift(_whole(operation.where), _whole(operation.moves), pictures)


def _turn(operation: plans.Turn, pictures: Pictures) -> None:
    kernels.turn(_whole(operation.where), _whole(operation.poses), pictures)


def _table(operation: plans.Table, pictures: Pictures) -> None:
    tables = operation.tables if operation.tables.ndim == 3 else operation.tables[:, None].repeat(3, 1)
    kernels.look_up(_whole(operation.where), np.array(tables, order="C"), pictures)


def _autocontrast(operation: plans.Autocontrast, pictures: Pictures) -> None:
    kernels.autocontrast(_whole(operation.where), TRUNCATED, pictures)


def _equalise(operation: plans.Equalise, pictures: Pictures) -> None:
    kernels.equalise(_whole(operation.where), pictures)


def _colour(operation: plans.Colour, pictures: Pictures) -> None:
    coefficients = _singles(np.round(operation.matrices * 1024))
    kernels.colour(
        _whole(operation.where), coefficients, _doubles(operation.means), _doubles(operation.offsets), pictures
    )


def _sharpen(operation: plans.Sharpen, pictures: Pictures) -> None:
    own, around = (_singles(weights) for weights in sharpening_weights(operation.factors))
    kernels.sharpen(_whole(operation.where), own, around, np.float32(operation.shift), pictures)


def _density(operation: plans.Density, pictures: Pictures) -> None:
    exponents = np.zeros((len(operation.where), 1, 3, 4), np.float32)
    exponents[:, 0, :, :3] = -operation.matrices.swapaxes(1, 2)
    left = exponents * DENSITIES[:, None, None]
    np.exp(left, out=left)
    kernels.density(_whole(operation.where), left, pictures)


def _filter(operation: plans.Filter, pictures: Pictures) -> None:
    kernels.convolve(_whole(operation.where), _singles(operation.kernels), pictures)


def _noise(operation: plans.Noise, pictures: Pictures) -> None:
    states = np.array(operation.states, np.uint64)
    kernels.noise(_whole(operation.where), states, _singles(operation.deviations), QUANTILES, pictures)


def _paint(operation: plans.Paint, pictures: Pictures) -> None:
    colours = np.empty((0, 3)) if operation.colours is None else operation.colours
    covers = np.array(operation.covers, np.uint8, order="C")
    kernels.paint(_whole(operation.where), covers, _singles(colours), operation.colours is None, pictures)


def _pixelate(operation: plans.Pixelate, pictures: Pictures) -> None:
    kernels.pixelate(_whole(operation.where), _whole(operation.sides), pictures)


def _mix(operation: plans.Mix, pictures: Pictures) -> None:
    copies = pictures[np.repeat(operation.where, operation.weights.shape[1] - 1)]
    carry_out(operation.plan, copies)
    kernels.mix(_whole(operation.where), _singles(operation.weights), copies, pictures)


def _blend(operation: plans.Blend, pictures: Pictures) -> None:
    weights = np.stack([1 - operation.shares, operation.shares], 1)
    kernels.mix(_whole(operation.where), _singles(weights), pictures[operation.partners], pictures)


_APPLY: Mapping[type[Any], Callable[[Any, Pictures], None]] = {
    # What has no kernel is seldom, or has a library in OpenCV that does it well.
    **by_opencv.APPLY,
    plans.Warp: _warp,
    plans.Shift: _shift,
    plans.Turn: _turn,
    plans.Table: _table,
    plans.Autocontrast: _autocontrast,
    plans.Equalise: _equalise,
    plans.Colour: _colour,
    plans.Density: _density,
    plans.Sharpen: _sharpen,
    plans.Filter: _filter,
    plans.Noise: _noise,
    plans.Paint: _paint,
    plans.Pixelate: _pixelate,
    plans.Mix: _mix,
    plans.Blend: _blend,
}
