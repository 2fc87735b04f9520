"""Where a model fails: kinds of pictures on which it is right less often than on the others.

Every class, answer and quarter of the pictures by what they look like is a slice, and every quarter of a class.
The errors in each are held against those outside it by Fisher's exact test, one-sided, as a slice is only sought where
it is worse. A search over hundreds of slices finds bad ones by chance alone, so p-values are corrected by Benjamini and
Hochberg, Controlling the False Discovery Rate, 1995: of the slices called worse, the share FALSE_SHARE at most is
expected to be so by chance (they overlap, which their method bears where it makes tests agree: Benjamini and Yekutieli,
2001). The search for such slices is that of Chung et al., Slice Finder, 2019, less its tree.

Rows that show one cell several times, or many cells of a patient, know less than as many rows of their own. With
`groups` each count is divided by its design effect, after Rao and Scott, A Simple Method for the Analysis of Clustered
Binary Data, 1992.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.errors import InputError
from hemascope.metrics import wilson_interval
from hemascope.trust.words import plural

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]

BINS = 4
LEAST_ROWS = 30
FALSE_SHARE = 0.05

ENDS: Mapping[str, tuple[str, str]] = {
    "brightness": ("in dark pictures", "in bright pictures"),
    "contrast": ("in pictures of low contrast", "in pictures of high contrast"),
    "saturation": ("in pictures of pale colours", "in pictures of strong colours"),
    "sharpness": ("in blurred pictures", "in sharp pictures"),
    "noise": ("in smooth pictures", "in noisy pictures"),
    "blocks": ("in pictures with few traces of JPEG", "in pictures with strong traces of JPEG"),
    "background_lightness": ("on a dark background", "on a bright background"),
    "background_blueness": ("on a yellow background", "on a blue background"),
    "background_greenness": ("on a pink background", "on a green background"),
    "cell_density": ("stained pale", "stained dark"),
    "cell_blueness": ("stained red", "stained blue"),
    "cell_diameter": ("of small size", "of large size"),
    "red_cell_diameter": ("beside small red cells", "beside large red cells"),
}
"""Number of `hemascope.trust.appearance` -> what is said of the cells in its lowest and in its highest bin."""


def slices(
    labels: ArrayLike,
    predicted: ArrayLike,
    class_names: Sequence[str],
    numbers: Mapping[str, ArrayLike],
    *,
    corruption: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    bins: int = BINS,
    least_rows: int = LEAST_ROWS,
) -> pd.DataFrame:
    """The slices of at least `least_rows` rows, worst first: those that are surely worse, then by accuracy.

    labels, predicted: int (n,), positions in class_names. numbers: name -> float (n,), what the pictures look like, as
    `appearance` gives it; cut into `bins` parts at the quantiles of all rows, and those of a class at the quantiles of
    the class, so that a large platelet is one that is large for a platelet; NaN is in no part. corruption: str (n,),
    what was done to each picture, where rows come with one. groups: (n,), equal for rows of one picture or patient;
    then slices of at least `least_rows` groups are looked at. Columns: slice (in words), class_name ("" for all), by
    (what else decides it, "" for nothing), rows, right, accuracy, low and high (Wilson's 95% interval), gap (how far
    below the overall accuracy), p (one-sided, against the rows outside), q (corrected for the search), worse (bool),
    sentence. Slices of the same rows stand once, under the simplest name. Raises InputError when lengths disagree.
    """
    import pandas as pd
    from scipy.stats import false_discovery_control, hypergeom

    truth, answers = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    names, rows = tuple(class_names), len(truth)
    columns = {name: np.asarray(values, np.float64) for name, values in numbers.items()}
    done = None if corruption is None else np.asarray(corruption).astype(str)
    cluster = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    known: list[tuple[str, NDArray[Any] | None]] = [("corruption", done), ("groups", cluster)]
    for what, values in [("predicted", answers), *columns.items(), *known]:
        if values is not None and values.shape != (rows,):
            raise InputError(f"'{what}' has the shape {values.shape} for {rows:,} labels; give one for each.")
    both = np.concatenate([truth, answers])
    if rows and (both.min() < 0 or both.max() >= len(names)):
        raise InputError(f"labels and answers must lie in 0 to {len(names) - 1}, as there are {len(names)} classes.")
    wrong = truth != answers
    overall = 1 - float(wrong.mean()) if rows else float("nan")
    lines, seen = [], set()
    for words, class_name, by, mask in _candidates(truth, answers, names, columns, done, bins):
        count = int(mask.sum())
        enough = count if cluster is None else len(np.unique(cluster[mask]))
        if enough < least_rows or count == rows or (key := mask.tobytes()) in seen:
            continue
        seen.add(key)
        good = count - int(wrong[mask].sum())
        errors, size = _effective(wrong, cluster, mask)
        other_errors, other_size = _effective(wrong, cluster, ~mask)
        low, high = wilson_interval(size - errors, size)
        p = float(hypergeom.sf(errors - 1, size + other_size, errors + other_errors, size))
        lines.append(
            {
                "slice": words,
                "class_name": class_name,
                "by": by,
                "rows": count,
                "right": good,
                "accuracy": good / count,
                "low": low,
                "high": high,
                "gap": overall - good / count,
                "p": min(1.0, p),
                "sentence": f"{words}: {good / count:.3f}, {low:.3f} to {high:.3f}, of {count:,}",
            }
        )
    table = pd.DataFrame(
        lines,
        columns=["slice", "class_name", "by", "rows", "right", "accuracy", "low", "high", "gap", "p", "sentence"],
    )
    table.insert(10, "q", false_discovery_control(table["p"].to_numpy(np.float64)))
    table.insert(11, "worse", (table["q"] < FALSE_SHARE) & (table["gap"] > 0))
    return table.sort_values(["worse", "accuracy", "p"], ascending=[False, True, True], ignore_index=True)


def slice_sentences(table: pd.DataFrame, most: int = 5) -> list[str]:
    """The slices that are surely worse, in words, worst first; one sentence that says so where there are none.

    A slice within one that was told already, and no worse beyond its interval, is left out.
    """
    found: list[pd.Series[Any]] = []
    for _, row in table[table["worse"]].sort_values(["rows"], ascending=False, kind="stable").iterrows():
        wider = [one for one in found if _within(row, one) and row["accuracy"] >= one["low"]]
        if not wider:
            found.append(row)
    if not found:
        if not len(table):
            return ["There are too few pictures of each kind to find one that is worse than the rest."]
        return [
            f"None of {len(table):,} kinds of pictures is worse than the rest beyond chance, corrected for the search."
        ]
    return [str(row["sentence"]) for row in sorted(found, key=lambda row: float(row["accuracy"]))[:most]]


def _effective(wrong: Mask, cluster: NDArray[np.int64] | None, mask: Mask) -> tuple[int, int]:
    """Errors and rows of a slice, both divided by how much more groups scatter than as many rows of their own would."""
    count, errors = int(mask.sum()), int(wrong[mask].sum())
    if cluster is None or not count:
        return errors, count
    sizes = np.bincount(cluster[mask])
    wrong_in, groups = np.bincount(cluster[mask], wrong[mask])[sizes > 0], int((sizes > 0).sum())
    if groups == count:
        return errors, count
    share = errors / count
    scatter = float(((wrong_in - sizes[sizes > 0] * share) ** 2).sum()) * groups / max(groups - 1, 1)
    expected = count * share * (1 - share)
    # Where all rows agree there is no scatter to be seen, and each group counts once.
    effect = max(1.0, scatter / expected) if expected else count / groups
    return round(errors / effect), max(1, round(count / effect))


def _within(row: pd.Series[Any], wider: pd.Series[Any]) -> bool:
    """Whether a slice is a part of another one by its definition."""
    return wider["class_name"] in ("", row["class_name"]) and wider["by"] in ("", row["by"])


def _candidates(
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    names: tuple[str, ...],
    numbers: Mapping[str, NDArray[np.float64]],
    corruption: NDArray[np.str_] | None,
    bins: int,
) -> Iterator[tuple[str, str, str, Mask]]:
    """(in words, class name or "", what else decides it or "", which rows), simple slices first.

    A class with an answer is no slice: all its rows are right, or none.
    """
    everything = np.ones(len(truth), bool)
    for place, name in enumerate(names):
        yield plural(name), name, "", truth == place
    for place, name in enumerate(names):
        yield f"cells called {name}", "", f"called {name}", answers == place
    for name, own in [("", everything), *((name, truth == place) for place, name in enumerate(names))]:
        who = plural(name) if name else "cells"
        if corruption is not None:
            for kind in np.unique(corruption):
                yield f"{who} under {kind}", name, f"under {kind}", own & (corruption == kind)
        for number, values in numbers.items():
            for words, by, mask in _parts(number, np.where(own, values, np.nan), bins):
                yield f"{who} {words}", name, by, mask


def _parts(name: str, values: NDArray[np.float64], bins: int) -> Iterator[tuple[str, str, Mask]]:
    """The quantile bins of a number: (in words, name of the bin, which rows); fewer where values repeat."""
    told = np.isfinite(values)
    if not told.any():
        return
    edges = np.unique(np.quantile(values[told], np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.where(told, np.searchsorted(edges, values, side="right"), -1)
    noun = name.replace("_", " ")
    low, high = ENDS.get(name, (f"of low {noun}", f"of high {noun}"))
    for part in range(len(edges) + 1):
        middling = f"of middling {noun} ({part + 1} of {len(edges) + 1})"
        words = low if part == 0 else high if part == len(edges) else middling
        yield words, f"{name} {part + 1} of {len(edges) + 1}", place == part
