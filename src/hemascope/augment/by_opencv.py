"""Carries plans out on the CPU with OpenCV: uint8 (n, h, w, 3), picture by picture, without torch.

It is what an installation without Numba has, and what `by_numba` asks for operations that it does not have itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.augment import plan as plans
from hemascope.augment.plan import DENSITIES, QUANTILES, TRUNCATED, Plan, nearest
from hemascope.draws import stream

Pictures = NDArray[np.uint8]


def carry_out(plan: Plan, pictures: Pictures) -> None:
    """Change `pictures`, uint8 (n, h, w, 3) and contiguous, in place."""
    for operation in plan:
        APPLY[type(operation)](operation, pictures)


def _warp(operation: plans.Warp, pictures: Pictures) -> None:
    height, width = pictures.shape[1:3]
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if operation.smooth else cv2.INTER_NEAREST)
    border = cv2.BORDER_REFLECT if operation.fill == "reflect" else cv2.BORDER_CONSTANT
    # Linear interpolation is twice as fast on four channels as on three.
    wide = np.empty((height, width, 4), np.uint8)
    for place, matrix in zip(operation.where.tolist(), operation.matrices, strict=True):
        picture = pictures[place]
        if operation.smooth:
            cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA, dst=wide)
            moved = cv2.warpAffine(wide, matrix, (width, height), flags=flags, borderMode=border)
            cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB, dst=picture)
        else:
            pictures[place] = cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=border)


def _shift(operation: plans.Shift, pictures: Pictures) -> None:
    height, width = pictures.shape[1:3]
    for place, (right, down) in zip(operation.where.tolist(), operation.moves.tolist(), strict=True):
        picture = pictures[place]
        part = picture[max(-down, 0) : max(height - down, 0), max(-right, 0) : max(width - right, 0)].copy()
        picture[:] = 0
        picture[max(down, 0) : max(height + down, 0), max(right, 0) : max(width + right, 0)] = part


def _turn(operation: plans.Turn, pictures: Pictures) -> None:
    for place, pose in zip(operation.where.tolist(), operation.poses.tolist(), strict=True):
        picture = pictures[place]
        if pose & 3:
            picture = cv2.flip(picture, {1: 1, 2: 0, 3: -1}[pose & 3])
        pictures[place] = cv2.transpose(picture) if pose & 4 else picture


def _table(operation: plans.Table, pictures: Pictures) -> None:
    _look_up_all(operation.where, operation.tables, pictures)


def _look_up_all(where: NDArray[np.int64], tables: NDArray[np.uint8], pictures: Pictures) -> None:
    """tables: uint8 (k, 256) for all channels, or (k, 3, 256)."""
    shaped = tables[:, None] if tables.ndim == 2 else np.ascontiguousarray(tables.swapaxes(1, 2))[:, None]
    for place, table in zip(where.tolist(), shaped, strict=True):
        cv2.LUT(pictures[place], table, dst=pictures[place])


def _autocontrast(operation: plans.Autocontrast, pictures: Pictures) -> None:
    where = operation.where.tolist()
    ends = np.array([[cv2.minMaxLoc(plane)[:2] for plane in cv2.split(pictures[place])] for place in where])
    dark, span = ends[:, :, 0], ends[:, :, 1] - ends[:, :, 0]
    scale = np.where(span > 0, 255 / np.maximum(span, 1), 1.0)
    matrices = np.zeros((len(where), 3, 4))
    matrices[:, [0, 1, 2], [0, 1, 2]] = scale
    matrices[:, :, 3] = np.where(span > 0, -dark * scale, 0.0) + TRUNCATED
    for place, matrix in zip(where, matrices, strict=True):
        cv2.transform(pictures[place], matrix, dst=pictures[place])


def _equalise(operation: plans.Equalise, pictures: Pictures) -> None:
    counts = _histograms(operation.where, pictures)
    brightest = 255 - np.argmax(counts[:, :, ::-1] > 0, axis=2, keepdims=True)
    # Pillow's rule: the pixels of the brightest level do not count. Floats divide such small numbers exactly.
    step = (counts.sum(2, keepdims=True) - np.take_along_axis(counts, brightest, 2)) // 255
    before = counts.cumsum(2) - counts
    tables = np.minimum((before + step // 2) / np.maximum(step, 1), 255).astype(np.uint8)
    tables[step[:, :, 0] == 0] = np.arange(256)
    _look_up_all(operation.where, tables, pictures)


def _histograms(where: NDArray[np.int64], pictures: Pictures) -> NDArray[np.float32]:
    """How many pixels of each picture have each grey level: float32 (k, 3, 256)."""
    counts = [
        cv2.calcHist([pictures[place]], [channel], None, [256], [0, 256])
        for place in where.tolist()
        for channel in range(3)
    ]
    return np.reshape(np.asarray(counts, np.float32), (len(where), 3, 256))


def _colour(operation: plans.Colour, pictures: Pictures) -> None:
    averaged = (operation.means != 0).any(axis=(1, 2)).tolist()
    # OpenCV counts in 1024ths and rounds halves up, but not for diagonal matrices: the quarter makes that the same.
    coefficients = np.concatenate([np.round(operation.matrices * 1024), operation.offsets[:, :, None] * 1024], 2)
    for at, place in enumerate(operation.where.tolist()):
        if averaged[at]:
            coefficients[at, :, 3] += 1024 * (operation.means[at] @ cv2.mean(pictures[place])[:3])
    coefficients[:, :, 3] = np.round(coefficients[:, :, 3]) + 0.25
    for place, matrix in zip(operation.where.tolist(), coefficients / 1024, strict=True):
        cv2.transform(pictures[place], matrix, dst=pictures[place])


def _sharpen(operation: plans.Sharpen, pictures: Pictures) -> None:
    if min(pictures.shape[1:3]) < 3:
        return
    for place, factor in zip(operation.where.tolist(), operation.factors.tolist(), strict=True):
        picture = pictures[place]
        own, around = plans.sharpening_weights(factor)
        blended = cv2.addWeighted(picture, own, cv2.blur(picture, (3, 3)), around, operation.shift)
        picture[1:-1, 1:-1] = blended[1:-1, 1:-1]


def _density(operation: plans.Density, pictures: Pictures) -> None:
    for place, matrix in zip(operation.where.tolist(), -operation.matrices, strict=True):
        light = cv2.exp(cv2.transform(cv2.LUT(pictures[place], DENSITIES), matrix))
        pictures[place] = cv2.addWeighted(light, 256, light, 0, -1, dtype=cv2.CV_8U)


def _round_into(picture: Pictures, levels: NDArray[np.float32]) -> None:
    """Round half to even and clip."""
    np.copyto(picture, np.clip(np.rint(levels, out=levels), 0, 255, out=levels), casting="unsafe")


def _filter(operation: plans.Filter, pictures: Pictures) -> None:
    for place, kernel in zip(operation.where.tolist(), operation.kernels.astype(np.float32), strict=True):
        pictures[place] = cv2.filter2D(pictures[place], -1, _core(kernel), borderType=cv2.BORDER_REFLECT_101)


def _core(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel without its empty margin: from 130 numbers on OpenCV takes Fourier transforms, ten times as long."""
    height, width = kernel.shape
    down, right = np.flatnonzero(kernel.any(1)), np.flatnonzero(kernel.any(0))
    rows, columns = min(down[0], height - 1 - down[-1]), min(right[0], width - 1 - right[-1])
    return kernel[rows : height - rows, columns : width - columns]


