"""Families that change colours and grey levels, each pixel on its own."""

from __future__ import annotations

import numpy as np

from hemascope.augment.plan import Colour, Indices, Plan
from hemascope.draws import Draw

Shape = tuple[int, int]

LUMA = np.array([0.299, 0.587, 0.114])


def jitter(rows: Indices, draw: Draw, magnitude: float, shape: Shape) -> Plan:
    """Brightness, contrast, saturation and the gain of each channel, as a light source and a camera vary them."""
    values = draw.signed(rows, "jitter", 6) * magnitude
    brightness, contrast, saturation = np.exp(values[:, :3].T * np.log(2.0))[:, :, None, None]
    gains = np.exp(values[:, 3:] * np.log(1.3))[:, :, None] * brightness * np.eye(3)
    grey = np.broadcast_to(LUMA, (3, 3))
    blend = saturation * np.eye(3) + (1 - saturation) * grey
    return [
        Colour(
            np.arange(len(rows)),
            blend @ (contrast * gains),
            blend @ ((1 - contrast) * grey @ gains),
            np.zeros((len(rows), 3)),
        )
    ]
