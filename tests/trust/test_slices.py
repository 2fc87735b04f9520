from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, fisher_exact

from hemascope.errors import InputError
from hemascope.metrics import wilson_interval
from hemascope.trust.slices import slice_sentences, slices

NAMES = ("basophil", "monocyte", "platelet")


def planted(seed: int = 0, rows: int = 1200, weak: bool = True) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Slices of a model that errs at 2%, and at 40% on monocytes in the darkest quarter of monocytes."""
    rng = np.random.default_rng(seed)
    labels, brightness, size = rng.integers(0, 3, rows), rng.normal(size=rows), rng.normal(size=rows)
    error = np.full(rows, 0.02)
    if weak:
        own = labels == 1
        error[own & (brightness < np.quantile(brightness[own], 0.25))] = 0.4
    predicted = np.where(rng.random(rows) < error, (labels + 1) % 3, labels)
    numbers = {"brightness": brightness, "cell_diameter": size}
    return slices(labels, predicted, NAMES, numbers), labels, predicted


def test_a_planted_weakness_is_found_and_told() -> None:
    table, labels, predicted = planted()
    worst = table.iloc[0]
    assert worst["slice"] == "monocytes in dark pictures"
    assert bool(worst["worse"])
    assert worst["gap"] == pytest.approx((labels == predicted).mean() - worst["accuracy"])
    low, high = wilson_interval(worst["right"], worst["rows"])
    assert worst["sentence"] == (
        f"monocytes in dark pictures: {worst['accuracy']:.3f}, {low:.3f} to {high:.3f}, of {worst['rows']}"
    )
    assert worst["sentence"] in slice_sentences(table)


def test_p_values_are_those_of_fisher_and_corrected_for_the_search() -> None:
    table, labels, predicted = planted()
    wrong = int((labels != predicted).sum())
    for _, row in table.iterrows():
        inside = row["rows"] - row["right"]
        outside = len(labels) - row["rows"] - (wrong - inside)
        p = fisher_exact([[inside, row["right"]], [wrong - inside, outside]], alternative="greater")[1]
        assert row["p"] == pytest.approx(p, rel=1e-9)
    assert table["q"].to_numpy() == pytest.approx(false_discovery_control(table["p"].to_numpy()))
    assert table["rows"].min() >= 30


def test_chance_makes_no_slice_worse() -> None:
    alarms = [bool(planted(seed, weak=False)[0]["worse"].any()) for seed in range(40)]
    assert np.mean(alarms) <= 0.1
    quiet = next(planted(seed, weak=False)[0] for seed, alarm in enumerate(alarms) if not alarm)
    assert slice_sentences(quiet) == [
        f"None of {len(quiet)} kinds of pictures is worse than the rest beyond chance, corrected for the search."
    ]


def test_slices_cover_answers_corruptions_and_quarters_of_a_class() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 900)
    under = np.where(rng.random(900) < 0.5, "jpeg", "fog")
    predicted = np.where((under == "fog") & (rng.random(900) < 0.3), 2, labels)
    table = slices(labels, predicted, NAMES, {"sharpness": rng.normal(size=900)}, corruption=under)
    words = set(table["slice"])
    assert {"platelets", "cells called platelet", "cells under fog", "basophils under fog"} <= words
    assert {"cells in blurred pictures", "cells in sharp pictures", "basophils in blurred pictures"} <= words
    own = table.set_index("slice")["rows"]
    assert own["basophils in blurred pictures"] == pytest.approx((labels == 0).sum() / 4, abs=1)
    told = slice_sentences(table)
    assert any(sentence.startswith("cells under fog") for sentence in told)
    # What is as bad as the whole that it is part of is told with it.
    assert len(told) <= 5


def test_rows_of_one_picture_count_once() -> None:
    rng = np.random.default_rng(2)
    labels, brightness = rng.integers(0, 3, 400), rng.normal(size=400)
    predicted = np.where(rng.random(400) < 0.1, (labels + 1) % 3, labels)
    once = slices(labels, predicted, NAMES, {"brightness": brightness}).set_index("slice")
    six = [np.tile(values, 6) for values in (labels, predicted, brightness)]
    together = slices(six[0], six[1], NAMES, {"brightness": six[2]}, groups=np.tile(np.arange(400), 6))
    apart = slices(six[0], six[1], NAMES, {"brightness": six[2]}).set_index("slice")
    together = together.set_index("slice").loc[once.index]
    # Quantiles fall between other rows where each row is there six times.
    assert together["rows"].to_numpy() == pytest.approx(6 * once["rows"].to_numpy(), abs=12)
    assert together["low"].to_numpy() == pytest.approx(once["low"].to_numpy(), abs=0.02)
    assert together["p"].to_numpy() == pytest.approx(once["p"].to_numpy(), abs=0.12)
    assert (apart.loc[once.index, "low"] > once["low"]).all()
    own = slices(labels, predicted, NAMES, {"brightness": brightness}, groups=np.arange(400)).set_index("slice")
    assert own.loc[once.index, ["low", "p"]].to_numpy() == pytest.approx(once[["low", "p"]].to_numpy())


def test_small_slices_missing_numbers_and_nothing_at_all() -> None:
    labels = np.repeat([0, 1], [100, 10])
    values = np.full(110, np.nan)
    table = slices(labels, labels, NAMES, {"brightness": values, "noise": np.zeros(110)})
    assert list(table["slice"]) == ["basophils"]
    assert not table["worse"].any()
    assert not len(slices([], [], NAMES, {"brightness": []}))


def test_lengths_and_classes_are_checked() -> None:
    with pytest.raises(InputError, match=r"'brightness' has the shape \(2,\) for 3 labels"):
        slices([0, 1, 2], [0, 1, 2], NAMES, {"brightness": [1.0, 2.0]})
    with pytest.raises(InputError, match=r"'groups' has the shape \(2,\)"):
        slices([0, 1, 2], [0, 1, 2], NAMES, {}, groups=["a", "b"])
    with pytest.raises(InputError, match="must lie in 0 to 2"):
        slices([0, 1, 3], [0, 1, 2], NAMES, {})
