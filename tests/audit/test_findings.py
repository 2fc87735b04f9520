from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemascope.audit import ADVICE, ISSUES, Audit, audit
from hemascope.data import Cells, concatenate, load
from hemascope.synthetic import draw_cells, planted

COUNT = 400


@pytest.fixture(scope="module")
def elsewhere(dirty: Cells) -> Cells:
    """Other drawn cells, with two of the dirty set among them: one as it is, one under another label."""
    others = replace(draw_cells(40, seed=77, size=32), source="elsewhere.npz")
    rows = np.flatnonzero(~(planted(COUNT, seed=6).non_cells | planted(COUNT, seed=6).copies))[[30, 60]]
    two = dirty.take(rows)
    labels = two.labels.copy()
    labels[1] = (labels[1] + 1) % 8
    two = replace(two, labels=labels, ids=np.array(["same", "other label"]), source="elsewhere.npz")
    return replace(concatenate([others, two]), source="elsewhere.npz")


@pytest.fixture(scope="module")
def found(dirty: Cells, elsewhere: Cells) -> Audit:
    images = np.asarray(dirty.images).copy()
    turned = np.rot90(images[40]).copy()
    cells = replace(
        dirty,
        images=np.concatenate([images, turned[None]]),
        labels=np.append(dirty.labels, dirty.labels[40]),
        ids=np.append(dirty.ids, "turned"),
        unreadable={"broken.jpg": "it is empty (0 bytes); copy it again."},
    )
    return audit(cells, against=[elsewhere])


def test_one_row_for_each_picture_with_a_score_and_a_flag_for_each_issue(found: Audit) -> None:
    table = found.findings
    assert len(table) == COUNT + 2
    assert table["id"].is_unique
    for issue in ISSUES:
        scores, flags = table[f"{issue}_score"], table[f"is_{issue}"]
        assert flags.dtype == bool
        assert scores.between(0, 1).all()
        assert not flags.any() or scores[flags].max() <= scores[~flags].max()
    assert set(table["advice"]) <= set(ADVICE)
    assert (table.loc[table["advice"] != "keep", "reason"].str.len() > 0).all()


def test_only_what_was_planted_is_advised_to_go(found: Audit, dirty: Cells) -> None:
    truth = planted(COUNT, seed=6)
    dropped = set(found.findings.loc[found.findings["advice"] == "drop", "id"])
    assert dropped == set(dirty.ids[truth.non_cells | truth.copies]) | {"broken.jpg"}
    table = found.findings.set_index("id")
    # Of the two non-cells one stands often enough to be called that; the other goes for its many labels.
    assert set(table.index[table["is_not_a_cell"]]) < set(dirty.ids[truth.non_cells])
    assert table.loc["broken.jpg", "is_unreadable"]


def test_a_turned_copy_is_found_and_kept_for_a_look(found: Audit, dirty: Cells) -> None:
    table = found.findings.set_index("id")
    assert table.loc["turned", "is_near_copy"]
    assert table.loc["turned", "advice"] == "look"
    assert table.loc["turned", "near_group"] == table.loc[dirty.ids[40], "near_group"]
    assert found.near["transform"].str.contains("turned by (?:90|270) degrees").any()


def test_a_copy_that_goes_is_not_to_be_looked_at_too(drawn: Cells) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    twice = replace(drawn.take(np.array([0, 0])), images=np.repeat(noise, 2, 0), ids=np.array(["noise", "again"]))
    found = audit(concatenate([drawn, twice]))
    table = found.findings.set_index("id")
    assert sorted(table.loc[["noise", "again"], "advice"]) == ["drop", "look"]
    assert table["is_outlier"].sum() == (table["advice"] == "look").sum() == found.advice["look"]
    assert f"{found.advice['look']} " in next(each.sentence for each in found.sentences if each.name == "outlier")


def test_the_verdict_counts_the_rows_that_the_table_advises_on(found: Audit, drawn: Cells) -> None:
    table = found.findings
    drop, look = ((table["advice"] == word).sum() for word in ("drop", "look"))
    assert found.verdict == f"{drop} of {len(table)} rows should go, {look} need a look"
    looked_at = table[table["advice"] == "look"]
    assert f"{looked_at['is_leak'].sum()} leaks" in found.to_look_at
    assert f"{looked_at['is_near_copy'].sum()} near copies" in found.to_look_at
    one = drawn.take(np.arange(1))
    assert audit(one).verdict == "nothing stands against the 1 row"
    assert audit(one).to_look_at == ""


def test_leaks_into_another_file_are_named_with_their_labels(found: Audit) -> None:
    assert len(found.leaks) == 2
    assert sorted(found.leaks["other_label"]) == [False, True]
    assert found.findings["is_leak"].sum() >= 2
    assert any("in another split or file" in finding.sentence for finding in found.sentences)


