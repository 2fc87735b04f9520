"""How new pictures differ from those that a model was trained on, in effect sizes and in words.

Every number of a picture is held against the training pictures of the class that the model gives it, in standard
deviations of that class. So another mix of classes changes no colour and no size here; it is told by itself. Both a
shift of the mean and a share of unusual pictures are looked at, since a file may hold slides of two laboratories whose
colours differ in opposite ways.

A difference is told when it is sure (family-wise error below CHANCE, by Bonferroni's correction over everything that is
compared) and large (Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988: half a standard deviation is
a medium effect). Few pictures are never called drifted, and the tests take them as independent: a single slide differs
from the next one by more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.data.cells import Pictures
from hemascope.errors import InputError
from hemascope.trust.reference import DISTANCE, MIDDLE, Measure, Reference, describe
from hemascope.trust.words import percent, plural
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

CHANCE = 0.01
"""The chance that pictures of the same origin, drawn one by one, make any sentence at all."""
SMALLEST_EFFECT = 0.5
"""In standard deviations of training; a smaller shift of the mean is not told."""
SMALLEST_SHARE = 0.2
"""A smaller share of pictures outside of what is usual, where 0.05 are expected, is not told."""
SMALLEST_MIX = 0.3
"""Cohen's h between two shares of a class, and SMALLEST_POINTS of their difference, for a class mix to be told."""
SMALLEST_POINTS = 0.05
LEAST_ROWS = 20
"""Fewer pictures are never called drifted."""

WORDS: Mapping[str, tuple[str, str, str]] = {
    "background_lightness": ("brightness of the background", "brighter background", "darker background"),
    "background_blueness": ("blue in the background", "bluer background", "yellower background"),
    "background_greenness": ("green in the background", "greener background", "pinker background"),
    "brightness": ("brightness", "brighter", "darker"),
    "contrast": ("contrast", "more contrast", "less contrast"),
    "saturation": ("saturation", "stronger colours", "paler colours"),
    "cell_density": ("depth of the stain", "cells stained darker", "cells stained paler"),
    "cell_blueness": ("hue of the stain", "bluer cells", "redder cells"),
    "sharpness": ("sharpness", "sharper", "blurrier"),
    "noise": ("noise", "noisier", "smoother"),
    "blocks": ("steps between blocks", "blocks of JPEG compression", "fewer blocks of JPEG compression"),
    "cell_diameter": ("size of the cells", "cells {} larger across", "cells {} smaller across"),
    "red_cell_diameter": ("size of the red cells", "red cells {} larger across", "red cells {} smaller across"),
    DISTANCE: (
        "distance from the classes in the network",
        "stranger to the network",
        "nearer to the network's classes",
    ),
}
"""Number -> what it is, and what more and less of it is called."""

_RATIOS = ("cell_diameter", "red_cell_diameter")
"""Numbers that are logarithms of lengths, so that a difference is a ratio."""
_CONSEQUENCES = (
    ("noise", "sharpness", 1),
    ("sharpness", "noise", 1),
    ("sharpness", "cell_diameter", -1),
    ("brightness", "cell_diameter", -1),
    ("contrast", "cell_diameter", 1),
    ("saturation", "cell_diameter", 1),
)
"""What follows from something else that differs more: the number, its cause, and whether they go the same way. A
blurred picture is smooth too, noise makes steep slopes, and around small cells there is more of the pale slide."""
_HARMLESS = ((DISTANCE, -1), ("blocks", -1))
"""What is no reason to trust a model less."""


class _Shift(NamedTuple):
    """One number of all pictures against training."""

    rows: int
    value: float
    expected: float
    effect: float
    shift_p: float
    unusual: float
    unusual_p: float


def compare(reference: Reference, images: Pictures, embeddings: ArrayLike | None, predicted: ArrayLike) -> pd.DataFrame:
    """Hold new pictures against those of training: one line for each thing compared, what matters most first.

        reference: what the model's file carries. images: uint8 (n, height, width, 3), RGB. embeddings: float (n, d), or
    None. predicted: int (n,), what the model calls them. Columns: name (a number of APPEARANCE, DISTANCE, or "share of
    <class>"), rows (how many pictures tell it), value and expected (the mean here, and that of training pictures of the
    same classes), effect (in standard deviations of training; Cohen's h for shares), p (corrected for all that is
    compared), unusual (the share outside of what MIDDLE of the training pictures show; NaN for shares of classes),
    drifted (bool), sentence ("" unless drifted, or where it only follows from another line). Raises InputError when
    lengths disagree.
    """
    return compare_numbers(reference, describe(reference, images, embeddings, predicted), predicted)


def compare_numbers(reference: Reference, numbers: Mapping[str, Floats], predicted: ArrayLike) -> pd.DataFrame:
    """As `compare`, where the numbers of the pictures (`describe`) are there already."""
    import pandas as pd

    answers = np.asarray(predicted, np.int64)
    if any(len(values) != len(answers) for values in numbers.values()):
        raise InputError(
            f"there are numbers for other pictures than the {len(answers):,} answers; give both of one set."
        )
    names = [name for name in reference.measures if name in numbers]
    classes = np.flatnonzero(reference.answers + np.bincount(answers, minlength=len(reference.class_names)))
    tests = 2 * len(names) + len(classes)
    shifts = {name: _shift(reference.measures[name], np.asarray(numbers[name]), answers) for name in names}
    lines = [_line_of_number(name, shift, tests) for name, shift in shifts.items()]
    lines = _less_consequences(lines)
    lines += [_line_of_class(reference, int(place), answers, tests) for place in classes]
    lines.sort(key=lambda line: (not line["drifted"], -abs(np.nan_to_num(line["effect"]))))
    columns = ["name", "rows", "value", "expected", "effect", "p", "unusual", "drifted", "sentence"]
    return pd.DataFrame(lines, columns=columns)


