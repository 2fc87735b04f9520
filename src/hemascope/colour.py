"""How a set of pictures is coloured, as optical densities, and one set brought to the colours of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images

Floats = NDArray[np.float32]

LEAST_SPREAD = 0.02
_DENSITIES: Floats = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


@dataclass(frozen=True)
class Colours:
    """Mean and standard deviation of the optical density of all pixels, in red, green and blue: three floats each."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, images: Images) -> Colours:
        """Those of pictures uint8 (n, height, width, 3), n >= 1."""
        # A histogram of the grey levels holds all that is needed.
        counts = np.stack([np.bincount(images[..., channel].reshape(-1), minlength=256) for channel in range(3)])
        shares = counts / counts.sum(1, keepdims=True)
        mean = shares @ _DENSITIES
        spread = np.sqrt(np.maximum(shares @ _DENSITIES**2 - mean**2, 0))
        return cls(tuple(mean.tolist()), tuple(np.maximum(spread, LEAST_SPREAD).tolist()))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Colours:
        return cls(tuple(content["mean"]), tuple(content["deviation"]))

    def as_json(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "deviation": list(self.deviation)}


@dataclass(frozen=True)
class ColourMatch:
    """Brings pictures of a set to the colours of another: density x becomes scale * x + shift, channel by channel.

    Reinhard et al., Color transfer between images, 2001, in optical density, where stains add up. The whole set is
    matched, not each picture, so that what tells cells apart stays.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def between(cls, found: Colours, wanted: Colours) -> ColourMatch:
        scale = np.array(wanted.deviation) / np.array(found.deviation)
        shift = np.array(wanted.mean) - scale * np.array(found.mean)
        return cls(tuple(scale.tolist()), tuple(shift.tolist()))

    def __call__(self, images: Images) -> Images:
        """Pictures uint8 (n, height, width, 3) in the other set's colours."""
        tables = self.tables()
        return np.stack([tables[channel][images[..., channel]] for channel in range(3)], axis=-1)

    def tables(self) -> NDArray[np.uint8]:
        """What each grey level becomes in red, green and blue: uint8 (3, 256)."""
        scale, shift = np.array(self.scale), np.array(self.shift)
        density = np.maximum(scale[:, None] * _DENSITIES + shift[:, None], 0)
        levels: Images = np.floor(np.clip(np.exp(-density) * 256 - 1, 0, 255) + 0.5).astype(np.uint8)
        return levels
