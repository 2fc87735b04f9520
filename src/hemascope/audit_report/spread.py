"""How the values of a set are spread: the figures and the small histograms on the page of an audit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hemascope.audit.findings import Audit
from hemascope.report import Picture, _picture

HISTOGRAMS: Mapping[str, str] = {
    "contrast": "Contrast, in grey levels",
    "sharpness": "Sharpness, in grey levels",
    "saturation": "Saturation, 0 to 1",
    "entropy": "Entropy, in bits",
}

_BINS = 48


@dataclass(frozen=True)
class Histogram:
    """How often each value of a statistic occurs.

    bars: for each bin its left end, the height of all its pictures and of those to drop or to look at, as shares; the
    heights by their square roots, so that a few pictures can be seen.
    """

    title: str
    low: float
    high: float
    most: int
    bars: tuple[tuple[float, float, float], ...]


def figures_of(audit: Audit, stays: NDArray[np.bool_]) -> dict[str, Picture]:
    """The figures that a training run shows of its cleaning too, so that the two pages can be compared."""
    from hemascope.figures import class_distribution, mean_pixel_histogram

    cells = audit.cells
    means = np.asarray(audit.statistics["mean"], float) / 255
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if len(cells):
            path = mean_pixel_histogram(Path(folder) / "mean_pixel_histogram.png", means, means[stays])
            found["mean_pixel_histogram"] = _picture(path)
        if (cells.labels >= 0).any():
            path = Path(folder) / "class_distribution.png"
            class_distribution(path, cells.class_counts(), cells.take(stays).class_counts())
            found["class_distribution"] = _picture(path)
    return found


def histograms_of(audit: Audit, flagged: NDArray[np.bool_]) -> list[Histogram]:
    """The histogram of each of HISTOGRAMS. flagged: bool (n,), the pictures to drop or to look at."""
    if not len(flagged):
        return []
    return [
        _histogram(title, audit.statistics[name], flagged)
        for name, title in HISTOGRAMS.items()
        if name in audit.statistics
    ]


def _histogram(title: str, values: NDArray[np.float32], flagged: NDArray[np.bool_]) -> Histogram:
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, of_flagged = (np.histogram(some, edges)[0] for some in (values, values[flagged]))
    most = int(counts.max())
    heights, flagged_heights = np.sqrt(counts / most), np.sqrt(of_flagged / most)
    bars = tuple(
        (at / _BINS, float(height), float(part))
        for at, (height, part) in enumerate(zip(heights, flagged_heights, strict=True))
        if height
    )
    return Histogram(title, low, high, most, bars)
