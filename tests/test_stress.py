from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hemascope.corrupt import COMPOSITES, FAMILIES, HELD_OUT, MEDMNIST_C, SEVERITIES, compose, corrupt, weights
from hemascope.data import SPLITS, Cells, Images, pixel_hashes
from hemascope.errors import InputError
from hemascope.run import Run
from hemascope.runtime import load_model
from hemascope.stress import Stress, seed_for, stress, stress_score
from hemascope.stress_scores import Condition, group_scores, line_of, summary, surest_mistakes
from hemascope.synthetic import draw_cells


class ByBrightness:
    """Knows dark from bright pictures, and is the surer the farther they are from the middle."""

    class_names = ("dark", "bright")

    def predict(self, images: Images) -> np.ndarray:
        bright = 1 / (1 + np.exp((130.0 - images.mean((1, 2, 3))) / 20))
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


class Constant:
    class_names = ("dark", "bright")

    def predict(self, images: Images) -> np.ndarray:
        return np.tile(np.array([0.25, 0.75], np.float32), (len(images), 1))


@pytest.fixture(scope="module")
def shades() -> Cells:
    """30 dark and 10 bright pictures, told apart by their light."""
    rng = np.random.default_rng(0)
    labels = (np.arange(40) % 4 == 0).astype(np.int64)
    light = np.where(labels == 1, 165, 95) + rng.integers(-25, 26, 40)
    images = np.clip(light[:, None, None, None] + rng.normal(0, 8, (40, 24, 24, 3)), 0, 255).astype(np.uint8)
    return Cells(images, labels, ("dark", "bright"), np.array([f"p{row}" for row in range(40)]), source="shades.npz")


@pytest.fixture(scope="module")
def found(shades: Cells) -> Stress:
    return stress(ByBrightness(), shades, seed=3)


def test_every_condition_is_scored_as_by_hand(found: Stress, shades: Cells) -> None:
    table = found.conditions
    assert len(table) == 1 + len(FAMILIES) * len(SEVERITIES) + len(COMPOSITES)
    images, rows = np.asarray(shades.images), np.arange(40)
    for line in table.itertuples():
        spoilt = images
        if line.group == "mixes":
            spoilt = compose(images, str(line.corruption), seed=3, rows=rows)
        elif line.group != "clean":
            spoilt = corrupt(images, str(line.corruption), int(line.severity), seed=3, rows=rows)  # type: ignore[arg-type]
        right = (spoilt.mean((1, 2, 3)) > 130) == shades.labels
        assert line.accuracy == pytest.approx(right.mean())
        assert line.recall_dark == pytest.approx(right[shades.labels == 0].mean())
        assert line.balanced_error == pytest.approx(
            1 - (right[shades.labels == 0].mean() + right[shades.labels == 1].mean()) / 2
        )


def test_families_and_groups_are_means_of_their_severities(found: Stress) -> None:
    table, clean = found.conditions, found.scores["clean"]["balanced_error"]
    for key, group, names in (("medmnist_c", "medmnist-c", MEDMNIST_C), ("held_out", "held-out", HELD_OUT)):
        scores = found.scores[key]
        assert [entry["family"] for entry in scores["families"]] == list(names)
        for entry in scores["families"]:
            own = table[table["corruption"] == entry["family"]]
            assert entry["by_severity"] == own["balanced_error"].tolist()
            assert entry["loss"] == pytest.approx(own["balanced_error"].mean() - clean)
        own = table[table["group"] == group]
        assert scores["balanced_error"] == pytest.approx(own["balanced_error"].mean())
        assert scores["accuracy"] == pytest.approx(own["accuracy"].mean())
        assert scores["worst_balanced_error"] == own.groupby("corruption")["balanced_error"].mean().max()
    assert "be" not in found.scores["held_out"]
    assert found.scores["medmnist_c"]["be"] == pytest.approx(
        np.mean([entry["be"] for entry in found.scores["medmnist_c"]["families"]])
    )


