from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from hemascope.card import SHIPPED_WORDS, made_from_shipped_pictures, model_card, write_model_card
from hemascope.errors import InputError
from hemascope.models import model_folder
from hemascope.run import Run

SMALL = model_folder("small")


def facts() -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    config = yaml.safe_load((SMALL / "config.yaml").read_text(encoding="utf-8"))
    metrics = json.loads((SMALL / "metrics.json").read_text(encoding="utf-8"))
    return config, metrics, pd.read_csv(SMALL / "split.csv", dtype={"pixel_hash": np.uint64})


def test_every_run_has_a_card_of_its_own_figures(finished: Run) -> None:
    card = finished.card.read_text(encoding="utf-8")
    metrics, removed = json.loads(finished.metrics.read_text()), pd.read_csv(finished.removed)
    split = pd.read_csv(finished.split)
    assert card.startswith("# tiny on ")
    assert "not a medical device" in card
    assert f"{metrics['test']['accuracy']:.4f}" in card
    assert f"{metrics['files']['further.npz']['accuracy']:.4f}" in card
    assert f"{metrics['stress']['test']['stress_score']:.4f}" in card
    assert f"Removed in cleaning: {len(removed)}" in card
    parts = [int((split["split"] == part).sum()) for part in ("train", "validation", "calibration", "test")]
    assert "| all | " + " | ".join(map(str, parts)) + " |" in card
    assert "torch " in card
    assert "Seed: 0" in card


def test_drawn_cells_have_an_unknown_population_unless_told(finished: Run, tmp_path: Path) -> None:
    assert "The population is unknown" in finished.card.read_text(encoding="utf-8")
    assert "blasts" not in finished.card.read_text(encoding="utf-8")
    copy = Run(Path(shutil.copytree(finished.folder, tmp_path / "run")))
    card = write_model_card(copy, population="12 adults with leukaemia, one laboratory in Lyon.").read_text()
    assert "It knows this population alone: 12 adults with leukaemia, one laboratory in Lyon. Of" in card
    assert "unknown:" not in card


def test_the_shipped_pictures_are_recognised_and_said_to_be_of_healthy_people() -> None:
    config, metrics, split = facts()
    card = model_card(config, metrics, split)
    assert SHIPPED_WORDS in card
    assert "Acevedo" in card
    assert "hemascope train training_set.npz --recipe small --seed 0" in card
    assert "1,778,728" in card
    assert not made_from_shipped_pictures(split.assign(pixel_hash=np.arange(len(split), dtype=np.uint64)))
    assert not made_from_shipped_pictures(split.drop(columns="pixel_hash"))
    assert not made_from_shipped_pictures(split.iloc[:0])


def test_only_what_was_measured_is_on_the_card() -> None:
    config, metrics, split = facts()
    assert "###" not in model_card(config, metrics, split)
    trust = {
        "calibration": {
            "method": "temperature",
            "temperature": 1.234,
            "sentence": "A confidence of 0.9 is right 9 in 10.",
        },
        "conformal": {"coverage": 0.954, "coverage_interval": [0.94, 0.965], "per_class": {"monocyte": 0.91}},
        "rejection": {},
        "outliers": {"auroc": 0.99, "sentences": ["One picture in 20 is flagged."], "scores": list(range(9))},
    }
    card = model_card(config, {**metrics, "trust": trust}, split)
    for line in (
        "### Calibration",
        "- Temperature: 1.2340",
        "- A confidence of 0.9 is right 9 in 10.",
        "- Coverage interval: 0.9400 to 0.9650",
        "- Per class, monocyte: 0.9100",
        "- One picture in 20 is flagged.",
    ):
        assert line in card.splitlines()
    assert "declines" not in card
    assert "Scores:" not in card
    bare = model_card({}, {"validation": {"n": 5, "accuracy": 0.4}})
    assert "| validation (chose the epoch) | 5 | 0.4000 | undefined |" in bare
    for absent in ("corruption", "Weak classes", "confidence", "Removed"):
        assert absent not in bare


def test_what_trust_measured_on_the_rows_is_told_in_words() -> None:
    config, metrics, split = facts()
    trust = {
        "rejection": {"max_error": 0.01, "here": {"answered": 0.9, "error": 0.005}},
        "sets": {"asked": 0.99, "coverage": 0.985, "interval": [0.97, 0.995], "mean_size": 1.25},
        "accuracy_at_95_percent_answered": 0.9876,
        "strange": 0.06,
        "usual_kept": 0.95,
        "slices": [
            {"slice": "dark pictures", "accuracy": 0.8, "rows": 40, "low": 0.7, "high": 0.9, "worse": True},
            {"slice": "bright pictures", "accuracy": 0.95, "rows": 40, "low": 0.9, "high": 0.99, "worse": False},
        ],
    }
    card = model_card(config, {**metrics, "test": {**metrics["test"], "trust": trust}}, split)
    for words in (
        "it answers 90.0% of these pictures, 0.50% of them wrongly",
        "hold it in 98.5% (97.0% to 99.5%), with 1.25 classes each",
        "the surest 95% are answered: 0.9876",
        "6.0% of these cells",
        "Weak: dark pictures, 80.0% of 40 (70.0% to 90.0%)",
    ):
        assert words in card
    assert "bright pictures" not in card


def test_the_weakest_classes_stand_first() -> None:
    config, metrics, split = facts()
    card = model_card(config, metrics, split)
    recalls = sorted(row["recall"] for row in metrics["test"]["per_class"])
    told = card.split("## Weak classes")[1].splitlines()[4:7]
    assert [float(line.split("|")[3].split()[0]) for line in told] == pytest.approx(recalls[:3], abs=1e-4)


def test_a_run_that_was_not_scored_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was not scored yet"):
        write_model_card(Run(tmp_path))
