"""What `small` says of rows that did not train it, clean and degraded: logits and embeddings, kept on disk.

The other benches of trust read them from here. Data are sought in ../shared beside the checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from challenge import make_challenge
from hemascope.corrupt import HELD_OUT, MEDMNIST_C
from hemascope.data import Cells, Images, load, pixel_hashes
from hemascope.ensemble import load_network
from hemascope.evaluate import seen_rows
from hemascope.files import replacing
from hemascope.models import model_folder
from hemascope.run import Run
from hemascope.runtime import training_hashes
from hemascope.stress import seed_for
from hemascope.trust import CLEAN, Degradation, degradations
from hemascope.trust.degradations import MIXES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "runs" / "trust-calibration"
CHALLENGE = ROOT / "runs" / "challenge"
MODEL = "small"
ROWS, TEST_ROWS = 240, 480
"""In each batch that is degraded throughout, drawn anew for each."""
HALVES = (MEDMNIST_C[::2], MEDMNIST_C[1::2])
"""An estimate is fitted on one half of the families and compared on the other, both ways."""
BATCH = 64


class Batch(NamedTuple):
    """What the network says of some rows of a part under one degradation."""

    title: str
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]


class Part(NamedTuple):
    """Some cells, and the number of each, which decides how it is corrupted: the stress test's own."""

    cells: Cells
    numbers: NDArray[np.int64]


def parts() -> dict[str, Part]:
    """The rows that the model did not learn from: calibration, validation, test, and those of the public test."""
    make_challenge(CHALLENGE)
    folder = model_folder(MODEL)
    split = pd.read_csv(folder / "split.csv", dtype={"pixel_hash": np.uint64}, keep_default_na=False)
    cells = load(CHALLENGE / "training_set.npz")
    place = {name: row for row, name in enumerate(cells.ids.tolist())}
    found = {}
    for part in ("calibration", "validation", "test"):
        rows = np.array([place[name] for name in split.loc[split["split"] == part, "id"]])
        found[part] = Part(cells.take(rows), np.arange(len(rows)))
    public = load(CHALLENGE / "public_test.npz")
    seen = seen_rows(pixel_hashes(public), training_hashes(MODEL), "public_test.npz")
    kept = np.flatnonzero(~seen)
    found["public"] = Part(public.take(kept), kept)
    return found


def shown_under(part: str) -> list[tuple[Degradation, int]]:
    """What each part is shown under, and the most rows: 0 for all of them."""
    if part == "public":
        return [(each, 0) for each in (CLEAN, *mixes(*MIXES, "hidden-unseen"))]
    if part == "test":
        return [
            *((each, 0) for each in (CLEAN, *mixes("hidden-unseen"))),
            *((each, TEST_ROWS) for each in degradations(HELD_OUT)),
        ]
    whole = [(each, 0) for each in (CLEAN, *mixes(*MIXES))]
    return [*whole, *((each, ROWS) for half in HALVES for each in degradations(half))]


def mixes(*names: str) -> list[Degradation]:
    return [Degradation(((name, 0),)) for name in names]


def shown(whole: Part, part: str) -> list[Batch]:
    """The network's answers for a part under all its degradations; kept on disk, as they take minutes."""
    file = FOLDER / f"{part}.npz"
    if not file.is_file():
        network, names, _ = load_network(Run(model_folder(MODEL)))
        cells = whole.cells.with_classes(names)
        seed = seed_for("evaluation" if part == "public" else part)
        kept: dict[str, Any] = {}
        for degradation, most in shown_under(part):
            rows = degradation.rows(len(cells), most or len(cells), seed)
            images = degradation.applied(np.asarray(cells.images[rows]), seed=seed, rows=whole.numbers[rows])
            logits, embedding = answers(network, images)
            title = degradation.title
            kept |= {f"{title}/rows": rows, f"{title}/labels": cells.labels[rows]}
            kept |= {f"{title}/logits": logits, f"{title}/embedding": embedding}
            print(f"{part}: {title}", file=sys.stderr, flush=True)
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **kept)
    with np.load(file) as held:
        titles = [key.rpartition("/")[0] for key in held.files if key.endswith("/rows")]
        return [Batch(title, *(held[f"{title}/{field}"] for field in Batch._fields[1:])) for title in titles]


def answers(network: Any, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (n, classes) and embedding (n, d) of uint8 (n, height, width, 3)."""
    logits, embeddings = [], []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            pictures = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])).permute(0, 3, 1, 2)
            embedding = network.embedding(pictures)
            embeddings.append(embedding.numpy())
            logits.append(network.head(embedding).numpy())
    return np.concatenate(logits), np.concatenate(embeddings)


def shown_parts() -> dict[str, list[Batch]]:
    """The network's answers for every part; in FOLDER, so that the second time takes a second."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    return {part: shown(whole, part) for part, whole in parts().items()}


def by_title(batches: Sequence[Batch]) -> dict[str, Batch]:
    return {batch.title: batch for batch in batches}
