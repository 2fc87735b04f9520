"""Do the heat maps of `small` show what it looks at? Deletion and insertion on the public test, and sheets to look at.

Cells are drawn from the rows of public_test.npz whose pixels did not train the model, as many of each class. Their maps
are compared with random ones as coarse, and with two that know something without looking at the answer: a disc about
the centre, and the map of another cell. Which maps are added was chosen on validation rows. Then a sheet for two cells
of each class that the model names rightly, and for those that it names wrongly, into runs/trust_explain/sheets. Data
are sought in ../shared beside the checkout. Takes two minutes on a core that is free. The last line printed is one
line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from challenge import SHARED, make_challenge
from hemascope import figures
from hemascope.data import Cells, load, pixel_hashes
from hemascope.ensemble import load_network
from hemascope.evaluate import seen_rows
from hemascope.explain import background_colours, cell_mask, faithfulness, known_cells, load_known_cells, occlusion
from hemascope.explain.faithfulness import curves, less
from hemascope.explain.neighbours import FILE, KnownCells, distance
from hemascope.figures.explained import Neighbour
from hemascope.heatmap import Explained, Explanation
from hemascope.models import model_folder
from hemascope.run import Run
from hemascope.runtime import Model, load_model, training_hashes

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "trust_explain"
PER_CLASS, DRAWS, STEPS = 25, 2, 16
SHEETS_PER_CLASS = 2
BATCH = 64


def explained(network: Explained, images: NDArray[np.uint8]) -> Explanation:
    parts = [
        network(torch.from_numpy(images[at : at + BATCH]).permute(0, 3, 1, 2)) for at in range(0, len(images), BATCH)
    ]
    return Explanation(*(torch.cat(values) for values in zip(*parts, strict=True)))


def table_of_training_cells(network: torch.nn.Module) -> KnownCells:
    """The training rows of the model, embedded, as a run folder would hold them."""
    path = FOLDER / FILE
    if not path.is_file():
        cells = load(FOLDER / "data" / "training_set.npz")
        split = pd.read_csv(model_folder("small") / "split.csv", keep_default_na=False)
        cells = cells.take(np.isin(cells.ids, split.loc[split["split"] == "train", "id"].to_numpy(str)))
        with torch.inference_mode():
            found = [
                network.embedding(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()  # type: ignore[operator]
                for _, images in cells.batches(256)
            ]
        known_cells(np.concatenate(found), cells.labels, cells.ids, cells.class_names).save(path)
    return load_known_cells(path)


def measured(model: Model, network: Explained, test: Cells) -> dict[str, Any]:
    """Deletion, insertion and the heat inside the cell, of the same number of cells of each class."""
    rng = np.random.default_rng(0)
    rows = [
        rng.choice(own, min(PER_CLASS, len(own)), replace=False)
        for own in (np.flatnonzero(test.labels == label) for label in range(len(test.class_names)))
    ]
    images = np.asarray(test.images[np.sort(np.concatenate(rows))])
    maps = explained(network, images).heatmap.numpy()
    found = faithfulness(model, images, maps, STEPS, seed=0, draws=DRAWS)
    own = curves(model, images, maps, STEPS, np.random.default_rng(0)).mean(2)
    away = np.hypot(*(np.indices(images.shape[1:3]) - (images.shape[1] - 1) / 2))
    others = {
        "centre": np.broadcast_to(away.max() - away, maps.shape),
        "another_cell": maps[np.roll(np.random.default_rng(1).permutation(len(maps)), 1)],
    }
    controls = {}
    for name, other in others.items():
        areas = curves(model, images, other, STEPS, np.random.default_rng(0)).mean(2)
        controls[name] = {
            "deletion": round(float(areas[0].mean()), 4),
            "insertion": round(float(areas[1].mean()), 4),
            "deletion_p": less(own[0], areas[0]),
            "insertion_p": less(areas[1], own[1]),
        }
    masks = cell_mask(images)
    blank = np.where(masks[..., None], background_colours(images)[:, None, None], images)
    stays = model.predict(blank).argmax(1) == model.predict(images).argmax(1)
    return {
        **found.as_json(),
        "answer_stays_without_cell": round(float(stays[masks.any((1, 2))].mean()), 4),
        "controls": controls,
    }


def draw_sheets(model: Model, network: Explained, known: KnownCells, test: Cells) -> dict[str, Any]:
    """A sheet for some cells of each class, rightly and wrongly named; how often covering changed the answer."""
    training = load(FOLDER / "data" / "training_set.npz")
    row_of = {name: row for row, name in enumerate(training.ids.tolist())}
    named = model.predict(np.asarray(test.images[:])).argmax(1)
    changed, shares, drawn = 0, [], 0
    for label, name in enumerate(test.class_names):
        own = np.random.default_rng([2, label]).permutation(np.flatnonzero(test.labels == label))
        for right in (True, False):
            for row in own[(named[own] == label) == right][:SHEETS_PER_CLASS]:
                image = np.asarray(test.images[int(row)])
                found = explained(network, image[None])
                covered = occlusion(model, image)
                rows, labels, cosine = (part[0] for part in known.nearest(found.embedding.numpy(), 6))
                pictures = [np.asarray(training.images[row_of[one]]) for one in known.ids[rows].tolist()]
                names = [known.class_names[each] for each in labels.tolist()]
                figures.explanation(
                    FOLDER / "sheets" / f"{name.replace(' ', '-')}-{'right' if right else 'wrong'}-{row}.png",
                    image,
                    found.heatmap[0].numpy(),
                    title=f"{covered.answer}, {covered.confidence:.0%} sure",
                    label=name,
                    fall=covered.fall,
                    covered=covered.covered,
                    neighbours=[
                        Neighbour(*one)
                        for one in zip(names, map(distance, cosine), known.ids[rows].tolist(), pictures, strict=True)
                    ],
                    sentences=[covered.sentence, known.sentence(labels, cosine)],
                )
                drawn += 1
                changed += covered.changed_to is not None
                if covered.changed_to is not None:
                    shares.append(float(covered.covered.mean()))
    return {"sheets": drawn, "changed_by_covering": changed, "share_covered_median": round(float(np.median(shares)), 4)}


def main() -> int:
    if not SHARED.is_dir():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    torch.set_num_threads(1)
    start = time.perf_counter()
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_challenge(FOLDER / "data")
    test = load(FOLDER / "data" / "public_test.npz")
    test = test.take(~seen_rows(pixel_hashes(test), training_hashes("small"), test.source))
    plain = load_network(Run(model_folder("small")))[0]
    network, model = Explained(plain), load_model("small")
    test = test.with_classes(model.class_names)
    known = table_of_training_cells(plain)
    table = {"training_cells": len(known.ids), "megabytes": round((FOLDER / FILE).stat().st_size / 1e6, 2)}
    print(f"{len(test):,} test rows; {table['training_cells']:,} training cells in {table['megabytes']} MB", flush=True)
    figures_of = measured(model, network, test)
    for name in ("deletion", "insertion"):
        better = "less" if name == "deletion" else "more"
        print(
            f"{name}: {figures_of[name]:.3f}, random {figures_of[f'random_{name}']:.3f} ({better} is better, "
            f"p {figures_of[f'{name}_p']:.1g}); "
            + "; ".join(f"{at.replace('_', ' ')} {one[name]:.3f}" for at, one in figures_of["controls"].items()),
            flush=True,
        )
    print(f"heat on the cell: {figures_of['heat_inside']:.3f}; its share of the picture {figures_of['mask_share']:.3f}")
    print(
        f"with all of the cell covered the answer stays in {figures_of['answer_stays_without_cell']:.1%} of the cells"
    )
    sheets = draw_sheets(model, network, known, test)
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"test_rows": len(test), **table, **figures_of, **sheets, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
