"""The shape of a set: what it holds, how uneven it is, and whether there is enough of each class to split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data import NO_GROUPS_NOTE
from hemascope.data.cells import SPLITS, UNKNOWN_LABEL, Cells
from hemascope.features import Floats
from hemascope.split import FRACTIONS
from hemascope.wording import listed, many

IMBALANCE = 10.0
"""The largest class over the smallest, from which the classes are called uneven."""

NOTABLE_IMBALANCE = 1.5
"""The same ratio, below which no number is told."""

FEW_HELD_OUT = 10
"""With fewer pictures than this in its test split, a class's score is hardly a number."""

UNITS = {"file size": "bytes", "picture width": "pixels", "picture height": "pixels"}
"""Of the facts that reading knows of each picture's file."""

_COLOURLESS = 0.005


@dataclass(frozen=True)
class Finding:
    """One thing that is so of the set. name: what it is about; care: whether somebody should do something about it;
    shown: the number with its unit, as a card shows it."""

    name: str
    number: float
    sentence: str
    care: bool = False
    shown: str = ""


def shape_of_set(
    cells: Cells,
    statistics: Mapping[str, Floats] | None = None,
    facts: Mapping[str, NDArray[Any]] | None = None,
) -> list[Finding]:
    """What the set holds, in sentences, each with its number; those that ask for care stand first.

    statistics: what `picture_statistics` gives, to find pictures without colour. facts: what is known of each
    picture's file, as a name ("picture size", "mode", ...) and words or numbers (n,); each is told by its values.
    """
    found = [
        *_contents(cells),
        *_notes(cells),
        *_unreadable(cells),
        *_classes(cells),
        *_few(cells),
        *_splits(cells),
        *_groups(cells),
        *_colourless(statistics),
        *(finding for name, values in (facts or {}).items() for finding in _values(name, values)),
    ]
    return sorted(found, key=lambda finding: not finding.care)


def _contents(cells: Cells) -> Iterator[Finding]:
    height, width = cells.images.shape[1:3]
    present = sum(count > 0 for count in cells.class_counts().values())
    of_classes = f" of {many(present, 'class', 'classes')}" if present else ""
    yield Finding("pictures", len(cells), f"{many(len(cells), 'picture')}{of_classes}, {width} x {height} pixels")
    if unlabelled := int((cells.labels == UNKNOWN_LABEL).sum()):
        pictures = many(unlabelled, "picture")
        yield Finding("unlabelled", unlabelled, f"{pictures} without a label", care=True, shown=pictures)


def _notes(cells: Cells) -> Iterator[Finding]:
    """What reading had to do; that no patient is named is for a split to say."""
    for note in cells.notes:
        if note != NO_GROUPS_NOTE:
            yield Finding("reading", 1, note, shown="note")


def _unreadable(cells: Cells) -> Iterator[Finding]:
    if count := len(cells.unreadable):
        name, reason = next(iter(cells.unreadable.items()))
        yield Finding(
            "unreadable",
            count,
            f"{many(count, 'file')} could not be read, the first being {name}: {reason}",
            care=True,
            shown=many(count, "file"),
        )


def _classes(cells: Cells) -> Iterator[Finding]:
    counts = cells.class_counts()
    if not any(counts.values()):
        return
    if empty := [name for name, count in counts.items() if not count]:
        yield Finding("empty classes", len(empty), f"no picture of {listed(empty)}", care=len(empty) < len(counts))
    present = {name: count for name, count in counts.items() if count}
    if len(present) == 1:
        yield Finding(
            "one class", 1, f"every labelled picture is of {next(iter(present))}: nothing to tell apart", True
        )
    if len(present) < 2:
        return
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    ratio = present[most] / present[least]
    if ratio == 1:
        sentence = f"the classes are even, {many(present[most], 'picture')} each"
        yield Finding("imbalance", 1, sentence, shown="none")
        return
    if ratio < NOTABLE_IMBALANCE:
        classes = f"the largest class, {most} ({present[most]:,}), has", f"the smallest, {least} ({present[least]:,})"
        yield Finding("imbalance", ratio, " about as many pictures as ".join(classes), shown="hardly any")
        return
    yield Finding(
        "imbalance",
        ratio,
        f"the largest class, {most} ({present[most]:,}), has {ratio:.1f} times as many pictures as the smallest, "
        f"{least} ({present[least]:,}); naming every picture {most} would be right for "
        f"{present[most] / sum(present.values()):.0%}",
        care=ratio >= IMBALANCE,
        shown=f"{ratio:.1f} times",
    )


