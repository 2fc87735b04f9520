"""Figures of the data before and after cleaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hemascope.figures.theme import HALF, INK, MUTED, ORANGE, VIOLET, sheet, shortened
from hemascope.wording import many

REPEATS = 10  # two different cells share a mean by chance; ten do not


def class_distribution(path: Path, before: Mapping[str, int], after: Mapping[str, int]) -> Path:
    """How many pictures each class has, before and after cleaning.

    before, after: class name -> count; a class that is missing from `after` lost all its pictures.
    """
    names = list(before)
    kept = np.array([min(after.get(name, 0), before[name]) for name in names], float)
    gone = np.array([before[name] for name in names], float) - kept
    with sheet(path, HALF, 1.1 + 0.36 * len(names)) as (figure, description):
        axes = figure.add_subplot()
        places = np.arange(len(names))
        axes.barh(places, kept, height=0.68, color=VIOLET, label="kept")
        if gone.any():
            axes.barh(
                places,
                gone,
                left=kept,
                height=0.68,
                label="removed in cleaning",
                color="#f7d9c4",
                edgecolor=ORANGE,
                hatch="////",
                linewidth=0,
            )
        reach = float((kept + gone).max(initial=1.0))
        for place, (stays, goes) in enumerate(zip(kept, gone, strict=True)):
            axes.text(stays + goes + reach * 0.015, place, f"{int(stays):,}", va="center", weight="bold", size=9)
            if goes:
                where = axes.get_yaxis_transform()
                removed = f"\N{MINUS SIGN}{int(goes):,}"
                axes.text(1, place, removed, transform=where, ha="right", va="center", size=9, color=ORANGE)
        axes.set_yticks(places, [shortened(name) for name in names], color=INK)
        axes.set(xlim=(0, reach * 1.36), ylim=(len(names) - 0.4, -0.6), xlabel="pictures")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        if gone.any():
            figure.legend(loc="outside upper left", ncols=2, fontsize=9)
        counted = ", ".join(f"{name} {int(count):,}" for name, count in zip(names, kept, strict=True))
        description.append(
            f"Pictures of each class after cleaning: {counted}; {many(int(gone.sum()), 'was', 'were')} removed."
        )
    return path


def mean_pixel_histogram(path: Path, before: NDArray[np.floating], after: NDArray[np.floating]) -> Path:
    """How bright the pictures are, before and after cleaning; a picture that repeats stands out as a spike.

    before: (n,) float in [0, 1], the mean of pixels / 255 of each picture that was read. after: the same of those kept.
    The counts are on a logarithmic axis, and values that ten or more pictures share exactly are marked with their
    number.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    low, high = (float(before.min()), float(before.max())) if len(before) else (0.0, 1.0)
    edges = np.linspace(max(low - 0.01, 0.0), min(high + 0.01, 1.0), 121)
    top, crowd = 3.0, 0
    with sheet(path, HALF, 4.0) as (figure, description):
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, values, name in zip(panels, (before, after), ("before cleaning", "after cleaning"), strict=True):
            counts, _ = np.histogram(values, edges)
            means, shared = np.unique(np.round(values, 9), return_counts=True)
            spikes = sorted(
                ((int(n), float(mean)) for n, mean in zip(shared, means, strict=True) if n >= REPEATS), reverse=True
            )[:4]
            marked = np.isin(np.arange(len(counts)), np.digitize([mean for _, mean in spikes], edges) - 1)
            colours = np.where(marked, ORANGE, VIOLET)
            axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours.tolist(), linewidth=0)
            top = max(top, float(counts.max(initial=0)))
            # Left spikes are labelled on their right, the leftmost on top, so that no label meets the line of another.
            middle = 0.4 * edges[0] + 0.6 * edges[-1]
            for place, (n, mean) in enumerate(sorted(spikes, key=lambda spike: (spike[1] >= middle, spike[1]))):
                right = mean < middle
                height = 0.97 - 0.13 * place
                where = axes.get_xaxis_transform()
                axes.plot([mean, mean], [0, height - 0.03], ":", color=ORANGE, linewidth=1, transform=where, zorder=0)
                axes.text(
                    mean + (0.004 if right else -0.004) * (edges[-1] - edges[0]),
                    height,
                    f"{many(n, 'picture')} with the mean {mean:.3f}",
                    transform=where,
                    ha="left" if right else "right",
                    va="top",
                    size=8.5,
                    weight="bold",
                    color=ORANGE,
                )
            crowd = max(crowd, len(spikes))
            axes.set_title(f"{name}: {many(len(values), 'picture')}")
            axes.grid(axis="y")
            said = "; ".join(f"{n:,} share the mean {mean:.3f}" for n, mean in spikes) or "no mean repeats"
            description.append(f"Mean pixel {name}, {many(len(values), 'picture')}: {said}.")
        panels[0].set_yscale("log")
        panels[0].set_ylim(0.7, top * 2.2 * 3.0**crowd)  # room above the bars for the labels of the spikes
        panels[0].yaxis.set_major_formatter("{x:,.0f}")
        panels[0].yaxis.set_minor_formatter("")  # few pictures would have LaTeX between the ticks
        panels[1].set_xlabel("mean pixel of a picture, 0 black to 1 white")
        figure.supylabel("pictures (log)", size=10, color=MUTED)
    return path
