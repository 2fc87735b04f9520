"""Families that mix pictures of a batch, and their labels with them: mixup and cutmix."""

from __future__ import annotations

import numpy as np

from hemascope.augment.plan import Blend, Floats, Indices, Paste, Plan
from hemascope.draws import Draw

Shape = tuple[int, int]


def mixup(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """A sum with another picture of the batch (Zhang et al., 2018)."""
    shares = draw.uniform(rows, "share")[:, 0] * magnitude * 0.5
    return [Blend(np.arange(len(rows)), _partners(rows, draw), shares)]


def cutmix(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """A rectangle of the picture's proportions, out of the same place of another picture (Yun et al., 2019)."""
    area, down, right = draw.uniform(rows, "box", 3).T
    sides = np.round(np.sqrt(area * magnitude * 0.5)[:, None] * np.array(shape)).astype(np.int64)
    starts = np.floor(np.stack([down, right], 1) * (np.array(shape) - sides + 1)).astype(np.int64)
    boxes = np.stack([starts, starts + sides], 2).reshape(-1, 4)
    return [Paste(np.arange(len(rows)), _partners(rows, draw), boxes)]


def label_weights(plan: Plan, count: int, shape: Shape) -> Floats:
    """The share of each picture of a batch in each picture that comes out: (count, count), rows summing to 1."""
    weights = np.eye(count)
    for operation in plan:
        if isinstance(operation, Blend):
            shares = operation.shares
        elif isinstance(operation, Paste):
            top, bottom, left, right = operation.boxes.T
            shares = (bottom - top) * (right - left) / (shape[0] * shape[1])
        else:
            continue
        own, others = weights[operation.where], weights[operation.partners]
        weights[operation.where] = (1 - shares)[:, None] * own + shares[:, None] * others
    return weights


def _partners(rows: Indices, draw: Draw) -> Indices:
    """Another picture for each, every picture once: the batch in a drawn order, each beside the one before it."""
    order = np.argsort(draw.uniform(rows, "partner")[:, 0], kind="stable")
    partners = np.empty(len(rows), np.int64)
    partners[order] = np.roll(order, 1)
    return partners