def test_relative_errors_of_a_group_by_hand() -> None:
    lines = [{"group": "clean", "corruption": "clean", "balanced_error": 0.02, "accuracy": 0.98}]
    lines += [
        {"group": "medmnist-c", "corruption": name, "balanced_error": error + severity / 100, "accuracy": 0.5}
        for name, error in (("pixelate", 0.0298), ("jpeg", 0.25))
        for severity in (1, 2, 3, 4, 5)
    ]
    scores = group_scores("medmnist-c", lines)
    assert scores["families"][0]["be"] == pytest.approx(0.0598 / 0.0598)
    assert scores["be"] == pytest.approx((1 + 0.28 / 0.1398) / 2)
    assert scores["rbe"] == pytest.approx(((0.0598 - 0.02) / (0.0598 - 0.01837) + 0.26 / (0.1398 - 0.01837)) / 2)
    assert scores["worst"] == "jpeg"


def test_the_stress_score_is_the_weighted_mean_of_three_mixes(found: Stress, shades: Cells) -> None:
    mixes = found.scores["mixes"]
    assert list(mixes) == list(COMPOSITES)
    rows, right = np.arange(len(shades)), found.answers
    names = ("mild", "hidden", "extreme")
    correct = {name: (right[name].astype(str) == right["label"].astype(str)).to_numpy() for name in names}
    assert all(correct[name].mean() == pytest.approx(mixes[name]["accuracy"]) for name in names)
    mean = np.mean([np.average(correct[name], weights=weights(name, 3, rows)) for name in names])
    assert found.scores["stress_score"] == pytest.approx(mean)
    low, high = found.scores["stress_score_interval"]
    assert low <= mean <= high
    quick = stress_score(ByBrightness(), shades, seed=3)
    for name in ("stress_score", "stress_score_interval", "intervals"):
        assert quick[name] == found.scores[name]
    assert quick["mixes"] == {name: mixes[name] for name in ("mild", "hidden", "extreme")}


def test_a_constant_has_the_share_of_its_class_whatever_is_done(shades: Cells) -> None:
    scores = stress_score(Constant(), shades, seed=1)
    assert scores["stress_score"] == pytest.approx(0.25, abs=0.05)
    assert all(mix["accuracy"] == pytest.approx(0.25) for mix in scores["mixes"].values())


def test_a_perfect_score_has_no_interval(shades: Cells) -> None:
    bright = shades.take(shades.labels == 1)
    assert stress_score(Constant(), bright, seed=1)["stress_score_interval"] is None


def test_copies_are_resampled_together(shades: Cells) -> None:
    hashes = pixel_hashes(shades)
    twice = shades.take(np.concatenate([np.arange(40), np.arange(40)]))
    twice = replace(twice, ids=np.array([f"q{row}" for row in range(80)]))
    assert stress_score(ByBrightness(), twice, seed=3)["intervals"]["bootstrap_groups"] == len(np.unique(hashes))
    by_patient = replace(shades, groups=np.array([f"patient {row % 5}" for row in range(40)]))
    assert stress_score(ByBrightness(), by_patient, seed=3)["intervals"]["bootstrap_groups"] == 5


def test_no_two_parts_of_the_data_share_a_seed(shades: Cells) -> None:
    parts = [*SPLITS, "evaluation"]
    seeds = {seed_for(part, seed) for part in parts for seed in (0, 1)}
    assert len(seeds) == 2 * len(parts)
    images, rows = np.asarray(shades.images), np.arange(40)
    first, second = (compose(images, "hidden", seed=seed_for(part), rows=rows) for part in ("validation", "test"))
    assert (first != second).any(axis=(1, 2, 3)).mean() > 0.9


def test_a_picture_is_spoilt_alike_in_any_company(found: Stress, shades: Cells) -> None:
    some = np.array([31, 4, 17])
    alone = stress(ByBrightness(), shades.take(some), seed=3, rows=some)
    pd.testing.assert_frame_equal(alone.answers, found.answers.iloc[some].reset_index(drop=True))


def test_training_rows_are_left_out(shades: Cells) -> None:
    known = pixel_hashes(shades)[:10].tolist()
    found = stress(ByBrightness(), shades, seed=3, what=("mixes",), trained_on=known)
    assert (found.scores["n"], found.scores["left_out"]) == (30, 10)
    assert found.answers["id"].tolist() == shades.ids[10:].tolist()
    with pytest.raises(InputError, match="all 40 pictures trained this model"):
        stress(ByBrightness(), shades, trained_on=pixel_hashes(shades).tolist())


