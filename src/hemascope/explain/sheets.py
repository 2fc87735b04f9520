"""A sheet for each picture that says why a model answers as it does: `hemascope predict --explain DIR`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hemascope.errors import InputError
from hemascope.explain.occlusion import occlusion
from hemascope.runtime import Model, load_model
from hemascope.trust.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 100


def explain_pictures(
    model: str | Path, inputs: Sequence[str | Path], out: Path, *, crop: int | None = None, most: int = MOST
) -> int:
    """Write a PNG for each of the first pictures, and return how many.

    Each shows the picture, where the network looks, and what would have to be covered for the answer to change. inputs:
    as for `hemascope predict`. Raises InputError when the model has no heat maps and they cannot be made.
    """
    from hemascope.bulk.plan import plan
    from hemascope.bulk.reader import Reader
    from hemascope.figures.explained import explanation

    opened = explaining(model)
    verdict = verdict_of(opened)
    written = 0
    reader = Reader()
    for item in (item for part in plan(inputs) for item in reader.items(part)):
        if written == most:
            break
        try:
            image = item.pixels(opened.image_size, crop)
        except InputError:
            continue
        answers = opened.answers(image[None], heatmap=True)
        assert answers.heatmap is not None
        place = int(answers.probabilities[0].argmax())
        title = f"{opened.class_names[place]}, {answers.probabilities[0, place]:.0%}"
        found = occlusion(opened, image)
        reasons = verdict.why_not(answers)[0]
        written += 1
        name = re.sub(r"[^\w.-]+", "_", Path(item.id).stem)[-80:]
        explanation(
            out / f"{written:03d}-{name}.png",
            image,
            np.asarray(answers.heatmap[0]),
            title=title,
            fall=found.fall,
            covered=found.covered,
            sentences=(found.sentence, *reasons),
        )
    return written


def explaining(model: str | Path) -> Model:
    """A model that gives heat maps. Raises InputError where it gives none."""
    opened = load_model(model)
    if not opened.explains:
        raise InputError(
            f"{model}: gives no heat maps; the runs of networks do, but for those that were fitted again or cut to 8 "
            "bits."
        )
    return opened