def _noise(operation: plans.Noise, pictures: Pictures) -> None:
    size = pictures[0].size
    for at, place in enumerate(operation.where.tolist()):
        picture = pictures[place]
        noise = QUANTILES[_halfwords(operation.states[at : at + 1], size)].reshape(picture.shape)
        noise *= cv2.LUT(picture, operation.deviations[at].astype(np.float32)[None])
        _round_into(picture, noise + picture)


def _impulse(operation: plans.Impulse, pictures: Pictures) -> None:
    size = pictures.shape[1] * pictures.shape[2]
    for at, place in enumerate(operation.where.tolist()):
        numbers = _halfwords(operation.states[at : at + 1], size).reshape(pictures.shape[1:3])
        half = round(operation.shares[at] * 2**15)
        pictures[place][numbers < half] = 0
        pictures[place][numbers >= 2**16 - half] = 255


def _halfwords(state: NDArray[np.uint64], count: int) -> NDArray[np.uint16]:
    """`count` random numbers below 2**16."""
    return stream(state, -(-count // 4)).astype("<u8").view("<u2")[0, :count]


def _paint(operation: plans.Paint, pictures: Pictures) -> None:
    for at, place in enumerate(operation.where.tolist()):
        # Most of a picture is left as it is.
        left, top, width, height = cv2.boundingRect(operation.covers[at])
        if not width:
            continue
        colour = cv2.mean(pictures[place])[:3] if operation.colours is None else operation.colours[at]
        part = pictures[place, top : top + height, left : left + width]
        share = operation.covers[at, top : top + height, left : left + width] * np.float32(1 / 255)
        kept = cv2.multiply(part, cv2.cvtColor(1 - share, cv2.COLOR_GRAY2RGB), dtype=cv2.CV_32F)
        laid = cv2.merge([share * np.float32(level) for level in colour])
        part[:] = cv2.add(kept, laid, dtype=cv2.CV_8U)


def _jpeg(operation: plans.Jpeg, pictures: Pictures) -> None:
    for place, quality in zip(operation.where.tolist(), operation.qualities.tolist(), strict=True):
        # OpenCV writes blue first.
        blue_first = cv2.cvtColor(pictures[place], cv2.COLOR_RGB2BGR)
        _, packed = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])
        read = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
        cv2.cvtColor(read, cv2.COLOR_BGR2RGB, dst=pictures[place])


