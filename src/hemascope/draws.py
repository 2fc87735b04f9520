"""Random numbers as a pure function of what they are for: seed, epoch, row and purpose.

No generator has a state here, so a draw does not depend on the order of work, on how many workers share it, on the
device, or on whether a run was interrupted.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SHIFTS = (30, 27, 31)
FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""What SplitMix64 is made of (Steele, Lea and Flood, 2014)."""
_WORD = 2**64 - 1


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, in place: every input bit moves every output bit."""
    for shift, factor in zip(SHIFTS, FACTORS, strict=False):
        values ^= values >> np.uint64(shift)
        values *= factor
    values ^= values >> np.uint64(SHIFTS[2])
    return values


def _mixed(word: int) -> int:
    """The same of a single word, for which an array takes ten times as long."""
    word &= _WORD
    for shift, factor in zip(SHIFTS, FACTORS, strict=False):
        word = (word ^ word >> shift) * int(factor) & _WORD
    return word ^ word >> SHIFTS[2]


def words(seed: int, epoch: int, rows: NDArray[np.int64], purpose: str, count: int = 1) -> NDArray[np.uint64]:
    """`count` random 64-bit words for each row: uint64 (n, count).

    purpose: names the draw ("jitter", "order", ...), so that two uses of one row are independent.
    """
    key = seed
    for part in (epoch, zlib.crc32(purpose.encode())):
        key = _mixed(key + int(GOLDEN) + part)
    start = np.uint64((key + int(GOLDEN)) & _WORD)
    return stream(_mix(np.asarray(rows, np.int64).astype(np.uint64) + start), count)


def stream(states: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """The first `count` words of SplitMix64 from each state (n,): uint64 (n, count)."""
    return _mix(states[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def uniform(seed: int, epoch: int, rows: NDArray[np.int64], purpose: str, count: int = 1) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) for each row: float64 (n, count)."""
    return (words(seed, epoch, rows, purpose, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def word(seed: int, epoch: int, step: int, purpose: str) -> int:
    """One random word below 2**63 for a step of an epoch, fit to seed another generator."""
    return int(words(seed, epoch, np.array([step], np.int64), purpose)[0, 0] >> np.uint64(1))


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which an epoch walks over `count` rows: int64 (count,)."""
    return np.argsort(words(seed, epoch, np.arange(count, dtype=np.int64), "order")[:, 0], kind="stable")


@dataclass(frozen=True)
class Draw:
    """Where the random numbers of one step of work on pictures come from."""

    seed: int
    epoch: int
    step: str

    def uniform(self, rows: NDArray[np.int64], purpose: str, count: int = 1) -> NDArray[np.float64]:
        """`count` numbers in [0, 1) for each row: float64 (n, count)."""
        return uniform(self.seed, self.epoch, rows, f"{self.step}:{purpose}", count)

    def signed(self, rows: NDArray[np.int64], purpose: str, count: int = 1) -> NDArray[np.float64]:
        """`count` numbers in [-1, 1) for each row: float64 (n, count)."""
        return 2.0 * self.uniform(rows, purpose, count) - 1.0

    def states(self, rows: NDArray[np.int64], purpose: str) -> NDArray[np.uint64]:
        """One state for each row, from which `stream` draws as many words as wanted: uint64 (n,)."""
        return words(self.seed, self.epoch, rows, f"{self.step}:{purpose}")[:, 0]