def test_what_fails_was_right_before_and_is_shown_as_it_was(found: Stress, shades: Cells) -> None:
    mistakes = found.scores["mistakes"]
    assert 4 < len(mistakes) <= 12
    assert len({mistake["id"] for mistake in mistakes}) == len(mistakes)
    confidences = [mistake["confidence"] for mistake in mistakes]
    assert confidences == sorted(confidences, reverse=True)
    for mistake, original, spoilt in zip(mistakes, found.originals, found.corrupted, strict=True):
        assert np.array_equal(original, np.asarray(shades.images)[mistake["row"]])
        before, after = ByBrightness().predict(np.stack([original, spoilt]))
        assert shades.class_names[before.argmax()] == mistake["label"]
        assert shades.class_names[after.argmax()] == mistake["predicted"] != mistake["label"]
        assert after.max() == pytest.approx(mistake["confidence"])


def test_one_family_does_not_fill_the_mistakes() -> None:
    labels = np.zeros(30, np.int64)
    conditions = [Condition("clean", "clean"), Condition("held-out", "fog", 1), Condition("held-out", "fibre", 1)]
    answers = [labels, np.ones(30, np.int64), (np.arange(30) == 7).astype(np.int64)]
    sure = [np.full(30, share, np.float32) for share in (0.9, 0.9, 0.6)]
    chosen = surest_mistakes(conditions, answers, sure, labels, most=4)
    assert [mistake.condition.name for mistake in chosen] == ["fog", "fog", "fog", "fibre"]
    assert chosen[-1].place == 7


def test_an_absent_class_is_told_as_such(shades: Cells) -> None:
    line = line_of(Condition("clean", "clean"), shades.take(shades.labels == 0), np.zeros(30, np.int64))
    assert np.isnan(line["recall_bright"])
    assert line["balanced_error"] == 0.0


def test_what_is_written_can_be_read(found: Stress, tmp_path: Path) -> None:
    found.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stress.csv", "stress.json", "stress.parquet"]
    assert json.loads((tmp_path / "stress.json").read_text())["stress_score"] == found.scores["stress_score"]
    table = pd.read_csv(tmp_path / "stress.csv")
    assert table["accuracy"].to_numpy() == pytest.approx(found.conditions["accuracy"].to_numpy(), abs=1e-6)
    answers = pd.read_parquet(tmp_path / "stress.parquet")
    own = found.conditions[(found.conditions["corruption"] == "jpeg") & (found.conditions["severity"] == 2)]
    assert (answers["jpeg 2"] == answers["label"]).mean() == pytest.approx(own["accuracy"].item())


def test_the_summary_names_what_counts(found: Stress) -> None:
    told = summary(found.scores)
    for said in ("MedMNIST-C", "rBE", "held-out families", "mix hidden-unseen", "worst family", "stress score"):
        assert said in told
    assert f"{found.scores['stress_score']:.4f}   {found.scores['stress_score_interval'][0]:.4f} to" in told


def test_parts_can_be_left_out_and_unknown_ones_are_refused(shades: Cells) -> None:
    found = stress(ByBrightness(), shades, seed=3, what=("held-out",))
    assert set(found.conditions["group"]) == {"clean", "held-out"}
    assert "stress_score" not in found.scores
    assert "worst family" in summary(found.scores)
    with pytest.raises(InputError, match="no part 'heldout'; name some of medmnist-c, held-out, mixes"):
        stress(ByBrightness(), shades, what=("heldout",))


def test_a_run_folder_knows_its_recipe_and_a_bare_model_does_not(finished: Run, drawn: Cells) -> None:
    some = draw_cells(16, seed=21, size=32)
    bare = stress(finished.model / "model.onnx", some, what=("mixes",))
    assert "novelty" not in bare.scores
    assert "not measured" in bare.notes[0]
    scores = stress_score(load_model(finished.folder), some, seed_for("evaluation"))
    assert bare.scores["stress_score"] == scores["stress_score"]


def test_unlabelled_cells_are_refused(shades: Cells) -> None:
    unlabelled = replace(shades, labels=np.full(40, -1))
    with pytest.raises(InputError, match="have no label"):
        stress_score(ByBrightness(), unlabelled, seed=0)
