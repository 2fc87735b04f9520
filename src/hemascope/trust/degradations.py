"""Degradations that a whole batch of pictures suffers alike, as one laboratory's fault would have it.

What estimates accuracy without labels is fitted on them. They stand apart from the stress test's mixes, in which each
picture has a chain of its own: an estimate for a batch must have seen batches that are bad throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemascope.corrupt import COMPOSITES, HELD_OUT, MEDMNIST_C, compose, corrupt
from hemascope.data.cells import Images, Rows
from hemascope.draws import permutation, word

SEVERITIES = (1, 3, 5)
CHAINS = 16
LENGTHS = (2, 3, 4)
CHAIN_SEVERITIES = (3, 4, 5)
MIXES = ("mild", "hidden", "extreme")

_DRAWN_FROM = {name: HELD_OUT if name == "hidden-unseen" else MEDMNIST_C for name in COMPOSITES}


@dataclass(frozen=True)
class Degradation:
    """What is done to every picture of a batch.

    steps: corruptions and severities, from left to right; a composite of `hemascope.corrupt` has severity 0. No step
    leaves the pictures clean.
    """

    steps: tuple[tuple[str, int], ...] = ()

    @property
    def title(self) -> str:
        return ", ".join(f"{name} {severity}" if severity else name for name, severity in self.steps) or "clean"

    @property
    def families(self) -> frozenset[str]:
        """The families of corruption that it is made of; of a composite all that it draws from."""
        found: set[str] = set()
        for name, _ in self.steps:
            found |= set(_DRAWN_FROM.get(name, (name,)))
        return frozenset(found)

    def applied(self, images: Images, *, seed: int, rows: Rows) -> Images:
        """The pictures after it: uint8 (n, height, width, 3). seed, rows: as in `hemascope.corrupt.corrupt`."""
        for name, severity in self.steps:
            if name in COMPOSITES:
                images = compose(images, name, seed=seed, rows=rows)
            else:
                images = corrupt(images, name, severity, seed=seed, rows=rows)
        return images

    def rows(self, count: int, most: int, seed: int) -> Rows:
        """Which of `count` pictures to degrade, at most `most`, drawn anew for each degradation: int64 (k,), sorted."""
        return np.sort(permutation(word(seed, 0, 0, f"degradation: {self.title}"), 0, count)[:most])


CLEAN = Degradation()


def degradations(
    families: Sequence[str] = MEDMNIST_C, *, chains: int = CHAINS, severities: Sequence[int] = SEVERITIES
) -> tuple[Degradation, ...]:
    """Each of some families alone at some severities, and so many chains of two to four of them at high severities."""
    alone = [Degradation(((name, severity),)) for name in families for severity in severities]
    return *alone, *(_chain(families, turn) for turn in range(chains))


def _chain(families: Sequence[str], turn: int) -> Degradation:
    length = min(LENGTHS[turn % len(LENGTHS)], len(families))
    order = permutation(word(0, 0, turn, "chain"), 0, len(families))[:length]
    levels = [word(0, turn, place, "severity") % len(CHAIN_SEVERITIES) for place in range(length)]
    return Degradation(
        tuple((families[which], CHAIN_SEVERITIES[level]) for which, level in zip(order, levels, strict=True))
    )
