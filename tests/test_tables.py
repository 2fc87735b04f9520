"""The leaderboard on terminals of any width."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hemascope.cli.tables import print_table

RECIPES = ["classical-gradient-boosting", "mobilenetv2", "densenet121-augmented", "small"]
SCORES = ["validation_accuracy", "validation_stress_score", "test_accuracy", "test_stress_score"]
FILE = Path("out/leaderboard.csv")


def leaderboard(*, seeds: int) -> pd.DataFrame:
    """What `compare_recipes` returns, of one seed or of several."""
    table = pd.DataFrame(
        {"recipe": RECIPES, "chosen": [False, False, False, True], "weights": "random", "seeds": seeds}
    )
    table["milliseconds_a_picture"] = [3.2, 14.1, 25.0, 2.1]
    for at, name in enumerate([*SCORES, "accuracy on public_test.npz"]):
        table[name] = [0.5 + at / 100, 0.6, 0.7, 0.9]
        table[f"{name}_low"] = table[f"{name}_high"] = 0.1
        if seeds > 1:
            table[f"{name}_std"] = 0.012
    table.loc[:2, ["test_accuracy", "test_stress_score"]] = np.nan
    return table


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_word_is_broken_and_no_line_is_longer_than_the_terminal(
    width: int, seeds: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(leaderboard(seeds=seeds), FILE)
    told = capsys.readouterr().out
    shown = [line for line in told.splitlines() if not line.startswith(str(FILE))]
    assert max(map(len, shown)) <= width
    words = set(re.findall(r"[\w.]+", " ".join(shown)))
    known = {"recipe", "ms", "a", "picture", "accuracy", "stress", "score", "validation", "test", "on", "chosen"}
    known |= {"public_test.npz"} | {word for name in RECIPES for word in name.split("-")}
    assert {word for word in words if not re.fullmatch(r"\d+\.\d{3}", word)} <= known
    assert {word for name in RECIPES for word in name.split("-")} <= words
    assert "0.900" in words
    if seeds > 1:
        assert "± 0.012" in told


def test_what_a_narrow_terminal_leaves_out_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(leaderboard(seeds=1).drop(columns="accuracy on public_test.npz"), FILE)
    whole = capsys.readouterr().out
    assert str(FILE) not in whole
    monkeypatch.setenv("COLUMNS", "60")
    print_table(leaderboard(seeds=1), FILE)
    told = capsys.readouterr().out
    assert "out/leaderboard.csv has ms a picture, test stress score and accuracy on public_test.npz too" in told
    assert "stress" in told.split("─")[0]


def test_a_learning_curve_and_a_name_with_brackets_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(pd.DataFrame({"recipe": ["[bold]mine"], "validation_accuracy": [0.5]}), FILE)
    print_table(pd.DataFrame({"share": [0.125], "rows": [1200], "validation_accuracy": [0.5]}), FILE)
    told = capsys.readouterr().out
    assert "[bold]mine" in told
    assert "1,200" in told
