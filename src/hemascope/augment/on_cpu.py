"""Carries plans out on the CPU with OpenCV: uint8 (n, h, w, 3), picture by picture, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hemascope.augment import plan as plans
from hemascope.augment.plan import Plan

Pictures = NDArray[np.uint8]

_SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def carry_out(plan: Plan, pictures: Pictures) -> None:
    """Change `pictures`, uint8 (n, h, w, 3) and contiguous, in place."""
    for operation in plan:
        _APPLY[type(operation)](operation, pictures)


def _warp(operation: plans.Warp, pictures: Pictures) -> None:
    height, width = pictures.shape[1:3]
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if operation.smooth else cv2.INTER_NEAREST)
    border = cv2.BORDER_REFLECT if operation.fill == "reflect" else cv2.BORDER_CONSTANT
    for place, matrix in zip(operation.where.tolist(), operation.matrices, strict=True):
        picture = pictures[place]
        outside = background(picture) if operation.fill == "background" else 0
        pictures[place] = cv2.warpAffine(
            picture, matrix, (width, height), flags=flags, borderMode=border, borderValue=outside
        )


def background(picture: Pictures) -> list[int]:
    """The median colour of a picture's frame, three pixels wide: what lies around a cell, most likely."""
    edge = frame(picture).reshape(-1, 3)
    middle = (len(edge) - 1) // 2
    return [int(level) for level in np.partition(edge, middle, axis=0)[middle]]


def frame(picture: Pictures) -> Pictures:
    return np.concatenate(
        [part.reshape(-1, 3) for part in (picture[:3], picture[-3:], picture[3:-3, :3], picture[3:-3, -3:])]
    )


def _turn(operation: plans.Turn, pictures: Pictures) -> None:
    for place, pose in zip(operation.where.tolist(), operation.poses.tolist(), strict=True):
        picture = pictures[place]
        if pose & 1:
            picture = picture[:, ::-1]
        if pose & 2:
            picture = picture[::-1]
        if pose & 4:
            picture = picture.swapaxes(0, 1)
        pictures[place] = picture.copy()


def _table(operation: plans.Table, pictures: Pictures) -> None:
    for place, table in zip(operation.where.tolist(), operation.tables, strict=True):
        _look_up(pictures[place], table)


def _look_up(picture: Pictures, table: Pictures) -> None:
    """table: uint8 (256,) for all channels or (3, 256)."""
    shaped = table[None] if table.ndim == 1 else np.ascontiguousarray(table.T)[None]
    cv2.LUT(picture, shaped, dst=picture)


def _autocontrast(operation: plans.Autocontrast, pictures: Pictures) -> None:
    for place in operation.where.tolist():
        picture = pictures[place]
        dark, bright = _ends(_histogram(picture))
        span = np.where(bright > dark, bright - dark, 255.0)[:, None]
        start = np.where(bright > dark, dark, 0.0)[:, None]
        # The fraction is cut off, as torchvision does.
        table = np.clip((np.arange(256) - start) * 255 / span + 1e-4, 0, 255).astype(np.uint8)
        _look_up(picture, table)


def _ends(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The darkest and the brightest level of each channel of a histogram (3, 256)."""
    dark, bright = np.argmax(counts > 0, 1), 255 - np.argmax(counts[:, ::-1] > 0, 1)
    return dark, bright


def _histogram(picture: Pictures) -> NDArray[np.int64]:
    """How many pixels have each grey level: int64 (3, 256)."""
    counts = [cv2.calcHist([picture], [channel], None, [256], [0, 256]) for channel in range(3)]
    return np.reshape(counts, (3, 256)).astype(np.int64)


def _equalise(operation: plans.Equalise, pictures: Pictures) -> None:
    for place in operation.where.tolist():
        counts = _histogram(pictures[place])
        brightest = _ends(counts)[1]
        # Pillow's rule: the pixels of the brightest level do not count.
        step = ((counts.sum(1) - counts[np.arange(3), brightest]) // 255)[:, None]
        before = counts.cumsum(1) - counts
        table = np.clip((before + step // 2) // np.maximum(step, 1), 0, 255)
        _look_up(pictures[place], np.where(step > 0, table, np.arange(256)).astype(np.uint8))


def _colour(operation: plans.Colour, pictures: Pictures) -> None:
    averaged = operation.means.any(axis=(1, 2))
    for at, place in enumerate(operation.where.tolist()):
        picture = pictures[place]
        offset = operation.offsets[at]
        if averaged[at]:
            offset = offset + operation.means[at] @ cv2.mean(picture)[:3]
        cv2.transform(picture, np.column_stack([operation.matrices[at], offset]), dst=picture)


def _sharpen(operation: plans.Sharpen, pictures: Pictures) -> None:
    if min(pictures.shape[1:3]) < 3:
        return
    for place, factor in zip(operation.where.tolist(), operation.factors.tolist(), strict=True):
        picture = pictures[place]
        smoothed = cv2.filter2D(picture, -1, _SMOOTHING)
        blended = cv2.addWeighted(picture, factor, smoothed, 1 - factor, operation.shift)
        picture[1:-1, 1:-1] = blended[1:-1, 1:-1]


def _mix(operation: plans.Mix, pictures: Pictures) -> None:
    width = operation.weights.shape[1] - 1
    count = len(operation.where)
    copies = pictures[np.tile(operation.where, width)]
    carry_out(operation.plan, copies)
    for at, place in enumerate(operation.where.tolist()):
        weights = operation.weights[at]
        total = np.multiply(pictures[place], weights[0], dtype=np.float32)
        for chain in range(width):
            cv2.scaleAdd(copies[chain * count + at].astype(np.float32), weights[chain + 1], total, dst=total)
        pictures[place] = cv2.convertScaleAbs(total)


_APPLY: Mapping[type[Any], Callable[[Any, Pictures], None]] = {
    plans.Warp: _warp,
    plans.Turn: _turn,
    plans.Table: _table,
    plans.Autocontrast: _autocontrast,
    plans.Equalise: _equalise,
    plans.Colour: _colour,
    plans.Sharpen: _sharpen,
    plans.Mix: _mix,
}
