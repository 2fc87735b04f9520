"""Figures of training and of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemascope.figures.theme import (
    HALF,
    INK,
    LILAC,
    MUTED,
    ORANGE,
    PAPER,
    TEAL,
    VIOLET,
    WIDE,
    as_percent,
    sheet,
    shortened,
)
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LUMA = np.array([0.299, 0.587, 0.114])
"""What red, green and blue do for how light a colour is."""


def training_curves(
    path: Path, history: pd.DataFrame | Sequence[Mapping[str, Any]], best_epochs: Mapping[str, int] | None = None
) -> Path:
    """Loss and accuracy of each epoch, the stages one after the other.

    history: rows or a table with stage, epoch, train_loss, train_accuracy, validation_loss, validation_accuracy; what
    is missing or not a number is left out. best_epochs: stage -> the epoch whose weights were kept, marked.
    """
    import pandas as pd

    table = pd.DataFrame(history).reset_index(drop=True)
    steps = np.arange(1, len(table) + 1)
    stages = list(dict.fromkeys(table["stage"])) if "stage" in table else []
    with sheet(path, WIDE, 3.5) as (figure, description):
        for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for split, colour, style, marker in (("train", TEAL, "--", "s"), ("validation", VIOLET, "-", "o")):
                column = f"{split}_{measure}"
                if column not in table or table[column].isna().all():
                    continue
                values = table[column].astype(float)
                size = 3.2 if len(table) <= 40 else 0
                axes.plot(steps, values, style, color=colour, label=split, marker=marker, markersize=size)
            for stage in stages:
                own = np.flatnonzero(table["stage"] == stage)
                where = axes.get_xaxis_transform()
                if own[0]:
                    axes.axvline(own[0] + 0.5, color="#b9b3cb", linewidth=1, linestyle=":")
                axes.text(own[0] + 0.6, 1.02, shortened(stage, 18), transform=where, size=8.5, color=MUTED)
                kept = own[table.loc[own, "epoch"] == (best_epochs or {}).get(str(stage), -1)]
                column = f"validation_{measure}"
                if len(kept) and column in table and np.isfinite(value := float(table.loc[kept[0], column])):
                    _mark_kept(axes, kept[0] + 1, value, len(table), rising=measure == "accuracy")
            axes.set_title(measure, pad=22)
            axes.margins(y=0.14)
            axes.set(xlabel="epoch", xlim=(0.5, max(len(table), 1) + 0.5))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y")
            if axes.get_lines():
                axes.legend(loc="best", fontsize=9)
            if measure == "accuracy":
                as_percent(axes.yaxis)
        best = ""
        if "validation_accuracy" in table and table["validation_accuracy"].notna().any():
            best = f"; highest validation accuracy of any {table['validation_accuracy'].max():.4f}"
        description.append(f"Loss and accuracy over {many(len(table), 'epoch')}{best}.")
    return path


def _mark_kept(axes: Axes, step: int, value: float, steps: int, rising: bool) -> None:
    """Ring the epoch whose weights were kept; its label goes where a curve that settles leaves room."""
    axes.plot(step, value, "o", markersize=11, markerfacecolor="none", color=ORANGE, zorder=4)
    late = step > 0.7 * steps
    axes.annotate(
        f"kept, {value:.4f}",
        (step, value),
        xytext=(6 if late else 9, -12 if rising else 12),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top" if rising else "bottom",
        size=8.5,
        color=ORANGE,
        weight="bold",
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1},
    )


def confusion_matrix(path: Path, counts: NDArray[np.integer], class_names: Sequence[str]) -> Path:
    """What each true class (row) was called (column): the numbers are counts, the shade is the share of the row.

    counts: (classes, classes) int. Right answers are violet, mistakes orange; the shade follows the square root of the
    share, so that one mistake in a hundred can be seen.
    """
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.asarray(counts)
    size = len(class_names)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    right = LinearSegmentedColormap.from_list("right", ["#f6f4fb", "#b3a3dd", VIOLET, "#3b2678"])
    wrong = LinearSegmentedColormap.from_list("wrong", ["#fbfafc", "#f8cfb2", "#e8752f", "#a8400a"])
    cell = 0.62 if size <= 12 else max(0.62 * 12 / size, 0.2)
    letters = 9.5 if size <= 12 else max(9.5 * cell / 0.62, 3.5)
    name = min(max(map(len, class_names), default=1), 22) * letters / 9.5
    with sheet(path, 0.9 + 0.085 * name + cell * size, 0.7 + 0.06 * name + cell * size) as (figure, description):
        axes = figure.add_subplot()
        shade = np.sqrt(share)
        colours = np.where(np.eye(size, dtype=bool)[:, :, None], right(shade), wrong(shade))
        axes.imshow(colours, interpolation="nearest", aspect="equal")
        for row, column in np.ndindex(counts.shape):
            if counts[row, column] or (row == column and size <= 12):
                axes.text(
                    column,
                    row,
                    f"{int(counts[row, column]):,}",
                    ha="center",
                    va="center",
                    size=letters,
                    color=PAPER if colours[row, column, :3] @ _LUMA < 0.55 else INK,
                    weight="bold" if row == column else "normal",
                    in_layout=False,
                )
        axes.set_xticks(np.arange(size), [shortened(n, 20) for n in class_names], rotation=40, ha="left", color=INK)
        axes.set_yticks(np.arange(size), [shortened(n, 22) for n in class_names], color=INK)
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=letters)
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=PAPER, linewidth=2 if size <= 12 else 0.6)
        axes.spines[:].set_visible(False)
        axes.set_ylabel("what the cell is")
        axes.set_xlabel("what the model said")
        correct = int(np.trace(counts))
        description.append(f"Confusion matrix of {size} classes: {correct:,} of {int(counts.sum()):,} on the diagonal.")
    return path


def reliability_diagram(
    path: Path, confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 10
) -> Path:
    """How often the model was right at each confidence; on the diagonal it is as sure as it should be.

    confidence: (n,) float in [0, 1]. correct: (n,) bool. Below stands how many pictures had that confidence. Guo et
    al., On Calibration of Modern Neural Networks, 2017.
    """
    confidence, correct = np.asarray(confidence, float), np.asarray(correct, float)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    number = np.bincount(place, minlength=bins)
    filled = number > 0
    accuracy = np.bincount(place, correct, bins)[filled] / number[filled]
    mean = np.bincount(place, confidence, bins)[filled] / number[filled]
    middle, width = (edges[:-1] + edges[1:]) / 2, 0.9 / bins
    with sheet(path, HALF, 4.6) as (figure, description):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        upper.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1.2, label="as sure as right")
        upper.bar(middle[filled], accuracy, width, color=LILAC, label="accuracy")
        upper.vlines(mean, accuracy, mean, color=ORANGE, linewidth=2.5, label="gap")
        upper.plot(mean, accuracy, "o", color=VIOLET, markersize=6)
        upper.set(ylim=(0, 1.03), xlim=(0, 1), ylabel="share that was right")
        upper.legend(loc="upper left", fontsize=9)
        lower.bar(middle, number, width, color=VIOLET)
        lower.set(xlabel="confidence", ylabel="pictures (log)")
        lower.set_yscale("log")
        lower.set_ylim(0.7, max(float(number.max(initial=1)), 3.0) * 2)
        lower.yaxis.set_major_formatter("{x:,.0f}")
        for axes in (upper, lower):
            axes.grid(axis="y")
        as_percent(upper.yaxis)
        as_percent(lower.xaxis)
        if len(confidence):
            description.append(f"Mean confidence {confidence.mean():.3f}, share right {correct.mean():.3f}.")
    return path


def reliability_by_corruption(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Path:
    """How often the model was right at each confidence, clean and under corruption: a line for each.

    curves: title -> points of confidence, accuracy and rows, in the order of the lines.
    """
    with sheet(path, HALF, 4.6) as (figure, description):
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1.2, label="as sure as right")
        colours = (TEAL, VIOLET, ORANGE, LILAC)
        for place, (title, points) in enumerate(curves.items()):
            colour = colours[place % len(colours)]
            x, y, rows = ([float(point[name]) for point in points] for name in ("confidence", "accuracy", "rows"))
            axes.plot(x, y, color=colour, linewidth=1.6, label=title)
            # The area of a point tells how many pictures stand behind it.
            axes.scatter(x, y, s=[6 + 160 * count / max(sum(rows), 1) for count in rows], color=colour, zorder=3)
            gap = sum(abs(a - b) * count for a, b, count in zip(x, y, rows, strict=True)) / max(sum(rows), 1)
            description.append(f"{title}: confidence and share right differ by {gap:.3f} on average.")
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="confidence", ylabel="share that was right")
        axes.legend(loc="upper left", fontsize=9)
        axes.grid(axis="y")
        as_percent(axes.yaxis)
        as_percent(axes.xaxis)
    return path


def data_learning_curve(
    path: Path,
    rows: Sequence[int],
    scores: Sequence[float],
    intervals: Sequence[tuple[float, float]] | None = None,
    measure: str = "validation accuracy",
) -> Path:
    """The score against the number of training pictures: a line that still climbs says that more pictures would help.

    rows, scores: (k,), in any order. intervals: the spread of each score, low and high.
    """
    order = np.argsort(rows)
    x, y = np.asarray(rows, float)[order], np.asarray(scores, float)[order]
    with sheet(path, HALF, 3.6) as (figure, description):
        axes = figure.add_subplot()
        if intervals:
            low, high = np.asarray(intervals, float)[order].T
            axes.fill_between(x, low, high, color=LILAC, alpha=0.55, linewidth=0)
            axes.vlines(x, low, high, color=VIOLET, linewidth=1.4)
        axes.plot(x, y, "o-", color=VIOLET, markersize=6)
        for count, score in zip(x, y, strict=True):
            axes.annotate(
                f"{score:.4f}", (count, score), (-8, 5), textcoords="offset points", ha="right", size=9, weight="bold"
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [f"{int(count):,}" for count in x])
        axes.minorticks_off()
        axes.margins(x=0.16, y=0.15)
        axes.set(xlabel="training pictures (doubling scale)", ylabel=measure)
        axes.grid(axis="y")
        told = ", ".join(f"{score:.4f} with {int(count):,}" for count, score in zip(x, y, strict=True))
        description.append(f"{measure.capitalize()} by number of training pictures: {told}.")
    return path


def leaderboard(
    path: Path,
    names: Sequence[str],
    accuracies: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    notes: Sequence[str] | None = None,
    measure: str = "accuracy",
    clean: Sequence[float] | None = None,
    spreads: Sequence[float | None] | None = None,
) -> Path:
    """The score of several models with its intervals, the best one on top.

    names, accuracies, intervals (low and high, or None), notes (such as "random weights"): one for each model. clean:
    the accuracies on clean pictures, marked beside the scores. spreads: the standard deviation over seeds, or None;
    it is drawn and written where there is no interval.
    """
    order = np.argsort(-np.asarray(accuracies, float), kind="stable")
    with sheet(path, WIDE, 0.9 + 0.5 * len(names)) as (figure, description):
        axes = figure.add_subplot()
        told = []
        for place, model in enumerate(order):
            accuracy, interval = float(accuracies[model]), intervals[model]
            axes.barh(place, accuracy, height=0.6, color=VIOLET if place == 0 else LILAC)
            text = f"{accuracy:.4f}"
            if clean is not None:
                axes.plot(
                    clean[model], place, "D", color=TEAL, markersize=7, zorder=4, label="accuracy, clean pictures"
                )
            if interval:
                low, high = interval
                axes.errorbar(
                    accuracy, place, xerr=[[accuracy - low], [high - accuracy]], color=ORANGE, capsize=4, linewidth=1.8
                )
                text += f"   {low:.3f} to {high:.3f}"
            elif spreads is not None and (spread := spreads[model]) is not None:
                axes.errorbar(accuracy, place, xerr=spread, color=ORANGE, capsize=4, linewidth=1.8)
                text += f" ± {spread:.4f}"
            axes.text(1.015, place, text, va="center", weight="bold" if place == 0 else "normal", size=9.5)
            told.append(f"{names[model]} {text}")
        labels = [f"{shortened(names[m])}" + (f"\n{shortened(notes[m])}" if notes and notes[m] else "") for m in order]
        axes.set_yticks(np.arange(len(names)), labels, color=INK)
        axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel=measure)
        as_percent(axes.xaxis)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        if clean is not None:
            figure.legend(
                *(each[:1] for each in axes.get_legend_handles_labels()), loc="outside upper right", fontsize=9
            )
        description.append(f"{measure.capitalize()} of {many(len(names), 'model')}, best first: {'; '.join(told)}.")
    return path
