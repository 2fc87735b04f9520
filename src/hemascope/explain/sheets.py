"""A sheet for each picture that says why a model answers as it does: `hemascope predict --explain DIR`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hemascope.errors import InputError
from hemascope.explain.neighbours import FILE, KnownCells, distance, load_known_cells
from hemascope.explain.occlusion import occlusion
from hemascope.figures.explained import Neighbour, explanation
from hemascope.preparation.asked import Asked
from hemascope.preparation.fitting import prepared_for
from hemascope.runtime import Model, load_model
from hemascope.trust.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST = 100
NEAREST = 5
"""So many training cells stand on a sheet."""


def explain_pictures(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    asked: Asked | None = None,
    prior: Mapping[str, float] | None = None,
    most: int = MOST,
) -> int:
    """Write a PNG for each of the first pictures, and return how many.

    Each shows the picture, where the network looks, what would have to be covered for the answer to change, and, where
    the model's run keeps some of its training cells, those that the network finds most alike. inputs, prior: as for
    `hemascope predict`. asked: how the pictures are prepared. Raises InputError when the model has no heat maps and
    they cannot be made.
    """
    from hemascope.bulk.plan import plan, survey
    from hemascope.bulk.reader import Reader
    from hemascope.bulk.sample import Sampler

    asked = asked or Asked()
    opened = explaining(model).with_views(asked.views)
    opened = opened if prior is None else opened.expecting(prior)
    size, sampler = opened.image_size, Sampler()
    if asked.cell or asked.stain:
        survey(sampler.passing(plan(inputs)))
    preparation = prepared_for(opened, asked, lambda count: sampler.pictures(count, size, asked.crop))
    verdict = verdict_of(opened)
    known = _known(opened)
    written = 0
    reader = Reader()
    for item in (item for part in plan(inputs) for item in reader.items(part)):
        if written == most:
            break
        try:
            image = preparation(item.pixels(preparation.side(size), asked.crop)[None], size)[0]
        except InputError:
            continue
        answers = opened.answers(image[None], heatmap=True)
        assert answers.heatmap is not None
        place = int(answers.probabilities[0].argmax())
        title = f"{opened.class_names[place]}, {answers.probabilities[0, place]:.0%}"
        found = occlusion(opened, image)
        reasons = verdict.why_not(answers, image[None])[0]
        alike, told = ((), "") if known is None else _alike(known, answers.embedding)
        written += 1
        name = re.sub(r"[^\w.-]+", "_", Path(item.id).stem)[-80:]
        explanation(
            out / f"{written:03d}-{name}.png",
            image,
            np.asarray(answers.heatmap[0]),
            title=title,
            answer=opened.class_names[place],
            fall=found.fall,
            covered=found.covered,
            neighbours=alike,
            told_of_neighbours=told,
            sentences=(found.sentence, *reasons),
        )
    return written


def _known(model: Model) -> KnownCells | None:
    """The training cells that a run keeps beside its model; None where none do, and of any other file."""
    path = model.path.with_name(FILE)
    return load_known_cells(path) if model.path.name == "model.onnx" and path.is_file() else None


def _alike(known: KnownCells, embedding: NDArray[np.float32]) -> tuple[list[Neighbour], str]:
    """The nearest training cells of one embedding (1, d), for the figure and in words."""
    found = known.nearest(embedding, min(NEAREST, len(known.labels)))
    rows, labels, cosine = found.rows[0], found.labels[0], found.cosine[0]
    pictures = [None] * len(rows) if known.thumbnails is None else list(known.thumbnails[rows])
    nearest = [
        Neighbour(known.class_names[label], distance(near), str(known.ids[row]), picture)
        for row, label, near, picture in zip(rows, labels, cosine, pictures, strict=True)
    ]
    return nearest, known.sentence(labels, cosine)


def explaining(model: str | Path) -> Model:
    """A model that gives heat maps. Raises InputError where it gives none."""
    opened = load_model(model)
    if not opened.explains:
        raise InputError(
            f"{model}: gives no heat maps; the runs of networks do, but for those that were fitted again or cut to 8 "
            "bits."
        )
    return opened