def test_a_set_that_is_held_against_itself_is_told(drawn: Cells) -> None:
    named = replace(drawn.take(np.arange(24)), source="cells.npz")
    told = [finding.sentence for finding in audit(named, against=[named]).sentences]
    assert "every picture of cells.npz stands on the other side too" in " ".join(told)
    elsewhere = replace(drawn.take(np.arange(100, 124)), source="elsewhere.npz")
    assert "same data" not in " ".join(finding.sentence for finding in audit(named, against=[elsewhere]).sentences)


def test_one_probability_is_told_of_a_suspect_label(found: Audit) -> None:
    suspects = found.findings[found.findings["is_label_suspect"]]
    for score, reason in zip(suspects["label_suspect_score"], suspects["reason"], strict=True):
        assert f"the label is right with probability {score:.3f}" in reason


def test_leaks_between_the_splits_of_one_file(drawn: Cells) -> None:
    both = concatenate([drawn, replace(drawn.take(np.arange(3)), ids=np.array(["a", "b", "c"]))])
    division = np.array(["train"] * len(drawn) + ["test"] * 3)
    table = audit(replace(both, split=division)).findings
    assert table["is_leak"].sum() == 3
    assert table.loc[table["is_leak"], "split"].unique().tolist() == ["train"]


def test_a_judge_of_labels_that_errs_says_so(found: Audit) -> None:
    doubted = found.findings.assign(is_label_suspect=np.arange(len(found.findings)) < 3)

    def told(named: float) -> str:
        sentences = replace(found, findings=doubted, labels_named=named).sentences
        return next(finding.sentence for finding in sentences if finding.name == "label_suspect")

    assert 0 <= found.labels_named <= 1
    assert told(0.77).endswith("tell only 77% of the labels here, so that many of these may be sound.")
    assert told(0.97).endswith("look.")
    assert told(float("nan")).endswith("look.")


def test_cells_without_labels_are_audited_too(drawn: Cells) -> None:
    table = audit(replace(drawn, labels=np.full(len(drawn), -1))).findings
    assert not table["is_label_suspect"].any()
    assert len(table) == len(drawn)


def test_a_file_that_gives_the_label_away_is_named(drawn: Cells, tmp_path: Path) -> None:
    for row in range(len(drawn)):
        folder = tmp_path / "cells" / drawn.class_names[drawn.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        quality = 60 if drawn.class_names[drawn.labels[row]] == "monocyte" else 95
        Image.fromarray(np.asarray(drawn.images)[row]).save(folder / f"{row}.jpg", quality=quality)
    shortcuts = audit(load(tmp_path / "cells", size=32)).shortcuts.set_index("candidate")
    assert {"file size", "JPEG quality", "background colour"} <= set(shortcuts.index)
    assert "picture width" not in shortcuts.index
    told = shortcuts.loc["JPEG quality"]
    assert told["is_shortcut"]
    assert told["class_name"] == "monocyte"
    assert told["auc"] > 0.99


def test_too_few_pictures_for_a_judgement_are_no_error(drawn: Cells) -> None:
    table = audit(drawn.take(np.arange(20))).findings
    assert len(table) == 20
    assert not table["is_label_suspect"].any()


def test_a_model_may_judge_the_labels(drawn: Cells) -> None:
    sure = np.full((len(drawn), 8), 0.01)
    sure[np.arange(len(drawn)), drawn.labels] = 0.93
    wrong = drawn.labels.copy()
    wrong[3] = (wrong[3] + 1) % 8
    table = audit(replace(drawn, labels=wrong), probabilities=sure).findings
    assert np.flatnonzero(table["is_label_suspect"]).tolist() == [3]
    assert table.loc[3, "suggested_label"] == drawn.class_names[drawn.labels[3]]


def test_the_tables_are_written(found: Audit, tmp_path: Path) -> None:
    found.write(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"findings.csv", "findings.parquet", "leaks.csv", "near.csv", "shortcuts.csv"}
    assert pd.read_parquet(tmp_path / "findings.parquet")["id"].tolist() == found.findings["id"].tolist()


@pytest.mark.timeout(300)
def test_the_challenge_file_and_the_public_test(challenge: Path) -> None:
    cells = load(challenge / "training_set.npz")
    found = audit(cells, against=[load(challenge / "public_test.npz")])
    table = found.findings
    dropped = table[table["advice"] == "drop"]
    assert len(dropped) == 1808
    assert sorted(dropped[dropped["is_not_a_cell"]].groupby("group").size().tolist()) == [200, 1600]
    assert (dropped["is_exact_copy"]).sum() == 8
    assert len(found.leaks) == 5
    assert found.leaks["other_label"].sum() == 1
