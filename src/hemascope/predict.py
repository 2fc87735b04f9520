"""Pictures in, one table out: a row for each, also for those that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hemascope.bulk.answers import UNREADABLE, Answered, Namer, answered, joined, none_read
from hemascope.bulk.plan import Part, plan, survey
from hemascope.bulk.sample import pictures_of
from hemascope.data import Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.preparation.asked import asked_for
from hemascope.preparation.cells import prepared_pictures
from hemascope.preparation.fitting import prepared_for
from hemascope.progress import Progress
from hemascope.runtime import Model, answers_of, load_model, training_hashes
from hemascope.trust.verdict import verdict_of
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd


def predict(
    model: str | Path | Model,
    inputs: str | Path | Cells | Sequence[str | Path],
    *,
    crop: int | str | None = None,
    stain: str | None = None,
    views: int = 1,
    prior: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """What a model takes each picture for, in memory; `hemascope.bulk` writes tables of any length.

    model: a run folder, its model.onnx, the name of a model of the package, or a loaded one. inputs: Cells, or paths:
    pictures, folders of pictures, patterns, data files (npz, Parquet, CSV), zip and tar archives, read in that order.
    crop: the side in pixels of the central square to use, of paths, or "cell": the scale of the set is looked for.
    stain: "normalise" brings its colours to those of training. views: over how many poses an answer is averaged.
    prior: the differential count among these pictures, shares or counts by class, for which probabilities are restated
    (`Model.expecting`); that of the training pictures when None.

    Returns a row for each picture: id, label (the class with the highest probability), confidence (that
    probability), a column of probabilities for each class, outlier_score (the higher the stranger), trust (why not to
    trust the answer; empty means to), and error: why a picture could not be read, else empty.
    Raises InputError when there is no picture that can be read.
    """
    import pandas as pd

    asked = asked_for(crop, stain, views)
    # One thread for each batch, as `answered` says.
    model = load_model(model, threads=0 if isinstance(inputs, Cells) else 1).with_views(views)
    model = model if prior is None else model.expecting(prior)
    if isinstance(inputs, Cells):
        _, shown = prepared_pictures(model, inputs, asked)
        found = _of_cells(model, replace(inputs, images=shown))
    else:
        size = model.image_size
        parts = list(plan([inputs] if isinstance(inputs, (str, Path)) else inputs))
        preparation = prepared_for(model, asked, lambda count: pictures_of(parts, count, size, asked.crop))
        found = _of_parts(Namer(model, preparation), parts)
    return pd.DataFrame(found.columns(model.class_names, embedding=False))


def _of_parts(namer: Namer, parts: Sequence[Part]) -> Answered:
    batches = []
    with Progress("predicting", survey(parts).pictures, "images") as progress:
        for _, batch, _ in answered(namer, parts):
            batches.append(batch)
            progress.advance(len(batch.ids))
    found = joined(batches)
    if all(found.errors):
        raise InputError(none_read(len(found.ids), f"{found.ids[0]}: {found.errors[0]}"))
    return found


def _of_cells(model: Model, cells: Cells) -> Answered:
    answers = answers_of(model, cells)
    trust = [" ".join(reasons) for reasons in verdict_of(model).of_cells(answers, cells)]
    good = Answered(cells.ids.tolist(), answers, trust, [""] * len(cells))
    bad = len(cells.unreadable)
    return Answered(
        [*good.ids, *cells.unreadable],
        good.answers,
        [*good.trust, *[UNREADABLE] * bad],
        [*good.errors, *cells.unreadable.values()],
    )


def probabilities_for(model: str | Path | Model, cells: Cells) -> NDArray[np.float32]:
    """The probabilities of each picture in the order of its cells' classes: float32 (n, len(cells.class_names)).

    A class that the model does not know has probability 0.
    """
    model = load_model(model)
    places = [cells.class_names.index(name) for name in model.class_names if name in cells.class_names]
    known = [place for place, name in enumerate(model.class_names) if name in cells.class_names]
    found = np.zeros((len(cells), len(cells.class_names)), np.float32)
    found[:, places] = answers_of(model, cells).probabilities[:, known]
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-9), np.float32)


def opinions_of(model: str | Path, cells: Cells) -> NDArray[np.float32]:
    """The same, to judge labels by: NaN (a row) for pictures that made the model, and of classes that it does not know.

    Raises InputError when none is left.
    """
    known = load_model(model)
    found = probabilities_for(known, cells)
    made_it = np.isin(pixel_hashes(cells), np.array(sorted(training_hashes(model) or ()), np.uint64))
    foreign = ~np.isin(np.array([*cells.class_names, ""])[cells.labels], [*known.class_names, ""])
    if (made_it | foreign).all():
        raise InputError(
            f"{model}: {int(made_it.sum()):,} of {many(len(cells), 'picture')} of {cells.source} made this model and "
            "it knows the class of none of the rest, so that it can judge no label; leave --model out."
        )
    found[made_it | foreign] = np.nan
    return found
