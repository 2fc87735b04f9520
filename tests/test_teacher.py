"""A trained run teaches another: its answers join the labels, and it must not know what is held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.functional import one_hot

from hemascope.batches import Batch
from hemascope.data import Cells
from hemascope.devices import build_fabric
from hemascope.ensemble import load_network
from hemascope.errors import InputError
from hemascope.pipeline import fit, training_options
from hemascope.prepare import Prepared, prepare
from hemascope.recipe import Recipe
from hemascope.run import Run, open_run
from hemascope.teacher import Teacher, check_teacher

Tiny = Callable[..., Recipe]
OPTIONS = training_options(0, "cpu", "float32", None)


def quiet(sentence: str) -> None:
    pass


@pytest.fixture(scope="module")
def prepared(dirty: Cells) -> Prepared:
    return prepare(dirty, seed=0, say=quiet)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, prepared: Prepared, tiny: Tiny) -> Run:
    run = open_run(tmp_path_factory.mktemp("taught") / "teacher", resume=False)
    fit(prepared, tiny(), run, OPTIONS, quiet)
    return run


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_targets_are_in_part_the_labels_and_in_part_the_answers(teacher: Run, tiny: Tiny, share: float) -> None:
    recipe = tiny(teacher=str(teacher.folder), teacher_share=share)
    pictures = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6])
    batch = Teacher(recipe, build_fabric("cpu", "float32")).joined(Batch(pictures, labels, slice(1, 6)))
    with torch.no_grad():
        told = load_network(teacher)[0](pictures).softmax(1)
    expected = one_hot(labels, 8).float()
    expected[1:6] = (1 - share) * expected[1:6] + share * told
    torch.testing.assert_close(batch.targets, expected)
    assert batch.pictures is pictures


def test_a_taught_network_learns_something_else_and_is_a_run_like_any_other(
    teacher: Run, prepared: Prepared, tiny: Tiny, tmp_path: Path
) -> None:
    run = open_run(tmp_path / "student", resume=False)
    fit(prepared, tiny(teacher=str(teacher.folder)), run, OPTIONS, quiet)
    assert run.trained
    losses = [pd.read_csv(each.history)["train_loss"].tolist() for each in (teacher, run)]
    assert losses[0] != losses[1]


def test_a_teacher_that_knows_held_out_pictures_is_refused(
    teacher: Run, dirty: Cells, tiny: Tiny, tmp_path: Path
) -> None:
    run = open_run(tmp_path / "student", resume=False)
    with pytest.raises(InputError, match="may know pictures that are held out here"):
        fit(prepare(dirty, seed=1, say=quiet), tiny(teacher=str(teacher.folder)), run, OPTIONS, quiet)


def test_what_is_no_run_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished training"):
        check_teacher(tiny(teacher=str(tmp_path)), ("a", "b"), Run(tmp_path))
