"""What a differential count adds to the answers of `small`, and what a wrong one costs.

The public test's cells, less those that made the model, are weighed so that the classes have the shares of a count: the
accuracy and the log loss there, of the answers as they are and restated for it (`hemascope predict --prior`), clean and
under two mixes of the stress test. Then those cells at the shares of training are restated for the count of a healthy
adult, which is not theirs. It reports; nothing is chosen. Takes a minute on one free core. Data are sought in ../shared
beside the checkout. The last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from challenge import SHARED, make_challenge
from hemascope.corrupt import compose
from hemascope.data import load, pixel_hashes
from hemascope.evaluate import seen_rows
from hemascope.runtime import load_model, training_hashes
from hemascope.stress import seed_for
from hemascope.trust.prior import prior_shares, restate

CHALLENGE = Path(__file__).resolve().parents[1] / "runs" / "challenge"
MODEL = "small"
CONDITIONS = ("clean", "hidden", "hidden-unseen")
HEALTHY = {"neutrophil": 60.0, "lymphocyte": 30.0, "monocyte": 6.0, "eosinophil": 3.0, "basophil": 1.0}
BATCH = 256

Floats = NDArray[np.float64]


def measured(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64], shares: Floats) -> dict[str, float]:
    """Accuracy and log loss where the classes have these shares."""
    counts = np.bincount(labels, minlength=len(shares))
    weights = (shares / np.maximum(counts, 1))[labels]
    weights /= weights.sum()
    right = probabilities.argmax(1) == labels
    loss = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
    return {"accuracy": round(float(weights @ right), 4), "log_loss": round(float(weights @ loss), 4)}


def main() -> int:
    if not SHARED.is_dir() and not (CHALLENGE / "public_test.npz").is_file():
        print(f"The data are not there: {SHARED} is missing; put the folder there.")
        return 2
    CHALLENGE.parent.mkdir(exist_ok=True)
    make_challenge(CHALLENGE)
    model = load_model(MODEL)
    assert model.trust is not None
    calibration = model.trust.calibration
    cells = load(CHALLENGE / "public_test.npz").with_classes(model.class_names)
    cells = cells.take(~seen_rows(pixel_hashes(cells), training_hashes(MODEL), cells.source))
    images, rows = np.asarray(cells.images[:]), np.arange(len(cells), dtype=np.int64)
    trained = np.array(calibration.class_prior)
    healthy = prior_shares(model.class_names, HEALTHY)
    found: dict[str, Any] = {"rows": len(cells), "count": HEALTHY}
    print(f"{len(cells):,} cells")
    for name in CONDITIONS:
        shown = images if name == "clean" else compose(images, name, seed=seed_for("test"), rows=rows)
        parts = [model.predict(shown[at : at + BATCH]) for at in range(0, len(shown), BATCH)]
        plain = np.concatenate(parts)
        told, excluded = restate(calibration, plain, healthy)
        found[name] = {
            "at_the_count": {
                "as_they_are": measured(plain, cells.labels, healthy),
                "restated": measured(told, cells.labels, healthy),
            },
            "at_the_shares_of_training": {
                "as_they_are": measured(plain, cells.labels, trained),
                "restated_for_a_count_that_is_not_theirs": measured(told, cells.labels, trained),
                "of_the_excluded_classes_told": round(float((excluded > 0.5)[healthy[cells.labels] == 0].mean()), 4),
            },
        }
        for where, lines in found[name].items():
            print(f"{name}, {where.replace('_', ' ')}: {json.dumps(lines)}", flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
