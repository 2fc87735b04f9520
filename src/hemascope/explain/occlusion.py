"""What would have to be covered for the answer to change: patches of glass laid over the picture.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, slide a grey patch; here it has the
colour of the picture's own glass, as if a part of the cell were not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Images
from hemascope.errors import InputError
from hemascope.explain.background import background_colours, cell_mask
from hemascope.features.stain import Floats
from hemascope.wording import many

PATCH, STEP = 1 / 6, 1 / 12
"""The side of a patch, and how far the next one lies, as shares of the picture's."""
LIMIT = 10
"""Patches that are laid at most to change the answer; so many cover a quarter of a picture."""
NOTICED = 0.01
"""What a patch must cost the answer's probability for a map of it to show anything."""


class NamedAnswers(Protocol):
    """What gives probabilities float (n, classes) for pictures uint8 (n, height, width, 3), and names the classes."""

    @property
    def class_names(self) -> Sequence[str]: ...

    def predict(self, images: Images) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Occlusion:
    """What `occlusion` found for one picture.

    fall: float32 (height, width), by how much the probability of the answer falls when a patch covers the place, mean
    over the patches that do; below 0 where it rises. covered: bool (height, width), a small set of patches that changes
    the answer, or the set that was given up. answer, confidence: of the bare picture. changed_to: the class that the
    covered picture is taken for, None when the answer stands. without_cell: what it is taken for when all of the cell
    in the middle is covered, None when none was found; if that is still the answer, it rests on something else.
    sentence: all that in words.
    """

    fall: Floats
    covered: NDArray[np.bool_]
    answer: str
    confidence: float
    changed_to: str | None
    without_cell: str | None
    sentence: str


def occlusion(model: NamedAnswers, image: Images, limit: int = LIMIT) -> Occlusion:
    """Cover a picture uint8 (height, width, 3) patch by patch, and then with as few patches as change the answer.

    Patches are chosen one by one, each the one that costs the answer most, and those that turn out not to be needed are
    taken away again: a small set, not always the smallest. limit: how many are laid at most. Raises InputError for
    another shape.
    """
    if image.ndim != 3:
        raise InputError(f"a picture of shape {image.shape} was given, where (height, width, 3) is expected; give one.")
    glass = background_colours(image[None])[0]
    patches = patches_of(*image.shape[:2])

    def told(covers: NDArray[np.bool_]) -> Floats:
        return np.asarray(model.predict(np.where(covers[..., None], glass, image)))

    bare = model.predict(image[None])[0]
    answer = int(bare.argmax())
    singly = told(patches)
    often = patches.sum(0)
    fall = np.tensordot(bare[answer] - singly[:, answer], patches.astype(np.float32), 1) / np.maximum(often, 1)
    chosen: list[int] = []
    found = singly
    while len(chosen) < limit:
        best = int(_lead(found, answer).argmin())
        if best in chosen:
            break  # whichever patch is laid next, it brings the answer no nearer to its end
        chosen.append(best)
        if found[best].argmax() != answer:
            break
        found = told(patches | patches[chosen].any(0))
    last = found[chosen[-1]] if chosen else bare
    if last.argmax() != answer:
        chosen, last = _needed(told, patches, chosen, answer, last)
    covered = np.asarray(patches[chosen].any(0), bool)
    cell = cell_mask(image[None])[0]
    names = model.class_names
    changed_to = None if last.argmax() == answer else names[int(last.argmax())]
    without_cell = names[int(told(cell[None])[0].argmax())] if cell.any() else None
    costliest = float((bare[answer] - singly[:, answer]).max())
    sentence = _sentence(names[answer], changed_to, without_cell, covered, cell, len(chosen), costliest)
    return Occlusion(
        fall=np.asarray(fall, np.float32),
        covered=covered,
        answer=names[answer],
        confidence=float(bare[answer]),
        changed_to=changed_to,
        without_cell=without_cell,
        sentence=sentence,
    )


def patches_of(height: int, width: int) -> NDArray[np.bool_]:
    """The patches that are slid over a picture, so that they reach from edge to edge: bool (patches, height, width)."""
    sides = [max(1, round(PATCH * size)) for size in (height, width)]
    starts = [
        np.unique(np.linspace(0, size - side, max(2, round((1 - PATCH) / STEP) + 1)).round().astype(int))
        for size, side in zip((height, width), sides, strict=True)
    ]
    found = np.zeros((len(starts[0]), len(starts[1]), height, width), bool)
    for row, top in enumerate(starts[0]):
        for column, left in enumerate(starts[1]):
            found[row, column, top : top + sides[0], left : left + sides[1]] = True
    return found.reshape(-1, height, width)


def _lead(probabilities: Floats, answer: int) -> Floats:
    """How far the answer is ahead of the best other one, as logarithms: float (n,). Below 0 it has changed."""
    logs = np.log(np.maximum(probabilities, 1e-12))
    return np.asarray(logs[:, answer] - np.delete(logs, answer, axis=1).max(1))


def _needed(
    told: _Told, patches: NDArray[np.bool_], chosen: Sequence[int], answer: int, last: Floats
) -> tuple[list[int], Floats]:
    """Those of the patches without which the answer would stand, and what is said under them."""
    left = list(chosen)
    while len(left) > 1:
        without = [[*left[:at], *left[at + 1 :]] for at in range(len(left))]
        found = told(np.stack([patches[some].any(0) for some in without]))
        lead = _lead(found, answer)
        at = int(lead.argmin())
        if found[at].argmax() == answer:
            break
        left, last = without[at], found[at]
    return left, last


class _Told(Protocol):
    def __call__(self, covers: NDArray[np.bool_], /) -> Floats: ...


def _sentence(
    answer: str,
    changed_to: str | None,
    without_cell: str | None,
    covered: NDArray[np.bool_],
    cell: NDArray[np.bool_],
    count: int,
    costliest: float,
) -> str:
    share = f"{covered.mean():.0%} of the picture"
    if cell.any():
        share += f" and {covered[cell].mean():.0%} of the cell"
    patches = many(count, "patch", "patches")
    turn = f"stays {answer}" if changed_to is None else f"changes from {answer} to {changed_to}"
    told = f"The answer {turn} when the colour of the background covers {share} ({patches})."
    if costliest < NOTICED:
        told += f" No patch alone costs it {100 * NOTICED:.0f} point of confidence."
    return told if without_cell is None else f"{told} Without the cell, it is {without_cell}."