def drift_sentences(table: pd.DataFrame) -> list[str]:
    """What `compare` has to say, most important first; nothing when the pictures look like those of training."""
    rows = int(table["rows"].max()) if len(table) else 0
    if rows < LEAST_ROWS:
        return [
            f"{many(rows, 'picture is', 'pictures are')} too few to tell whether they differ from those of "
            f"training; give {LEAST_ROWS} or more."
        ]
    return [str(sentence) for sentence in table["sentence"] if sentence]


def _shift(measure: Measure, values: Floats, classes: NDArray[np.int64]) -> _Shift:
    from scipy.stats import betabinom, t

    told = np.isfinite(values) & (measure.count[classes] > 0)
    values, classes = values[told], classes[told]
    rows = len(values)
    if rows < 2:
        return _Shift(rows, np.nan, np.nan, np.nan, 1.0, np.nan, 1.0)
    away = (values - measure.mean[classes]) / measure.deviation[classes]
    share = np.bincount(classes, minlength=len(measure.count)) / rows
    # The means of training are themselves known from a number of pictures only.
    known = float((share**2 / np.maximum(measure.count, 1)).sum())
    error = np.sqrt(max(float(away.var(ddof=1)), 1e-12) / rows + known)
    effect = float(away.mean())
    # So are the bounds of what is usual: what lies outside is then beta-binomial, exactly so for pictures of one class.
    learnt = 1 / known + 1
    outside = measure.outside(values, classes)
    return _Shift(
        rows,
        float(values.mean()),
        float(measure.mean[classes].mean()),
        effect,
        float(2 * t.sf(abs(effect) / error, rows - 1)),
        float(outside.mean()),
        float(betabinom.sf(int(outside.sum()) - 1, rows, (1 - MIDDLE) * learnt, MIDDLE * learnt)),
    )


def _line_of_number(name: str, shift: _Shift, tests: int) -> dict[str, Any]:
    sides = [min(1.0, p * tests) for p in (shift.shift_p, shift.unusual_p)]
    enough = shift.rows >= LEAST_ROWS
    harmless = (name, np.sign(np.nan_to_num(shift.effect))) in _HARMLESS
    shifted = enough and sides[0] < CHANCE and abs(shift.effect) >= SMALLEST_EFFECT and not harmless
    mixed = enough and sides[1] < CHANCE and shift.unusual >= SMALLEST_SHARE and not harmless
    sentence = _shift_in_words(name, shift) if shifted else ""
    if mixed and not shifted:
        sentence = (
            f"mixed {WORDS[name][0]}: {percent(shift.unusual)} of the pictures outside of what is usual, "
            f"{percent(1 - MIDDLE)} in training"
        )
    return {
        "name": name,
        "rows": shift.rows,
        "value": shift.value,
        "expected": shift.expected,
        "effect": shift.effect,
        "p": min(sides) if mixed and not shifted else sides[0],
        "unusual": shift.unusual,
        "drifted": shifted or mixed,
        "sentence": sentence,
    }


def _shift_in_words(name: str, shift: _Shift) -> str:
    words = WORDS[name][1 if shift.effect > 0 else 2]
    if name in _RATIOS:
        told = words.format(percent(abs(np.expm1(shift.value - shift.expected))))
        return f"{told}, {abs(shift.effect):.1f} s.d. (another crop or magnification?)"
    return f"{words}, {abs(shift.effect):.1f} s.d."


def _less_consequences(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines, those that only follow from another one being silent."""
    told = {line["name"]: line["effect"] for line in lines if line["drifted"]}
    for follows, cause, way in _CONSEQUENCES:
        own, other = told.get(follows, 0.0), told.get(cause, 0.0)
        if way * own * other > 0 and abs(own) < abs(other):
            next(line for line in lines if line["name"] == follows)["sentence"] = ""
    return lines


def _line_of_class(reference: Reference, place: int, answers: NDArray[np.int64], tests: int) -> dict[str, Any]:
    """The share of a class among the answers against that on held-out pictures: Fisher's exact test, and Cohen's h."""
    from scipy.stats import fisher_exact

    count, rows = int((answers == place).sum()), len(answers)
    usual_count, usual_rows = int(reference.answers[place]), int(reference.answers.sum())
    share, usual = count / max(rows, 1), usual_count / usual_rows
    effect = float(2 * np.arcsin(np.sqrt(share)) - 2 * np.arcsin(np.sqrt(usual)))
    p = float(fisher_exact([[count, rows - count], [usual_count, usual_rows - usual_count]])[1]) if rows else 1.0
    p = min(1.0, p * tests)
    large = abs(effect) >= SMALLEST_MIX and abs(share - usual) >= SMALLEST_POINTS
    drifted = bool(rows >= LEAST_ROWS and p < CHANCE and large)
    name = reference.class_names[place]
    return {
        "name": f"share of {name}",
        "rows": rows,
        "value": share,
        "expected": usual,
        "effect": effect,
        "p": p,
        "unusual": float("nan"),
        "drifted": drifted,
        "sentence": f"class mix: {percent(share)} {plural(name)}, {percent(usual)} in training" if drifted else "",
    }
