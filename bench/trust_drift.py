"""Drift, weak slices and fingerprints on real cells: false alarms, what is detected, and what it costs.

The model is `small`; the reference is fitted on some of the pictures that trained it and on its answers for the
calibration rows. False alarms are counted on test rows and on the public test, less what stands in the training file,
in random batches and in batches of another mix of classes; detection on test rows, spoilt. Fingerprints are held
against all pairs of training rows and against the public test. Data are sought in ../shared beside the checkout. Takes
some four minutes on a core. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from challenge import SHARED, make_challenge
from hemascope.corrupt import HELD_OUT, corrupt
from hemascope.data import Images, load, pixel_hashes
from hemascope.draws import Draw
from hemascope.ensemble import load_network
from hemascope.models import model_folder
from hemascope.run import Run
from hemascope.trust.appearance import appearance
from hemascope.trust.drift import compare_numbers, drift_sentences
from hemascope.trust.fingerprint import DISTANCE as ALLOWED
from hemascope.trust.fingerprint import Fingerprint, fingerprint, known_rows, known_sentence
from hemascope.trust.reference import DISTANCE, Reference, describe, fit_reference
from hemascope.trust.slices import slice_sentences, slices

Figures = dict[str, Any]
Numbers = dict[str, NDArray[np.float64]]

FITTED, SPOILT = 4000, 300
BATCHES, SIZES = 300, (100, 200, 500)
SPOILT_BATCHES = 25
SEED = 11
STAIN = "stain_transfer"


class Answered:
    """Pictures with what the model says of them."""

    def __init__(self, network: Any, images: Images, labels: NDArray[np.int64]) -> None:
        self.images, self.labels = images, labels
        places, answers = [], []
        with torch.inference_mode():
            for start in range(0, len(images), 64):
                part = np.ascontiguousarray(images[start : start + 64].transpose(0, 3, 1, 2))
                places.append(network.embedding(torch.from_numpy(part)))
                answers.append(network.head(places[-1]).argmax(1))
        self.embeddings = torch.cat(places).numpy().astype(np.float64)
        self.predicted = torch.cat(answers).numpy().astype(np.int64)

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())


def of_one_laboratory(which: int, count: int) -> NDArray[np.int64]:
    """Row numbers for which the corruption `stain_transfer` draws the same one of its four laboratories."""
    drawn = Draw(SEED, 0, f"corrupt:{STAIN}").uniform(np.arange(40 * count), "laboratory")[:, 0]
    return np.flatnonzero((drawn * 4).astype(int) == which)[:count]


def gains(*factors: float) -> Callable[[Images], Images]:
    return lambda images: np.clip(images * np.array(factors) + 0.5, 0, 255).astype(np.uint8)


def rescaled(factor: float) -> Callable[[Images], Images]:
    """Another magnification: more of the slide, mirrored at its edges, or less of it."""

    def zoom(image: Images) -> Images:
        side = len(image)
        other = round(side * factor)
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        found = cv2.resize(image, (other, other), interpolation=way)
        margin = (side - other) // 2
        if factor < 1:
            rest = side - other - margin
            return np.asarray(cv2.copyMakeBorder(found, margin, rest, margin, rest, cv2.BORDER_REFLECT), np.uint8)
        return np.asarray(found[-margin : side - margin, -margin : side - margin], np.uint8)

    return lambda images: np.stack([zoom(image) for image in images])


def family(name: str, severity: int, laboratory: int | None = None) -> Callable[[Images], Images]:
    def spoil(images: Images) -> Images:
        rows = np.arange(len(images)) if laboratory is None else of_one_laboratory(laboratory, len(images))
        return corrupt(images, name, severity, seed=SEED, rows=rows)

    return spoil


def noisy(images: Images) -> Images:
    noise = np.random.default_rng(SEED).normal(0, 6, images.shape)
    return np.clip(images + noise + 0.5, 0, 255).astype(np.uint8)


def recompressed(quality: int) -> Callable[[Images], Images]:
    def code(image: Images) -> Images:
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]

    return lambda images: np.stack([code(image) for image in images])


def resized(side: int) -> Callable[[Images], Images]:
    return lambda images: np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in images])


SPOILING: Mapping[str, tuple[Callable[[Images], Images], frozenset[str]]] = {
    **{
        f"stain of laboratory {which}": (
            family(STAIN, 3, which),
            frozenset({"background_blueness", "cell_blueness", "cell_density", "saturation"}),
        )
        for which in range(4)
    },
    "stains of four laboratories": (family(STAIN, 3), frozenset({"background_blueness", "cell_blueness"})),
    "warmer white balance": (gains(1.03, 1, 0.95), frozenset({"background_blueness"})),
    "cooler white balance": (gains(0.96, 1, 1.04), frozenset({"background_blueness"})),
    "darker": (family("brightness_down", 1), frozenset({"background_lightness", "brightness"})),
    "scale 0.6": (rescaled(0.6), frozenset({"cell_diameter"})),
    "scale 0.8": (rescaled(0.8), frozenset({"cell_diameter"})),
    "scale 1.25": (rescaled(1.25), frozenset({"cell_diameter"})),
    "blur": (family("defocus_blur", 2), frozenset({"sharpness"})),
    "JPEG, quality 75": (recompressed(75), frozenset({"blocks"})),
    "JPEG, quality 30": (family("jpeg", 2), frozenset({"blocks"})),
    "noise": (noisy, frozenset({"noise"})),
}
"""What is done to test rows -> how, and the numbers by which it must be named."""


def taken(numbers: Numbers, rows: NDArray[np.int64]) -> Numbers:
    return {name: values[rows] for name, values in numbers.items()}


def alarms(reference: Reference, numbers: Numbers, answers: NDArray[np.int64]) -> Figures:
    """How often batches of the same laboratory make a sentence, and how often another mix of classes a wrong one."""
    rng = np.random.default_rng(SEED)
    found: Figures = {"random": {}, "other_mix": {"batches": 0, "told": 0, "wrong": 0}}
    for size in SIZES:
        told = 0
        for _ in range(BATCHES):
            rows = rng.choice(len(answers), size, replace=False)
            told += bool(drift_sentences(compare_numbers(reference, taken(numbers, rows), answers[rows])))
        found["random"][str(size)] = told / BATCHES
        print(f"  batches of {size}: {told} of {BATCHES} make a sentence")
    mixed = found["other_mix"]
    for place in range(len(reference.class_names)):
        weights = np.where(answers == place, 8.0, 1.0)
        for _ in range(SPOILT_BATCHES):
            rows = rng.choice(len(answers), 150, replace=False, p=weights / weights.sum())
            table = compare_numbers(reference, taken(numbers, rows), answers[rows])
            names = table.loc[table["drifted"], "name"]
            of_classes = names.str.startswith("share of ")
            mixed["batches"] += 1
            mixed["told"] += f"share of {reference.class_names[place]}" in set(names)
            mixed["wrong"] += bool((~of_classes).any())
    print(f"  another mix: {mixed}")
    return found


def detection(reference: Reference, network: Any, images: Images, labels: NDArray[np.int64]) -> Figures:
    """How often spoilt batches are called drifted, and named rightly."""
    rng, found = np.random.default_rng(SEED), {}
    for name, (spoil, expected) in SPOILING.items():
        spoilt = Answered(network, spoil(images), labels)
        numbers = describe(reference, spoilt.images, spoilt.embeddings, spoilt.predicted)
        line: Figures = {"accuracy": spoilt.accuracy}
        for size in (50, 100):
            told = named = 0
            for _ in range(SPOILT_BATCHES):
                rows = rng.choice(len(labels), size, replace=False)
                table = compare_numbers(reference, taken(numbers, rows), spoilt.predicted[rows])
                drifted = set(table.loc[table["drifted"], "name"])
                told += any(not each.startswith("share of ") for each in drifted)
                named += bool(drifted & expected)
            line |= {f"told_{size}": told / SPOILT_BATCHES, f"named_{size}": named / SPOILT_BATCHES}
        line["sentences"] = drift_sentences(compare_numbers(reference, numbers, spoilt.predicted))
        found[name] = line
        print(
            f"  {name}: told {line['told_100']:.2f}, named {line['named_100']:.2f}: {'; '.join(line['sentences'][:3])}"
        )
    return found


def under_corruption(reference: Reference, network: Any, images: Images, labels: NDArray[np.int64]) -> Figures:
    """The slices of pictures each of which went through one of the families that no recipe trains on."""
    rows = np.arange(len(images))
    done = np.array(HELD_OUT)[np.random.default_rng(SEED).permutation(rows) % len(HELD_OUT)]
    spoilt = images.copy()
    for name in HELD_OUT:
        own = done == name
        spoilt[own] = corrupt(images[own], name, 5, seed=SEED, rows=rows[own])
    answered = Answered(network, spoilt, labels)
    table = slices(labels, answered.predicted, reference.class_names, appearance(spoilt), corruption=done)
    found = {"rows": len(rows), "accuracy": answered.accuracy, "slices": len(table), "worse": int(table["worse"].sum())}
    return {**found, "sentences": slice_sentences(table)}


def searched(reference: Reference, answered: Answered, numbers: Numbers) -> Figures:
    """The slices of clean rows; how often chance alone makes one; how often a planted one is found."""
    rng, names = np.random.default_rng(SEED), reference.class_names
    started = time.perf_counter()
    table = slices(answered.labels, answered.predicted, names, numbers)
    found: Figures = {"rows": len(answered.labels), "slices": len(table), "seconds": time.perf_counter() - started}
    found["sentences"] = slice_sentences(table)
    wrong = answered.predicted != answered.labels
    chance = planted = 0
    for draw in range(100):
        shuffled = np.where(rng.permutation(wrong), (answered.labels + 1) % len(names), answered.labels)
        told = slices(answered.labels, shuffled, names, numbers)
        # Errors at random do make one answer less often right than another, where classes are of different size.
        chance += bool((told["worse"] & ~told["by"].str.startswith("called ")).any())
        place = draw % len(names)
        own = np.flatnonzero(answered.labels == place)
        dark = own[numbers["brightness"][own] < np.quantile(numbers["brightness"][own], 0.25)]
        spoilt = answered.predicted.copy()
        fallen = dark[rng.random(len(dark)) < 0.15]
        spoilt[fallen] = (place + 1) % len(names)
        told = slices(answered.labels, spoilt, names, numbers)
        planted += bool(((told["class_name"] == names[place]) & told["worse"]).any())
    found |= {"chance_alone": chance / 100, "planted_found": planted / 100}
    print(f"  {found}")
    return found


def fingerprints(training: Images, own: NDArray[np.uint64], public: Images, theirs: NDArray[np.uint64]) -> Figures:
    """False matches among all pairs of training rows and against the public test; copies found; time and size."""
    started = time.perf_counter()
    trained = Fingerprint(fingerprint(training))
    found: Figures = {"rows": len(training), "seconds": time.perf_counter() - started}
    found["characters"] = len(json.dumps(trained.as_json()))
    pairs = np.zeros(65, np.int64)
    for row in range(len(trained) - 1):
        pairs += np.bincount(np.bitwise_count(trained.hashes[row + 1 :] ^ trained.hashes[row]), minlength=65)
    found["training_pairs"] = {"all": int(pairs.sum()), "up_to": np.cumsum(pairs[:13]).tolist()}
    started = time.perf_counter()
    known = known_rows(trained, public)
    found["public"] = {
        "rows": len(public),
        "seconds": time.perf_counter() - started,
        "known": int(known.known.sum()),
        "leaks": int(np.isin(theirs, own).sum()),
        "same": bool(np.array_equal(known.known, np.isin(theirs, own))),
        "nearest_other": int(known.distance[~known.known].min()),
    }
    some = np.sort(np.random.default_rng(SEED).permutation(len(training))[:2000])
    found["copies"] = {}
    changes = {f"JPEG {quality}": recompressed(quality) for quality in (90, 50, 20)}
    changes |= {f"{side} pixels": resized(side) for side in (28, 64, 88, 120)}
    for name, change in changes.items():
        copies = known_rows(trained, change(training[some]))
        right = copies.known & (copies.nearest == some)
        found["copies"][name] = {"found": float(right.mean()), "furthest": int(copies.distance.max())}
    print(f"  {found}")
    return found


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    torch.set_num_threads(1)
    folder = model_folder("small")
    network, names, _ = load_network(Run(folder))
    network.eval()
    table = pd.read_csv(folder / "split.csv", dtype={"pixel_hash": np.uint64})
    with tempfile.TemporaryDirectory() as temporary:
        make_challenge(Path(temporary) / "challenge")
        training = load(Path(temporary) / "challenge" / "training_set.npz")
        public = load(Path(temporary) / "challenge" / "public_test.npz")
        place = {name: row for row, name in enumerate(training.ids.tolist())}
        rows = np.array([place[name] for name in table["id"]])
        images, labels = np.asarray(training.images[rows]), training.labels[rows]
        new_images, new_labels, theirs = np.asarray(public.images[:]), public.labels, pixel_hashes(public)
    own, split = table["pixel_hash"].to_numpy(np.uint64), table["split"].to_numpy(str)
    made = np.isin(split, ("train", "validation", "calibration"))
    figures: Figures = {}

    print("fingerprints of all that made the model", flush=True)
    figures["fingerprint"] = fingerprints(images[made], own[made], new_images, theirs)
    seen = np.isin(theirs, own[made])

    rng = np.random.default_rng(SEED)
    fitted = np.sort(rng.permutation(np.flatnonzero(np.isin(split, ("train", "validation"))))[:FITTED])
    learnt = Answered(network, images[fitted], labels[fitted])
    held_out = Answered(network, images[split == "calibration"], labels[split == "calibration"])
    started = time.perf_counter()
    reference = fit_reference(
        learnt.images,
        learnt.labels,
        names,
        held_out_answers=held_out.predicted,
        embeddings=learnt.embeddings,
        held_out_embeddings=held_out.embeddings,
    )
    seconds = time.perf_counter() - started
    print(f"reference of {FITTED} pictures in {seconds:.1f} s", flush=True)
    figures["reference"] = {
        "pictures": FITTED,
        "seconds": seconds,
        "characters": len(json.dumps(reference.as_json())),
    }

    print("false alarms: test rows and the public test", flush=True)
    tested = Answered(
        network,
        np.concatenate([images[split == "test"], new_images[~seen]]),
        np.concatenate([labels[split == "test"], new_labels[~seen]]),
    )
    started = time.perf_counter()
    numbers = describe(reference, tested.images, tested.embeddings, tested.predicted)
    figures["milliseconds_a_picture"] = 1000 * (time.perf_counter() - started) / len(tested.images)
    figures["false_alarms"] = alarms(reference, numbers, tested.predicted)
    figures["whole"] = drift_sentences(compare_numbers(reference, numbers, tested.predicted))

    print("slices of the same rows", flush=True)
    figures["slices"] = searched(reference, tested, {name: numbers[name] for name in numbers if name != DISTANCE})

    print("detection: test rows, spoilt", flush=True)
    some = rng.permutation(np.flatnonzero(split == "test"))[:SPOILT]
    figures["detection"] = detection(reference, network, images[some], labels[some])

    print("slices under the strongest corruptions, one for each picture", flush=True)
    figures["spoilt_slices"] = under_corruption(reference, network, tested.images, tested.labels)
    print("  " + "\n  ".join(figures["spoilt_slices"]["sentences"]))

    known = known_rows(Fingerprint(fingerprint(images[made])), new_images).known
    right = np.empty(len(new_images), bool)
    right[~seen] = (tested.predicted == tested.labels)[int((split == "test").sum()) :]
    leaked = Answered(network, new_images[seen], new_labels[seen])
    right[seen] = leaked.predicted == leaked.labels
    figures["in_words"] = known_sentence(known, right)
    print(f"{figures['in_words']} (up to {ALLOWED} signs)")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
