"""Random numbers that stay the same for ever: built on the raw bits of PCG64, whose stream NumPy keeps fixed.

`numpy.random.Generator` may change how it turns bits into numbers from one release to the next; the bits themselves
and the seeding by SeedSequence do not change.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Draws:
    """One stream of numbers for each key, such as (seed, stream, row); every key starts a stream of its own."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """float64 (count,), evenly between low and high."""
        raw = np.asarray(self._bits.random_raw(count))
        return low + ((high - low) * 2.0**-53) * (raw >> 11)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number evenly between low and high."""
        return low + (high - low) * 2.0**-53 * (int(self._bits.random_raw()) >> 11)

    def bell(self, middle: float, reach: float) -> float:
        """One number near the middle and never further from it than reach: the mean of three even ones."""
        return middle + reach * (self.uniform(-1.0, 1.0) + self.uniform(-1.0, 1.0) + self.uniform(-1.0, 1.0)) / 3

    def integer(self, low: int, high: int) -> int:
        """One whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.uniform() < probability

    def angle(self) -> float:
        """One direction, in radians."""
        return self.uniform(0.0, 2 * math.pi)

    def order(self, count: int) -> NDArray[np.int64]:
        """int64 (count,): the numbers 0 to count - 1, shuffled."""
        return np.argsort(self.uniforms(count), kind="stable").astype(np.int64)