def _pixelate(operation: plans.Pixelate, pictures: Pictures) -> None:
    height, width = pictures.shape[1:3]
    for place, (rows, columns) in zip(operation.where.tolist(), operation.sides.tolist(), strict=True):
        coarse = cv2.resize(pictures[place], (columns, rows), interpolation=cv2.INTER_AREA)
        pictures[place] = coarse.take(nearest(width, columns), 1).take(nearest(height, rows), 0)


def _mix(operation: plans.Mix, pictures: Pictures) -> None:
    width = operation.weights.shape[1] - 1
    copies = pictures[np.repeat(operation.where, width)]
    carry_out(operation.plan, copies)
    # A running mean in which each copy takes its share of the weight so far, as OpenCV accumulates.
    sums = np.maximum(operation.weights.cumsum(1), 1e-12)
    shares = (operation.weights / sums)[:, 1:].ravel().tolist()
    total = np.empty(pictures.shape[1:], np.float32)
    for at, place in enumerate(operation.where.tolist()):
        np.copyto(total, pictures[place])
        for chain in range(at * width, (at + 1) * width):
            cv2.accumulateWeighted(copies[chain], total, shares[chain])
        cv2.convertScaleAbs(total, dst=pictures[place])


def _blend(operation: plans.Blend, pictures: Pictures) -> None:
    others = pictures[operation.partners]
    for at, (place, share) in enumerate(zip(operation.where.tolist(), operation.shares.tolist(), strict=True)):
        cv2.addWeighted(pictures[place], 1 - share, others[at], share, 0, dst=pictures[place])


def _paste(operation: plans.Paste, pictures: Pictures) -> None:
    others = pictures[operation.partners]
    for at, (place, box) in enumerate(zip(operation.where.tolist(), operation.boxes.tolist(), strict=True)):
        top, bottom, left, right = box
        pictures[place, top:bottom, left:right] = others[at, top:bottom, left:right]


APPLY: Mapping[type[Any], Callable[[Any, Pictures], None]] = {
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
    plans.Impulse: _impulse,
    plans.Paint: _paint,
    plans.Jpeg: _jpeg,
    plans.Pixelate: _pixelate,
    plans.Mix: _mix,
    plans.Blend: _blend,
    plans.Paste: _paste,
}
