from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from hemascope.course import Place, advance, epoch_sentence, out_of_time, stage_row, time_left, write_history
from hemascope.recipe import Recipe

Tiny = Callable[..., Recipe]
EPOCHS = [
    {"epoch": 1, "train_loss": 2.0, "validation_accuracy": 0.5, "validation_stress": 0.4, "seconds": 9.0},
    {"epoch": 2, "train_loss": 1.0, "validation_accuracy": 0.6, "validation_stress": 0.3, "seconds": 11.0},
]
HISTORY = [{**row, "images_per_second": 1234.5} for row in EPOCHS]


def after(recipe: Recipe, *reached: float) -> Place:
    """After epochs of ten seconds that reached these scores."""
    place = Place()
    for score in reached:
        advance(place, (score, 0.0), recipe, 10.0)
    return place


def test_an_epoch_without_a_better_score_waits_and_a_plateau_cuts_the_rate(tiny: Tiny) -> None:
    recipe = tiny(schedule="plateau", plateau_patience=2, plateau_factor=0.5)
    assert after(recipe, 0.4, 0.3).cut == 1
    place = after(recipe, 0.4, 0.3, 0.4)
    assert (place.best_epoch, place.since_best, place.since_cut, place.cut) == (1, 2, 0, 0.5)
    assert after(recipe, 0.4, 0.3, 0.5).since_best == 0


def test_a_stage_begins_anew_and_the_run_goes_on(tiny: Tiny) -> None:
    place = after(tiny(), 0.4, 0.3)
    place.leading_stage, place.leading_score, place.micro_batch = 0, place.best_score, 8
    following = place.next_stage()
    assert (following.stage, following.epoch, following.total_epochs, following.seconds) == (1, 0, 2, 20.0)
    assert following.best_score < following.leading_score == (0.4, 0.0)
    assert following.micro_batch == 8


def test_what_is_said_after_an_epoch(tiny: Tiny) -> None:
    stages = [{"name": name, "epochs": 5, "learning_rate": 0.1} for name in ("one", "two")]
    recipe = tiny(stages=stages)
    place = after(recipe, 0.4, 0.3)
    told = "loss 1.0000, validation accuracy 0.6000, under corruption 0.3000"
    assert epoch_sentence(HISTORY[1], place, 2) == f"{told} (best of this stage: 0.4000), 1,234 images/s"
    assert epoch_sentence(HISTORY[1], after(recipe, 0.4), 1) == f"{told} (best so far), 1,234 images/s"
    assert time_left(place, recipe.stages, HISTORY) == ", at most 30 s left of this stage"
    assert time_left(place, recipe.stages[:1], HISTORY) == ", at most 30 s left"
    assert time_left(after(recipe, *[0.1] * 5), recipe.stages, HISTORY) == ""
    row = stage_row(recipe.stages[0], place, HISTORY)
    assert (row["name"], row["epochs"], row["best_epoch"], row["validation_stress"]) == ("one", 2, 1, 0.4)


def test_another_epoch_must_fit_into_the_time_given(tiny: Tiny) -> None:
    place = after(tiny(), 0.4, 0.3)
    assert not out_of_time(place, None, HISTORY)
    assert not out_of_time(place, 0.5, HISTORY)
    assert out_of_time(place, 0.49, HISTORY)


def test_the_table_of_epochs_has_a_row_each(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", HISTORY)
    assert pd.read_csv(tmp_path / "history.csv").to_dict("records") == HISTORY
