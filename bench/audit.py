"""What the audit finds and what it costs: `audit.py` for everything, `audit.py near growth` for some of the sections.

The data are sought in ../shared beside the checkout. A million pictures are tried only when everything is asked for.
The last line printed is one line of JSON with every figure.

speed.py says what HEMASCOPE_BENCH_PEERS may name, to be timed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import plant
import plant_near_copies
from hemascope.audit import audit
from hemascope.audit.copies import find_copies
from hemascope.audit.features import cell_features, picture_statistics
from hemascope.audit.labels import find_label_suspects, out_of_sample_probabilities
from hemascope.audit.near_copies import near_copies, near_copy_groups
from hemascope.audit.outliers import find_outliers
from hemascope.audit.shortcuts import background_measures, find_shortcuts
from hemascope.data import Cells, load
from speed import compare, spent

Figures = dict[str, Any]

SHARED = Path(__file__).resolve().parents[2] / "shared"
MAKE_CHALLENGE = SHARED / "scripts" / "make_challenge.py"
SEEDS = (9001, 9002, 9003)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SIZES = (10_000, 100_000, 1_000_000)
LARGEST_IN_PART = 100_000
GROWTH_MEMORY_GIB = 3.0


class Data:
    """The challenge file and what several sections compute of it, each thing once and when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def files(self) -> Path:
        """The folder with training_set.npz and public_test.npz."""
        _say("  making the challenge file")
        command = [sys.executable, str(MAKE_CHALLENGE), str(self.folder)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
            _say(f"The data cannot be made: {MAKE_CHALLENGE.name} failed ({reason}); repair what it names.")
            raise SystemExit(2)
        return self.folder

    @cached_property
    def challenge(self) -> Cells:
        return _in_memory(load(self.files / "training_set.npz"))

    @cached_property
    def public_test(self) -> Cells:
        return _in_memory(load(self.files / "public_test.npz"))

    @cached_property
    def clean(self) -> Cells:
        """The cells of the challenge file, without copies and non-cells."""
        return _in_memory(self.challenge.take(find_copies(self.challenge).keep))

    @cached_property
    def features(self) -> NDArray[np.float32]:
        return cell_features(self.clean)

    @cached_property
    def own_pairs(self) -> NDArray[np.int64]:
        """The near copies among the clean cells themselves: int64 (pairs, 2)."""
        return _ends(near_copies(self.clean))

    @cached_property
    def own_groups(self) -> NDArray[np.int64]:
        """Which clean cells are near copies of each other: int64 (n,)."""
        return _joined(len(self.clean), self.own_pairs)


def challenge(data: Data) -> Figures:
    """The file as it came, against the public test: what is dropped, and what leaks."""
    found = audit(data.challenge, against=[data.public_test], say=lambda sentence: _say(f"  {sentence}"))
    table = found.findings
    dropped = table["advice"] == "drop"
    sizes = table[table["is_not_a_cell"]].groupby("group").size().sort_values(ascending=False)
    figures = {
        "rows": len(table),
        "not_a_cell": [int(size) for size in sizes],
        "copies_dropped": int((table["is_exact_copy"] & dropped).sum()),
        "dropped": int(dropped.sum()),
        "kept": int((~dropped).sum()),
        "exact_leaks": len(found.leaks),
        "exact_leaks_under_another_label": int(found.leaks["other_label"].sum()),
        "near_pairs_within": int((found.near["where"] == data.challenge.source).sum()),
        "near_pairs_against_test": int((found.near["where"] == data.public_test.source).sum()),
        "label_suspects": int(table["is_label_suspect"].sum()),
        "outliers": int(table["is_outlier"].sum()),
    }
    _say(f"  not a cell {figures['not_a_cell']}, copies dropped {figures['copies_dropped']}, kept {figures['kept']:,}")
    _say(f"  exact leaks {figures['exact_leaks']}, under another label {figures['exact_leaks_under_another_label']}")
    wanted = {
        "not_a_cell": [1600, 200],
        "copies_dropped": 8,
        "dropped": 1808,
        "kept": 11951,
        "exact_leaks": 5,
        "exact_leaks_under_another_label": 1,
    }
    missed = [f"{name} is {figures[name]}, wanted {value}" for name, value in wanted.items() if figures[name] != value]
    return figures | {"missed": missed}


def near(data: Data) -> Figures:
    """Planted near copies: how many of them are found, and how many of the pairs found are planted."""
    cells = data.clean
    rounds: list[Figures] = []
    _say(f"  the set's own pairs, found with nothing planted: {len(data.own_pairs)}")
    by_kind: dict[str, list[bool]] = {}
    for seed in SEEDS:
        images, planted, kinds = plant_near_copies.plant(np.asarray(cells.images), 300, seed)
        began = time.process_time()
        found = _ends(near_copies(_with_more(cells, images[len(cells) :], cells.labels[planted[:, 0]])))
        seconds = time.process_time() - began
        pairs = set(map(tuple, found.tolist()))
        hit = [tuple(pair) in pairs for pair in planted.tolist()]
        # What a planted picture shares with its original's own near copies is as true as those.
        group = _joined(len(images), np.concatenate([data.own_pairs, planted]))
        false = int((group[found[:, 0]] != group[found[:, 1]]).sum())
        for kind, one in zip(kinds, hit, strict=True):
            by_kind.setdefault("two at once" if " + " in kind else kind, []).append(one)
        rounds.append({"seed": seed, "recall": sum(hit) / 300, "false": false, "cpu_seconds": round(seconds, 1)})
        rounds[-1]["precision"] = sum(hit) / max(sum(hit) + false, 1)
        _say(
            f"  seed {seed}: recall {rounds[-1]['recall']:.4f}, precision {rounds[-1]['precision']:.4f} "
            f"({false} false pairs), {seconds:.1f} CPU s"
        )
    recall_by_kind = {kind: float(np.mean(hits)) for kind, hits in sorted(by_kind.items())}
    _say("  recall by kind: " + ", ".join(f"{kind} {share:.3f}" for kind, share in recall_by_kind.items()))
    figures = {"own_pairs": len(data.own_pairs), "rounds": rounds, "recall_by_kind": recall_by_kind}
    return figures | {"missed": _below(rounds, {"recall": 0.98, "precision": 0.98})}


def labels(data: Data) -> Figures:
    """Two in a hundred labels flipped: how many are found, and how many of those flagged are flipped."""
    cells, classes = data.clean, len(data.clean.class_names)
    plain = out_of_sample_probabilities(data.features, cells.labels, classes, data.own_groups)
    confusable = plant.most_confusable(cells.labels, plain)
    own = int(find_label_suspects(cells, plain)["is_label_suspect"].sum())
    _say(f"  flagged with nothing flipped: {own}")
    rounds: list[Figures] = []
    for how in ("any", "confusable"):
        for seed in SEEDS:
            flipped, rows = plant.flip_labels(cells.labels, 0.02, seed, how, confusable, classes)
            changed = Cells(cells.images, flipped, cells.class_names, cells.ids)
            believed = out_of_sample_probabilities(data.features, flipped, classes, data.own_groups)
            flagged = find_label_suspects(changed, believed)["is_label_suspect"].to_numpy()
            right = int(flagged[rows].sum())
            rounds.append({"to": how, "seed": seed, "flipped": len(rows), "flagged": int(flagged.sum())})
            rounds[-1] |= {"recall": right / len(rows), "precision": right / max(int(flagged.sum()), 1)}
            _say(f"  to {how}, seed {seed}: recall {rounds[-1]['recall']:.3f}, precision {rounds[-1]['precision']:.3f}")
    figures = {"flagged_with_nothing_flipped": own, "rounds": rounds}
    return figures | {"missed": _below(rounds, {"recall": 0.8, "precision": 0.8})}


def outliers(data: Data) -> Figures:
    """Fifty pictures that are no cells: how many of them are flagged, and how many of the cells."""
    cells = data.clean
    statistics = picture_statistics(cells)
    rounds: list[Figures] = []
    for seed in SEEDS:
        images, kinds = plant.non_cells(50, seed, np.asarray(cells.images))
        tags = np.random.default_rng(seed).integers(0, len(cells.class_names), len(images))
        planted = Cells(images, tags, cells.class_names, np.array([f"planted#{row}" for row in range(len(images))]))
        measured = picture_statistics(planted)
        together = {name: np.concatenate([values, measured[name]]) for name, values in statistics.items()}
        features = np.concatenate([data.features, cell_features(planted)])
        flagged = find_outliers(_with_more(cells, images, tags), together, features)["is_outlier"].to_numpy()
        unseen = sorted(kind for kind, found in zip(kinds, flagged[len(cells) :], strict=True) if not found)
        rounds.append({"seed": seed, "planted_flagged": float(flagged[len(cells) :].mean())})
        rounds[-1] |= {"cells_flagged": float(flagged[: len(cells)].mean()), "unseen": unseen}
        _say(
            f"  seed {seed}: {rounds[-1]['planted_flagged']:.2f} of the planted, {rounds[-1]['cells_flagged']:.4f} of "
            f"the cells{'; not seen: ' + ', '.join(unseen) if unseen else ''}"
        )
    missed = _below(rounds, {"planted_flagged": 0.95})
    missed += [f"cells_flagged {one['cells_flagged']:.4f} > 0.01" for one in rounds if one["cells_flagged"] > 0.01]
    return {"rounds": rounds, "missed": missed}


def shortcuts(data: Data) -> Figures:
    """The background of one class brightened by 6 levels, each class in turn: does it rank first, and is it named?"""
    cells, images = data.clean, np.asarray(data.clean.images)
    plain = background_measures(cells)
    table = find_shortcuts(cells, plain, groups=data.own_groups)
    _say("  as found, nothing planted:")
    shown = ["candidate", "class_name", "auc", "gain", "balanced_accuracy", "chance", "is_shortcut"]
    _say("    " + table[shown].round(3).to_string(index=False).replace("\n", "\n    "))
    rounds: list[Figures] = []
    for label, name in enumerate(cells.class_names):
        rows = np.flatnonzero(cells.labels == label)
        brighter = plant.brighten_background(images[rows], np.arange(len(rows)))
        again = background_measures(Cells(brighter, cells.labels[rows], cells.class_names, cells.ids[rows]))
        changed = {measure: values.copy() for measure, values in plain.items()}
        for measure, values in again.items():
            changed[measure][rows] = values
        found = find_shortcuts(cells, changed, groups=data.own_groups)
        rank = 1 + found["candidate"].tolist().index("background colour")
        told = found.to_dict("records")[rank - 1]
        rounds.append(
            {"planted": name, "rank": rank} | {key: told[key] for key in ("class_name", "auc", "is_shortcut")}
        )
        _say(f"  {name}: background colour ranks {rank}, names {told['class_name']}, AUC {told['auc']:.3f}")
    wrong = [one for one in rounds if one["rank"] != 1 or one["class_name"] != one["planted"]]
    missed = [f"{one['planted']}: rank {one['rank']}, {one['class_name']} is named" for one in wrong]
    missed += [f"{one['planted']}: not called a shortcut" for one in rounds if not one["is_shortcut"]]
    return {"unplanted": table[shown].to_dict("records"), "rounds": rounds, "missed": missed}


def speed(data: Data) -> Figures:
    """CPU seconds on the whole file, ours and those of cleanvision and imagededup."""
    return compare(data.challenge, data.folder / "png", _say)


def growth(data: Data, sizes: tuple[int, ...] = SIZES) -> Figures:
    """Copies, junk and outlier statistics of ever more pictures, made while they are read."""
    rounds: list[Figures] = []
    for size in sizes:
        command = [sys.executable, str(Path(__file__).with_name("growth.py")), str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        one = json.loads(done.stdout.splitlines()[-1])
        one["cpu_microseconds_a_picture"] = round(1e6 * one["cpu_seconds"] / size)
        rounds.append(one)
        _say(
            f"  {size:,}: {one['cpu_seconds']:.1f} CPU s ({one['cpu_microseconds_a_picture']} millionths a picture), "
            f"{one['wall_seconds']:.1f} s by the clock, at most {one['peak_gib']:.2f} GiB"
        )
    missed = [
        f"{one['pictures']:,} took {one['peak_gib']} GiB" for one in rounds if one["peak_gib"] > GROWTH_MEMORY_GIB
    ]
    slowest = max(one["cpu_microseconds_a_picture"] for one in rounds)
    if slowest > 1.5 * rounds[0]["cpu_microseconds_a_picture"]:
        missed.append("time grows faster than the number of pictures")
    missed += [f"{one['pictures']:,}: not all copies found" for one in rounds if one["not_a_cell"] != 1600]
    return {"rounds": rounds, "missed": missed}


SECTIONS: dict[str, Callable[[Data], Figures]] = {
    section.__name__: section for section in (challenge, near, labels, outliers, shortcuts, speed)
}


def _in_memory(cells: Cells) -> Cells:
    return Cells(
        np.asarray(cells.images[:]), cells.labels, cells.class_names, cells.ids, source=cells.source, jpeg=cells.jpeg
    )


def _with_more(cells: Cells, images: NDArray[np.uint8], tags: NDArray[np.int64]) -> Cells:
    return Cells(
        np.concatenate([np.asarray(cells.images), images]),
        np.concatenate([cells.labels, tags]),
        cells.class_names,
        np.concatenate([cells.ids, np.array([f"planted#{row}" for row in range(len(images))])]),
    )


def _ends(found: Any) -> NDArray[np.int64]:
    return np.asarray(found[["row", "other_row"]].to_numpy(np.int64))


def _joined(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    import pandas as pd

    return near_copy_groups(np.arange(count), pd.DataFrame(pairs, columns=["row", "other_row"]))


def _below(rounds: list[Figures], least: dict[str, float]) -> list[str]:
    told = []
    for one in rounds:
        name = " ".join(str(one[key]) for key in ("to", "seed") if key in one)
        told += [f"{name}: {key} {one[key]:.3f} < {value}" for key, value in least.items() if one[key] < value]
    return told


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SECTIONS, "growth"]
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(names)}; all when left out")
    asked = parser.parse_args().sections
    if unknown := [name for name in asked if name not in names]:
        parser.error(f"there is no section '{unknown[0]}'; the sections are {', '.join(names)}.")
    wanted = asked or names
    if wanted != ["growth"] and not MAKE_CHALLENGE.is_file():
        print(f"The data are not there: {SHARED} has no scripts/make_challenge.py; put them there, or run 'growth'.")
        return 2
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # The libraries read this once, when they are loaded.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Data(Path(folder))
        for name in wanted:
            section = SECTIONS.get(name)
            sizes = SIZES if not asked else tuple(size for size in SIZES if size <= LARGEST_IN_PART)
            _say(f"{name}: {(section or growth).__doc__}")
            began = spent()
            figures[name] = growth(data, sizes) if section is None else section(data)
            figures[name]["section_cpu_seconds"] = round(spent() - began, 1)
            for sentence in figures[name]["missed"]:
                _say(f"  MISSED {sentence}")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
