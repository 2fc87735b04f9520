"""A sheet for each picture that says why a model answers as it does: `hemascope predict --explain DIR`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hemascope.data import Images
from hemascope.errors import InputError
from hemascope.explain.neighbours import FILE, KnownCells, distance, load_known_cells
from hemascope.explain.occlusion import occlusion
from hemascope.figures.explained import Neighbour, explanation
from hemascope.preparation.asked import Asked
from hemascope.preparation.fitting import Preparation, prepared_for
from hemascope.progress import Progress
from hemascope.runtime import Model, load_model
from hemascope.trust.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
    from hemascope.bulk.sample import Sampler

    asked = asked or Asked()
    opened = explaining(model).with_views(asked.views)
    opened = opened if prior is None else opened.expecting(prior)
    size, sampler = opened.image_size, Sampler()
    there = survey(sampler.passing(plan(inputs))).pictures
    preparation = prepared_for(opened, asked, lambda count: sampler.pictures(count, size, asked.crop))
    verdict = verdict_of(opened)
    known = _known(opened)
    written = 0
    with Progress("explaining", min(most, there), "pictures") as progress:
        for written, (name, image) in enumerate(_pictures(inputs, preparation, size, asked.crop, most), 1):
            answers = opened.answers(image[None], heatmap=True)
            assert answers.heatmap is not None
            place = int(answers.probabilities[0].argmax())
            title = f"{opened.class_names[place]}, {answers.probabilities[0, place]:.0%}"
            found = occlusion(opened, image)
            reasons = verdict.why_not(answers, image[None])[0]
            alike, told = ((), "") if known is None else _alike(known, answers.embedding)
            file = re.sub(r"[^\w.-]+", "_", Path(name).stem)[-80:]
            explanation(
                out / f"{written:03d}-{file}.png",
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
            progress.advance()
    return written


def _pictures(
    inputs: Sequence[str | Path], preparation: Preparation, size: int, crop: int | None, most: int
) -> Iterator[tuple[str, Images]]:
    """The first pictures that can be read, by name, as a model is to see them: uint8 (size, size, 3)."""
    from hemascope.bulk.plan import plan
    from hemascope.bulk.reader import Reader

    reader, given = Reader(), 0
    for item in (item for part in plan(inputs) for item in reader.items(part)):
        if given == most:
            return
        try:
            pixels = item.pixels(preparation.side(size), crop)
        except InputError:
            continue
        given += 1
        yield item.id, preparation(pixels[None], size)[0]


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
