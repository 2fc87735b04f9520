"""The accuracy on pictures without labels, from a few that a person names: which ones, and what their names prove."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hemascope.data import CLASS_NAMES, class_of
from hemascope.errors import InputError
from hemascope.trust import SpotCheck, draw_spot_check, spot_check
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("id", "label")


def sample(ids: NDArray[np.str_], count: int, seed: int = 0) -> pd.DataFrame:
    """A table to fill in: id, and label, which is empty. The pictures are drawn at random, and alike for one seed."""
    import pandas as pd

    return pd.DataFrame({"id": draw_spot_check(ids, count, seed), "label": ""})


def read_labels(path: Path) -> pd.DataFrame:
    """The table that a person filled in: id and label, as text. Raises InputError where it is another."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); give the table that --spot-check wrote.") from error
    if missing := [column for column in COLUMNS if column not in table]:
        raise InputError(f"{path}: has no column '{missing[0]}'; give the table that --spot-check wrote, filled in.")
    return table


def checked(
    path: Path, ids: NDArray[np.str_], predicted: NDArray[np.str_], seed: int = 0
) -> tuple[SpotCheck, pd.DataFrame]:
    """What the labels in a file prove: the accuracy on all pictures with its exact interval, and id, label, predicted.

    path: a CSV of id and label, for the pictures that `sample` draws; those without a label are passed over if they
    were drawn last, as then the others are a random sample still. A name that is no class counts as a wrong answer.
    ids, predicted: (n,), all pictures and what the model calls them. Raises InputError for another file, pictures that
    were not drawn, gaps, and misspelt classes.
    """
    import pandas as pd

    table = read_labels(path)
    count = len(table)
    wanted: list[str] = draw_spot_check(ids, count, seed).tolist() if 0 < count <= len(ids) else []
    if not count or set(table["id"]) != set(wanted):
        raise InputError(
            f"{path}: names other pictures than those that were drawn from these; label those of the table that "
            "--spot-check wrote, all of it."
        )
    given = table.set_index("id")["label"].reindex(wanted).str.strip()
    filled = (given != "").to_numpy()
    number = int(filled.sum())
    if not number:
        raise InputError(f"{path}: no picture has a label; fill in the column 'label'.")
    if not filled[:number].all():
        first = wanted[int(np.flatnonzero(~filled)[0])]
        raise InputError(
            f"{path}: '{first}' has no label and pictures after it have; leaving out the hard ones would flatter the "
            "model: label it, or write what it is, such as none."
        )
    labels = [class_of(name) or name for name in given[:number]]
    known = sorted({*CLASS_NAMES, *predicted.tolist()})
    for name in labels:
        if name not in known and (near := get_close_matches(name.lower(), known, 1, 0.8)):
            raise InputError(
                f"{path}: '{name}' is no class of the model; the nearest is {near[0]}: write that, or for another cell "
                "a name that is not so near, such as other."
            )
    answers = dict(zip(ids.tolist(), predicted.tolist(), strict=True))
    named = [answers[one] for one in wanted[:number]]
    told = pd.DataFrame({"id": wanted[:number], "label": labels, "predicted": named})
    right = int((told["label"] == told["predicted"]).sum())
    return spot_check(right, number, len(ids)), told


def in_words(found: SpotCheck) -> str:
    """The accuracy that a spot check proves, in a sentence."""
    return (
        f"spot check: {found.right:,} of {many(found.labelled, 'picture')} named rightly, so that of all "
        f"{found.population or 0:,} between {found.low:.1%} and {found.high:.1%} are (exact 95% interval)"
    )
