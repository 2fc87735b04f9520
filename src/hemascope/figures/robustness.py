"""Figures of the stress test: how scores fall with severity, and which classes suffer from what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemascope.figures.theme import INK, MUTED, ORANGE, PAPER, VIOLET, WIDE, as_percent, sheet, shortened
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

GREY = "#a7a3b4"
_COLUMNS = 7
_GROUP_TITLES = {"clean": "", "medmnist-c": "MedMNIST-C", "held-out": "held-out families", "mixes": "mixes"}


def severity_curves(
    path: Path,
    errors: Mapping[str, Sequence[float]],
    clean_error: float,
    *,
    published: Mapping[str, float] | None = None,
    near_training: Collection[str] = (),
) -> Path:
    """The mean recall of the classes under each corruption as it grows, a small chart each, clean pictures at 0.

    errors: corruption -> the balanced error at each severity. clean_error: that on clean pictures. published: the error
    of AlexNet for some of them, mean of the severities, drawn as a dotted line. near_training: those drawn in grey.
    """
    rows = max(-(-len(errors) // _COLUMNS), 1)
    columns = max(-(-len(errors) // rows), 1)
    with sheet(path, WIDE, 0.6 + 1.75 * rows) as (figure, description):
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in panels[len(errors) :]:
            axes.set_visible(False)
        told = []
        for place, (axes, (name, values)) in enumerate(zip(panels, errors.items(), strict=False)):
            recall = 1 - np.array([clean_error, *values])
            steps = np.arange(len(recall))
            seen = name in near_training
            colour = GREY if seen else VIOLET
            axes.axhline(recall[0], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="on clean pictures")
            if published and name in published:
                axes.axhline(1 - published[name], color=ORANGE, linewidth=1.6, linestyle=":", label="AlexNet, mean")
            axes.plot(steps, recall, "o-", color=colour, markersize=4, zorder=3)
            axes.fill_between(steps, recall, recall[0], color=colour, alpha=0.13, linewidth=0)
            high = recall[-1] > 0.3
            axes.annotate(
                f"{recall[-1]:.2f}",
                (steps[-1], recall[-1]),
                xytext=(2, -7 if high else 7),
                textcoords="offset points",
                ha="right",
                va="top" if high else "bottom",
                size=8.5,
                weight="bold",
                color=MUTED if seen else INK,
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
                zorder=4,
            )
            if seen:
                axes.text(0.05, 0.06, "near training", transform=axes.transAxes, size=8.5, color=MUTED, style="italic")
            axes.set_title(shortened(name.replace("_", " "), 22), size=8, color=MUTED if seen else INK, pad=5)
            axes.set(xlim=(-0.25, len(recall) - 0.75), ylim=(0, 1.06), xticks=steps)
            axes.tick_params(labelsize=8, labelbottom=place >= len(errors) - columns)
            axes.grid(axis="y")
            as_percent(axes.yaxis)
            told.append(f"{name.replace('_', ' ')} {recall[-1]:.2f}{' (near training)' if seen else ''}")
        figure.supxlabel("severity, 0 on clean pictures", size=9, color=MUTED)
        figure.supylabel("mean recall of the classes", size=9, color=MUTED)
        handles = {
            label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=2, fontsize=9)
        description.append(
            f"Mean recall, {1 - clean_error:.2f} on clean pictures, comes at severity 5 to: {', '.join(told)}."
        )
    return path


def recall_heat_map(
    path: Path, conditions: pd.DataFrame, class_names: Sequence[str], *, near_training: Collection[str] = ()
) -> Path:
    """The recall of each class (row) under each corruption (column), mean of the severities, in percent.

    conditions: a table with group, corruption and recall_<class>, as `hemascope.stress` gives it. near_training: those
    named in grey.
    """
    from matplotlib.colors import LinearSegmentedColormap

    names = [f"recall_{name}" for name in class_names]
    means: Any = conditions.groupby(["group", "corruption"], sort=False)[names].mean()
    values = means.to_numpy(float).T
    groups = [str(group) for group, _ in means.index]
    gaps = np.cumsum([at > 0 and groups[at] != groups[at - 1] for at in range(len(groups))]) * 0.35
    places = np.arange(len(groups)) + gaps
    lost = LinearSegmentedColormap.from_list("lost", ["#f6f4fb", "#f8cfb2", "#e8752f", "#a8400a", "#6b2404"])
    cell = 0.3
    with sheet(path, WIDE, 1.75 + cell * len(class_names)) as (figure, description):
        axes = figure.add_subplot()
        for (row, column), value in np.ndenumerate(values):
            shade = 0.0 if np.isnan(value) else 1 - value
            left = places[column] - 0.5
            axes.fill_between([left, left + 1], row - 0.5, row + 0.5, color=lost(shade), linewidth=0.8, edgecolor=PAPER)
            axes.text(
                float(places[column]),
                row,
                "–" if np.isnan(value) else f"{100 * value:.0f}",
                ha="center",
                va="center",
                size=7.5,
                color=PAPER if shade > 0.5 else INK,
                in_layout=False,
            )
        labels = [shortened(name.replace("_", " "), 24) for _, name in means.index]
        axes.set_xticks(places, labels, rotation=50, ha="right", rotation_mode="anchor", size=8)
        for label, (_, name) in zip(axes.get_xticklabels(), means.index, strict=True):
            label.set_color(GREY if name in near_training else INK)
        axes.set_yticks(np.arange(len(class_names)), [shortened(name, 22) for name in class_names], color=INK, size=9)
        for group in dict.fromkeys(groups):
            own = places[[each == group for each in groups]]
            title = _GROUP_TITLES.get(group, group)
            axes.text(float(own.mean()), -0.75, title, ha="center", va="bottom", size=9, weight="bold", color=MUTED)
        axes.set(xlim=(-0.55, places[-1] + 0.55), ylim=(len(class_names) - 0.45, -1.3))
        axes.spines[:].set_visible(False)
        row, column = divmod(int(np.nanargmin(values)), len(groups))
        description.append(
            f"Recall of {len(class_names)} classes under {many(len(groups), 'condition')}, in percent; the lowest is "
            f"{100 * values[row, column]:.0f}, {class_names[row]} under {means.index[column][1].replace('_', ' ')}."
        )
    return path