def _few(cells: Cells) -> Iterator[Finding]:
    if cells.split is not None:
        return
    counts = {name: count for name, count in cells.class_counts().items() if count}
    if none := [name for name, count in counts.items() if count < len(SPLITS)]:
        yield Finding(
            "too few to split",
            len(none),
            f"{listed(none)}: fewer than {len(SPLITS)} pictures, too few for one in each of {', '.join(SPLITS)}",
            care=True,
            shown=many(len(none), "class", "classes"),
        )
    held_out = {name: round(count * FRACTIONS["test"]) for name, count in counts.items() if name not in none}
    if few := [name for name, count in held_out.items() if count < FEW_HELD_OUT]:
        rarest = min(few, key=held_out.__getitem__)
        yield Finding(
            "few held out",
            len(few),
            f"{listed(few) if len(few) < len(counts) else 'every class'}: fewer than {FEW_HELD_OUT} pictures would "
            f"stand in the test split "
            f"({held_out[rarest]} of {rarest}), too few to say how well the class is told",
            care=True,
            shown=many(len(few), "class", "classes"),
        )


def _splits(cells: Cells) -> Iterator[Finding]:
    if cells.split is None:
        return
    counts = Counter(cells.split.tolist())
    yield Finding(
        "splits",
        len(counts),
        f"comes with its own split: {', '.join(f'{name} {counts[name]:,}' for name in counts)}",
    )
    for name in counts:
        here = np.unique(cells.labels[cells.split == name])
        there = np.unique(cells.labels[cells.labels != UNKNOWN_LABEL])
        if len(missing := np.setdiff1d(there, here)) and (here != UNKNOWN_LABEL).any():
            names = listed([cells.class_names[label] for label in missing])
            yield Finding(
                f"classes missing in {name}", len(missing), f"the {name} split has no picture of {names}", True
            )


def _groups(cells: Cells) -> Iterator[Finding]:
    if cells.groups is None:
        return
    groups, place = np.unique(cells.groups, return_inverse=True)
    largest = np.bincount(place).max() / len(cells)
    yield Finding(
        "groups",
        len(groups),
        f"{many(len(groups), 'group')} of pictures, the largest holding {largest:.0%} of them",
        care=len(groups) < len(SPLITS),
    )
    narrow = [
        name
        for label, name in enumerate(cells.class_names)
        if (cells.labels == label).any() and len(np.unique(place[cells.labels == label])) < len(SPLITS)
    ]
    if narrow and len(groups) >= len(SPLITS):
        yield Finding(
            "classes of few groups",
            len(narrow),
            f"{listed(narrow)}: from fewer than {len(SPLITS)} groups, too few for one in each split",
            care=True,
        )


def _colourless(statistics: Mapping[str, Floats] | None) -> Iterator[Finding]:
    if statistics is None:
        return
    grey = statistics["saturation"] < _COLOURLESS
    if 0 < (count := int(grey.sum())) < len(grey):
        pictures = many(count, "picture")
        yield Finding("without colour", count, f"{pictures} without colour among coloured ones", True, pictures)


def _values(name: str, values: NDArray[Any]) -> Iterator[Finding]:
    """A fact of the files: numbers by their range and median, words by the commonest; of the pictures that have it."""
    everywhere = len(values)
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(values):
        return
    if values.dtype.kind in "iuf":
        low, middle, high = (measured(name, value) for value in (values.min(), np.median(values), values.max()))
        told, shown = f"{low.split()[0]} to {high}, median {middle}", f"median {middle}"
        if low == high:
            told, shown = low, low
    else:
        words, counts = np.unique(values, return_counts=True)
        common = np.argsort(-counts, kind="stable")[:4]
        told = ", ".join(f"{words[at]} in {counts[at]:,}" for at in common)
        told += f" and {len(words) - 4:,} more" if len(words) > 4 else ""
        shown = f"{len(words):,} kinds"
        if len(words) == 1:
            told = shown = str(words[0])
    if len(values) < everywhere:
        kind = "JPEG pictures" if name == "JPEG quality" else "pictures that have one"
        told += f"{' in each of' if told == shown else ', in'} the {len(values):,} {kind}"
    elif told == shown:
        told += " in every picture"
    yield Finding(name, len(np.unique(values)), f"{name}: {told}", shown=shown)


def measured(name: str, value: Any) -> str:
    """A number that is known of each picture, with its unit, as people write it: 1,122 bytes."""
    number = f"{value:,.0f}" if abs(value) >= 10 or float(value).is_integer() else f"{value:.2g}"
    return f"{number} {UNITS[name]}" if name in UNITS else number
