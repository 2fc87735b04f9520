"""A model fitted again to another laboratory, written as a run folder like any other, if it is better."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hemascope.card import write_model_card
from hemascope.data import NO_GROUPS_NOTE, Cells, pixel_hashes
from hemascope.errors import InputError
from hemascope.evaluate import check_labels, score
from hemascope.files import new_folder, replacing, write_json, write_text
from hemascope.models import folder_of
from hemascope.progress import Say
from hemascope.refit.head import LEAST, Fitted, Head, fit
from hemascope.run import Run, command_line, versions, write_environment, write_table
from hemascope.run import fingerprint as data_fingerprint
from hemascope.runtime import PURPOSE, Model, load_model
from hemascope.trust.calibration import Calibration, fit_calibration
from hemascope.trust.fingerprint import Fingerprint, fingerprint
from hemascope.trust.fitted import Trust
from hemascope.trust.outliers import OutlierThreshold
from hemascope.version import __version__
from hemascope.wording import many

FEWEST = 10
FEWEST_OF_NEW = 5
"""With fewer of a class that the model does not know, cross-validation cannot tell whether it was learnt."""
MOST = 20_000
"""More pictures than this are better spent on a training."""


def refit(model: str | Path, cells: Cells, out: str | Path, *, seed: int = 0, say: Say = print) -> Run | None:
    """Fit a model again to labelled cells of another laboratory, in seconds; needs no torch.

    model: a run folder, its model.onnx, or the name of one that comes with the package. cells: labelled, 10 or more,
    best some 100 of all classes; classes that the model does not know are learnt, from 5 pictures of each on. Returns
    the run folder, whose model is like any other; or None, and writes nothing, when the refitted model is no better in
    cross-validation than the unchanged one. Raises InputError when the cells are too few, too many, of one class, or
    without labels.
    """
    base, folder = load_model(model), new_folder(Path(out))
    check_labels(cells, cells.source or "cells")
    if not FEWEST <= len(cells) <= MOST:
        raise InputError(
            f"{cells.source}: holds {many(len(cells), 'labelled picture')}; a refit takes {FEWEST} to {MOST:,}: label "
            "more, or train on them."
        )
    if len(np.unique(cells.labels)) < 2:
        raise InputError(f"{cells.source}: shows one class only; a refit needs labelled pictures of two or more.")
    new = {name: count for name, count in cells.class_counts().items() if count and name not in base.class_names}
    if few := [name for name, count in new.items() if count < FEWEST_OF_NEW]:
        raise InputError(
            f"{cells.source}: has {new[few[0]]} of {few[0]}, which the model does not know; to learn a class takes "
            f"{FEWEST_OF_NEW} pictures of it or more: label more, or leave them out."
        )
    found = fit(base, cells, seed)
    say(found.sentence())
    for name, count in new.items():
        say(f"new to the model: {name}, {found.right_of(name)} of {count:,} found in cross-validation")
    changes = [f"field of view {found.front.field:g}"] if found.front.field != 1 else []
    changes += ["colours matched"] if found.front.colours is not None else []
    say(f"before the network: {', '.join(changes) or 'nothing changed'}; penalty {found.penalty:g}")
    if not found.better:
        say("the refitted model is no better: nothing was written, go on with the unchanged one")
        return None
    run = Run(folder)
    temperature = fit_calibration(found.logits, found.labels, np.ones(found.logits.shape[1])).temperature
    trust = _trust(base, found, cells, temperature)
    _write_model(base, found, trust, temperature, run)
    _write_run(model, base, found, trust, cells, run, seed)
    say(f"card: {run.card}")
    say(f"written: {run.folder}")
    return run


def _trust(base: Model, found: Fitted, cells: Cells, temperature: float) -> Trust:
    """When the refitted model should be believed, as far as so few pictures tell."""
    counts = np.bincount(found.labels, minlength=len(found.class_names))
    calibration = Calibration(0.0, None, temperature, tuple((counts / counts.sum()).tolist()))
    probabilities = calibration.probabilities(found.logits)
    images = np.asarray(cells.images[:])
    new, before = fingerprint(images), base.trust
    outliers = None if before is None else before.outliers
    notes = ["The model was fitted again to few pictures: its thresholds are wide, and drift and sets are not told."]
    if outliers is not None:
        scores = base.answers(np.ascontiguousarray(found.front(images))).outlier_score
        try:
            own = OutlierThreshold.fit(scores, outliers.kept)
            outliers = own if own.value > outliers.value else outliers
        except InputError as error:
            notes.append(f"the outlier threshold is that of the unchanged model: {error}")
    known = before.fingerprint.hashes if before is not None and before.fingerprint is not None else new[:0]
    return Trust(
        calibration=calibration,
        sets=None,
        outliers=outliers,
        confidence=probabilities.max(1),
        correct=probabilities.argmax(1) == found.labels,
        fingerprint=Fingerprint(np.concatenate([known, new])),
        notes=tuple(notes),
    )


def _write_model(base: Model, found: Fitted, trust: Trust, temperature: float, run: Run) -> None:
    import onnx

    from hemascope.export.on_request import without_heatmap
    from hemascope.front import with_front
    from hemascope.tail import with_head

    head = Head(found.head.own / temperature, found.head.weights / temperature, found.head.bias / temperature)
    # The gradients would be those of the former head.
    behind = with_front(without_heatmap(onnx.load(base.path)), found.front)
    model = with_head(behind, head.own, head.weights, head.bias, LEAST)
    stated = base.metadata | {
        "class_names": json.dumps(list(found.class_names)),
        "version": __version__,
        "versions": json.dumps(versions()),
        "purpose": PURPOSE,
        "trust": json.dumps(trust.as_json()),
        "refit": json.dumps({"rows": len(found.labels), "field": found.front.field, "penalty": found.penalty}),
    }
    onnx.helper.set_model_props(model, stated)
    with replacing(run.model / "model.onnx") as temporary:
        onnx.save(model, temporary)
        Model(temporary)


def _write_run(model: str | Path, base: Model, found: Fitted, trust: Trust, cells: Cells, run: Run, seed: int) -> None:
    """What makes the folder a run: the rows, the scores in cross-validation, where the model came from, its card."""
    names, before = found.class_names, folder_of(base.path)
    named = replace(cells, labels=found.labels.astype(np.int64), class_names=names)
    rows = pd.DataFrame(
        {
            "id": cells.ids,
            "label": np.array(names)[found.labels],
            "split": "train",
            "group": "" if cells.groups is None else cells.groups,
            "pixel_hash": pixel_hashes(named),
        }
    )
    if (before / "split.csv").is_file():
        old = pd.read_csv(before / "split.csv", dtype={"pixel_hash": np.uint64, "id": str}, keep_default_na=False)
        rows = pd.concat([old, rows], ignore_index=True)
    write_table(run.split, rows)
    config: dict[str, Any] = {}
    if (before / "config.yaml").is_file():
        config = yaml.safe_load((before / "config.yaml").read_text(encoding="utf-8"))
    shown = {name: count for name, count in named.class_counts().items() if count}
    data: dict[str, Any] = {"source": cells.source, "rows": len(cells), "classes": shown}
    data["fingerprint"] = data_fingerprint(named, pixel_hashes(named))
    step = {"model": str(model), "data": data, "seed": seed, "version": __version__, "command": command_line()}
    write_text(
        run.config,
        yaml.safe_dump(config | {"refits": [*config.get("refits", []), step]}, sort_keys=False, allow_unicode=True),
    )
    write_environment(run, "cpu")
    write_json(run.metrics, _metrics(model, base, found, trust, cells, seed))
    write_json(run.model / "model.json", {"class_names": list(names), "refitted_from": str(model), "purpose": PURPOSE})
    write_model_card(run)


def _metrics(model: str | Path, base: Model, found: Fitted, trust: Trust, cells: Cells, seed: int) -> dict[str, Any]:
    """What was measured, all of it on pictures that each fit had not seen; but the temperature is that of all."""
    probabilities = trust.calibration.probabilities(found.logits)
    notes = [note for note in (*cells.notes, *trust.notes) if note != NO_GROUPS_NOTE]
    if cells.groups is not None:
        notes.append("One patient may stand on both sides of a fold, so that cross-validation may flatter the refit.")
    rule = trust.usual_rule
    told = (
        f"Answering only from a confidence of {rule.threshold:.3f} on: {rule.mistakes:,} of {rule.answered:,} answers "
        f"wrong, {rule.answered:,} of {rule.rows:,} pictures answered; at most {rule.max_error:.0%} wrong was asked."
        if rule is not None
        else "No threshold of confidence could be proved to leave at most 20% of the answers wrong."
    )
    return {
        "recipe": base.metadata.get("recipe", str(model)),
        "notes": notes,
        "grouped": False,
        "cross_validated": score(probabilities, found.labels, found.class_names, seed=seed),
        "refit": {
            "sentence": found.sentence(),
            "unchanged_right": found.unchanged,
            "refitted_right": found.refitted,
            "mcnemar_p": found.test.p,
            "field": found.front.field,
            "colours_matched": found.front.colours is not None,
            "penalty": found.penalty,
        },
        "trust": {
            "calibration": {"temperature": trust.calibration.temperature},
            "rejection": {"sentence": told},
        },
    }
