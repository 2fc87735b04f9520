"""How pictures of another laboratory are brought nearer to those that trained a model, chosen for a whole set at once.

Colour proposes and the model disposes: the scale at which the cells, told by their stain, are as large as those of
training stands beside fixed ones, and what the model finds least strange is taken. A set is measured by some of its
pictures, without labels, and is changed only where that makes it plainly less strange, so that pictures like those of
training stay as they are. `bench/laboratories.py` measures what it brings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemascope.colour import ColourMatch, Colours
from hemascope.data.cells import Images
from hemascope.preparation.asked import Asked
from hemascope.preparation.square import at_scale, canvas_side, cell_sizes, framed
from hemascope.runtime import Model

FIELDS = (0.45, 0.5, 0.57, 0.64, 0.72, 0.8, 0.9, 1.0, 1.12, 1.25, 1.4, 1.6, 1.8)
"""What is tried as the share of a picture's side that shows what the side of a training picture shows."""
WIDEST = (0.2, 3.0)
"""Cells that are so much smaller or larger than those of training are not told from dust or from a part of a cell."""
MEASURED = 64
"""By so many pictures a set is measured."""
LEAST = 20
"""Fewer pictures than this are left as they are: a few may be strange by themselves."""
LEAST_FALL, LEAST_SHARE = 0.5, 0.3
"""The median outlier score has to fall by this, and by this share of itself, for a change: a set of another stain seems
a little less strange at a wrong scale, too."""
LEAST_RIGHT = 0.95
"""A model that names fewer of its own calibration cells rightly is no judge of what is strange: one was seen to take
cells of its own laboratory for cells of another scale."""
USUAL = 0.5
"""A set with a median outlier score below this is like training, and nothing is tried."""


_Tried = tuple[float, float, ColourMatch | None]


@dataclass(frozen=True)
class Preparation:
    """What is done to each picture before a model sees it.

    crop: the central square of so many pixels is used; None for the largest there is. field: the share of that square's
    side that is used; over 1 it is widened by its edges. colours: what is done to the colours of all pictures alike.
    notes: sentences on what was found.
    """

    crop: int | None = None
    field: float = 1.0
    colours: ColourMatch | None = None
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether it does anything to pictures that are cut already."""
        return self.field != 1 or self.colours is not None

    def as_json(self) -> dict[str, Any]:
        """What is done, for the record."""
        colours = None if self.colours is None else {"scale": self.colours.scale, "shift": self.colours.shift}
        return {"crop": self.crop, "field": self.field, "colours": colours, "notes": list(self.notes)}

    def side(self, size: int) -> int:
        """The side in pixels that pictures are brought to when they are read, for `size` pixels afterwards."""
        return canvas_side(size, self.field)

    def __call__(self, images: Images, size: int) -> Images:
        """Pictures uint8 (n, side, side, 3), read at the side that is asked for -> uint8 (n, size, size, 3)."""
        seen = framed(images, size)
        return seen if self.colours is None else self.colours(seen)


def prepared_for(model: Model, asked: Asked, some: Callable[[int], Images]) -> Preparation:
    """How a set should be prepared for a model, as far as that was asked for.

    some: gives so many of its pictures, uint8 (n, size, size, 3), spread over it, cut to the crop that was asked for.
    Nothing is changed where there are fewer than LEAST pictures, where the model is no judge of it, or does not find
    the set plainly less strange for it.
    """
    if not (asked.cell or asked.stain):
        return Preparation(asked.crop)
    images = some(MEASURED)
    if len(images) < LEAST:
        told = f"scale and stain: as they are; {len(images)} of the pictures can be read, {LEAST} are needed to tell"
        return Preparation(asked.crop, notes=(told,))
    strange = strangeness(model, images)
    if strange <= USUAL:
        return Preparation(asked.crop, notes=("scale and stain: as they are, like those of training to the model",))
    if doubt := why_no_judge(model):
        return Preparation(asked.crop, notes=(f"scale and stain: as they are; {doubt}",))
    chosen: _Tried = (strange, 1.0, None)
    # Each change has to pay for itself; both are tried together too, since at a wrong scale no stain seems right.
    for changes in _tried(model, images, asked):
        best = min(changes, key=lambda one: one[0])
        if chosen[0] - best[0] >= max(LEAST_FALL, LEAST_SHARE * chosen[0]):
            chosen = best
    _, field, colours = chosen
    if field == 1 and colours is None:
        told = "scale and stain: as they are; the set is strange to the model, and not less so with those of training"
        return Preparation(asked.crop, notes=(told,))
    notes = [_scale_in_words(field)] if field != 1 else []
    notes += ["stain: brought to the colours of training, all pictures alike"] if colours is not None else []
    return Preparation(asked.crop, field, colours, tuple(notes))


def why_no_judge(model: Model) -> str:
    """Why a model's outlier score is not to decide how pictures are changed; empty where it may."""
    if "refit" in model.metadata:
        return "the model was fitted again to a laboratory, for which it looked for the scale itself"
    right = 0.0 if model.trust is None or not len(model.trust.correct) else float(np.mean(model.trust.correct))
    if right < LEAST_RIGHT:
        told = f"the model names {right:.0%} of its calibration cells rightly"
        return f"{told}, {LEAST_RIGHT:.0%} are needed to judge a set"
    return ""


def _tried(model: Model, images: Images, asked: Asked) -> list[list[_Tried]]:
    """What comes of one change, scale or stain, and of both: lists that are not empty."""
    one: list[_Tried] = []
    both: list[_Tried] = []
    for field in _fields(model, images) if asked.cell else [1.0]:
        seen = at_scale(images, field)
        if field != 1:
            one.append((strangeness(model, seen), field, None))
        if asked.stain and model.colours is not None:
            match = ColourMatch.between(Colours.of(seen), model.colours)
            (one if field == 1 else both).append((strangeness(model, match(seen)), field, match))
    return [tried for tried in (one, both) if tried]


def strangeness(model: Model, images: Images) -> float:
    """The median outlier score of pictures uint8 (n, height, width, 3), n >= 1."""
    return float(np.median(model.answers(images).outlier_score))


def field_by_colour(model: Model, images: Images) -> float | None:
    """The field at which the stained cells are as large on average as those of training; None where nothing tells it.

    images: uint8 (n, side, side, 3). It takes the classes to be as frequent as in training.
    """
    reference = None if model.trust is None else model.trust.reference
    sizes = cell_sizes(images)
    if reference is None or not np.isfinite(sizes).any():
        return None
    measure = reference.measures["cell_diameter"]
    usual = float((measure.mean * measure.count).sum() / measure.count.sum())
    return float(np.clip(np.exp(np.nanmean(sizes) - usual), *WIDEST))


def _fields(model: Model, images: Images) -> list[float]:
    by_colour = field_by_colour(model, images)
    return sorted({*FIELDS} if by_colour is None else {*FIELDS, round(by_colour, 2)})


def _scale_in_words(field: float) -> str:
    told = f"scale: {field:g} of each picture's side shows what a training picture shows"
    return f"{told}, and is cut out" if field < 1 else f"{told}; beyond the border its edge goes on"
