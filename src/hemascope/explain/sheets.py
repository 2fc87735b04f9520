"""A sheet for each picture that says why a model answers as it does: `hemascope predict --explain DIR`."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hemascope.errors import InputError
from hemascope.explain.occlusion import occlusion
from hemascope.models import model_folder
from hemascope.preparation.asked import Asked
from hemascope.preparation.fitting import prepared_for
from hemascope.run import Run
from hemascope.runtime import HEATMAP, Model, load_model
from hemascope.trust.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 100


def explain_pictures(
    model: str | Path, inputs: Sequence[str | Path], out: Path, *, asked: Asked | None = None, most: int = MOST
) -> int:
    """Write a PNG for each of the first pictures, and return how many.

    Each shows the picture, where the network looks, and what would have to be covered for the answer to change. inputs:
    as for `hemascope predict`. asked: how they are prepared. Raises InputError when the model has no heat maps and they
    cannot be made.
    """
    from hemascope.bulk.plan import plan, survey
    from hemascope.bulk.reader import Reader
    from hemascope.bulk.sample import Sampler
    from hemascope.figures.explained import explanation

    asked = asked or Asked()
    opened = explaining(model).with_views(asked.views)
    size, sampler = opened.image_size, Sampler()
    if asked.cell or asked.stain:
        survey(sampler.passing(plan(inputs)))
    preparation = prepared_for(opened, asked, lambda count: sampler.pictures(count, size, asked.crop))
    verdict = verdict_of(opened)
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
    """A model that gives heat maps: its run folder is given what makes them, where torch can make it."""
    opened, run = load_model(model), Run(model_folder(model))
    if opened.explains:
        return opened
    described = run.model / "model.json"
    if not (run.model / "weights.safetensors").is_file() or importlib.util.find_spec("torch") is None:
        raise InputError(
            f"{model}: gives no heat maps; they are made for the run folder of a network where torch is installed: pip "
            "install 'hemascope[train]'."
        )
    from hemascope.ensemble import load_network
    from hemascope.export.network import export_heatmap

    network, _, _ = load_network(run)
    export_heatmap(network, run.model / HEATMAP, opened.image_size)
    assert json.loads(described.read_text(encoding="utf-8"))["class_names"] == list(opened.class_names)
    return load_model(model)
