"""The stress test's pictures: a name, a severity and a seed make the same pixels for ever.

`corrupt` applies one family of corruption, `compose` a chain of three that differs from picture to picture. What is
drawn for a picture depends on the family, the seed and the picture's row number alone: it is the same in any batch, in
any order and on any machine. The severity sets the parameters; the draws stay, so that a bubble grows where it is.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.corrupt.families import FAMILIES, HELD_OUT, MEDMNIST_C, SEVERITIES, Family
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw
from hemascope.errors import InputError

__all__ = [
    "COMPOSITES",
    "FAMILIES",
    "HELD_OUT",
    "MEDMNIST_C",
    "SEVERITIES",
    "Chains",
    "Family",
    "chain",
    "compose",
    "corrupt",
    "weights",
]

CHAIN_LENGTH = 3
_MIXES = {
    "mild": (MEDMNIST_C, 2, 3),
    "hidden": (MEDMNIST_C, 2, 5),
    "extreme": (MEDMNIST_C, 4, 5),
    "hidden-unseen": (HELD_OUT, 2, 5),
}
COMPOSITES = tuple(_MIXES)

# How many bytes of pictures are corrupted at a time, so that what is drawn for them fits a processor's cache.
_STEP_BYTES = 2**19


class Chains(NamedTuple):
    """The families that each row goes through, from left to right: names str (n, 3), severities int64 (n, 3)."""

    names: NDArray[np.str_]
    severities: NDArray[np.int64]


def corrupt(images: Images, name: str, severity: int, *, seed: int, rows: Rows) -> Images:
    """Pictures as one family of corruption leaves them: uint8 (n, height, width, 3), a new array.

    images: uint8 (n, height, width, 3), RGB. name: a key of FAMILIES. severity: 1 to 5. rows: int (n,), the number of
    each picture, which tells its draws from those of the others. A picture comes out the same alone and in any batch.
    Raises InputError for an unknown name, a severity out of range, or pictures and rows of another shape or type.
    """
    family = FAMILIES[_known(name, FAMILIES, "corruption")]
    if not isinstance(severity, int | np.integer) or isinstance(severity, bool) or severity not in SEVERITIES:
        raise InputError(f"severity {severity} was asked for, but severities are whole numbers from 1 to 5.")
    _check(images, seed, rows)
    rows = np.asarray(rows, np.int64)
    draw = Draw(seed, 0, f"corrupt:{name}")
    result = np.empty_like(images)
    step = max(1, _STEP_BYTES // max(1, images[:1].nbytes))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        pictures = np.ascontiguousarray(images[part])
        result[part] = family.function(pictures, rows[part], draw, **family.at(severity))
    return result


def chain(name: str, seed: int, rows: Rows) -> Chains:
    """The three different families and their severities that `compose` draws for each row.

    name: one of COMPOSITES. Raises InputError for another, or for a seed below 0.
    """
    families, low, high = _MIXES[_known(name, _MIXES, "composite")]
    _check_seed(seed)
    draw = Draw(seed, 0, f"compose:{name}")
    order = np.argsort(draw.uniform(rows, "families", len(families)), axis=1, kind="stable")[:, :CHAIN_LENGTH]
    severities = low + np.floor(draw.uniform(rows, "severities", CHAIN_LENGTH) * (high - low + 1)).astype(np.int64)
    return Chains(np.array(families)[order], severities)


def weights(name: str, seed: int, rows: Rows) -> NDArray[np.float64]:
    """How much each row counts for kinds of corruption to count alike, however many families they have: (n,), mean 1.

    A chain weighs one over the product of how many families of the composite are of the kind of each of its links.
    name, seed, rows: as for `chain`.
    """
    families, _, _ = _MIXES[_known(name, _MIXES, "composite")]
    of_kind = Counter(FAMILIES[family].kind for family in families)
    shares = np.array([1 / of_kind[FAMILIES[family].kind] for family in families])
    places = {family: place for place, family in enumerate(families)}
    drawn = chain(name, seed, rows).names
    found = np.prod([shares[[places[str(link)] for link in links]] for links in drawn.T], axis=0)
    return np.asarray(found / max(found.mean(), 1e-12) if len(found) else np.zeros(0), np.float64)


def compose(images: Images, name: str, *, seed: int, rows: Rows) -> Images:
    """Pictures after a chain of three different families, each row its own: uint8 (n, height, width, 3), a new array.

    name: "mild" (severity 2 to 3), "hidden" (2 to 5) and "extreme" (4 to 5) draw from MEDMNIST_C, "hidden-unseen" (2
    to 5) from HELD_OUT; `chain` tells what was drawn. The rest is as in `corrupt`.
    """
    _known(name, _MIXES, "composite")
    _check(images, seed, rows)
    rows = np.asarray(rows, np.int64)
    drawn = chain(name, seed, rows)
    result = images.copy()
    for names, severities in zip(drawn.names.T, drawn.severities.T, strict=True):
        for family, severity in sorted(set(zip(names.tolist(), severities.tolist(), strict=True))):
            own = np.flatnonzero((names == family) & (severities == severity))
            result[own] = corrupt(result[own], family, severity, seed=seed, rows=rows[own])
    return result


def _known(name: str, names: Iterable[str], kind: str) -> str:
    known = list(names)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    advice = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(known)}."
    raise InputError(f"'{name}' is not a {kind}; {advice}")


def _check(images: Images, seed: int, rows: Rows) -> None:
    shape: tuple[int, ...] = getattr(images, "shape", ())
    kind = getattr(images, "dtype", type(images).__name__)
    if kind != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape[1:]:
        raise InputError(f"pictures are {kind} {shape}, but corruptions take uint8 (n, height, width, 3) in RGB.")
    numbers = np.asarray(rows)
    if numbers.shape != shape[:1] or not (np.issubdtype(numbers.dtype, np.integer) or not len(numbers)):
        raise InputError(
            f"rows are {numbers.dtype} {numbers.shape} for {shape[0]:,} pictures; give one whole number for each."
        )
    _check_seed(seed)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed {seed} was given; give a whole number from 0 up.")
