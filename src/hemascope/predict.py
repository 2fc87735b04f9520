"""Pictures in, one table out: a row for each, also for those that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hemascope.data import Cells, find_pictures, load, load_pictures, pixel_hashes
from hemascope.data.load import READERS
from hemascope.errors import InputError
from hemascope.progress import Progress
from hemascope.runtime import Model, load_model, training_hashes

if TYPE_CHECKING:
    import pandas as pd

BATCH = 256


def predict(
    model: str | Path | Model, inputs: str | Path | Cells | Sequence[str | Path], *, crop: int | None = None
) -> pd.DataFrame:
    """What a model takes each picture for.

    model: a run folder, its model.onnx, or a loaded one. inputs: Cells, or paths of pictures, folders of pictures and
    data files (npz, Parquet, CSV), read in that order. crop: the side in pixels of the central square to use.

    Returns a row for each picture: id, label (the class with the highest probability), confidence (that
    probability), a column of probabilities for each class, and error: why a picture could not be read, else empty.
    """
    import pandas as pd

    model = load_model(model)
    if isinstance(inputs, Cells):
        parts = [inputs]
    else:
        paths = [Path(inputs)] if isinstance(inputs, (str, Path)) else [Path(path) for path in inputs]
        parts = _read(paths, crop)
    table = pd.concat([_rows(model, cells) for cells in parts], ignore_index=True)
    if not isinstance(inputs, Cells) and len(parts) == 1 and parts[0].unreadable:
        order = {str(path): place for place, path in enumerate(find_pictures(paths))}
        table = table.sort_values("id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)
    return table


def _read(paths: Sequence[Path], crop: int | None) -> list[Cells]:
    """Neighbouring pictures and folders of pictures are read together; each data file alone."""
    parts: list[Cells] = []
    pictures: list[Path] = []
    for path in paths:
        if path.suffix.lower() in READERS:
            if pictures:
                parts.append(load_pictures(pictures, crop=crop))
                pictures = []
            parts.append(load(path, crop=crop))
        else:
            pictures.append(path)
    if pictures:
        parts.append(load_pictures(pictures, crop=crop))
    return parts


def probabilities_for(model: str | Path | Model, cells: Cells) -> NDArray[np.float32]:
    """The probabilities of each picture in the order of its cells' classes: float32 (n, len(cells.class_names)).

    A class that the model does not know has probability 0.
    """
    model = load_model(model)
    places = [cells.class_names.index(name) for name in model.class_names if name in cells.class_names]
    known = [place for place, name in enumerate(model.class_names) if name in cells.class_names]
    found = np.zeros((len(cells), len(cells.class_names)), np.float32)
    found[:, places] = _probabilities(model, cells)[:, known]
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
            f"{model}: {int(made_it.sum()):,} of the {len(cells):,} pictures of {cells.source} made this model and "
            "it knows the class of none of the rest, so that it can judge no label; leave --model out."
        )
    found[made_it | foreign] = np.nan
    return found


def _probabilities(model: Model, cells: Cells) -> NDArray[np.float32]:
    probabilities = np.empty((len(cells), len(model.class_names)), np.float32)
    with Progress("predicting", len(cells), "images") as progress:
        for rows, images in cells.batches(BATCH):
            probabilities[rows] = model.predict(images)
            progress.advance(len(images))
    return probabilities


def _rows(model: Model, cells: Cells) -> pd.DataFrame:
    import pandas as pd

    probabilities = _probabilities(model, cells)
    names = np.array(model.class_names)
    table = pd.DataFrame({"id": cells.ids, "label": names[probabilities.argmax(1)], "confidence": probabilities.max(1)})
    table[list(model.class_names)] = probabilities
    table["error"] = ""
    bad = pd.DataFrame({"id": list(cells.unreadable), "error": list(cells.unreadable.values())})
    return pd.concat([table, bad], ignore_index=True) if len(bad) else table
