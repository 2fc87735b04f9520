from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.model import CellClassifier
from hemascope.recipe import Recipe
from hemascope.split import split
from hemascope.train import Options, Trained, train_network

Tiny = Callable[..., Recipe]
PACE = {"seconds": 0, "images_per_second": 0}
"""Put in the place of what differs between runs that are the same."""


@pytest.fixture(scope="module")
def cells(drawn: Cells) -> Cells:
    return split(drawn)


def trained(cells: Cells, recipe: Recipe, folder: Path, **options: Any) -> Trained:
    return train_network(cells, recipe, folder, Options(**options), lambda sentence: None)


def test_gradients_of_parts_sum_to_those_of_the_batch(cells: Cells, tiny: Tiny, tmp_path: Path) -> None:
    # Without norms over the batch.
    recipe = tiny(backbone="test_convnext", head_dropout=0.5, augmentation=[{"name": "mixup"}], optimizer="sgd")
    whole = trained(cells, recipe, tmp_path / "whole")
    parts = trained(cells, recipe, tmp_path / "parts", micro_batch=5)
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], abs=1e-5)


def test_memory_that_does_not_suffice_halves_the_parts_and_keeps_the_batch(
    cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = CellClassifier.forward
    sizes: list[int] = []

    def short_of_memory(self: CellClassifier, pictures: torch.Tensor) -> torch.Tensor:
        if self.training:
            sizes.append(len(pictures))
        if len(pictures) > 6:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return forward(self, pictures)

    recipe = tiny(backbone="test_convnext", head_dropout=0.5, augmentation=[], optimizer="sgd")
    whole = trained(cells, recipe, tmp_path / "whole")
    monkeypatch.setattr(CellClassifier, "forward", short_of_memory)
    said: list[str] = []
    found = train_network(cells, recipe, tmp_path / "short", Options(), said.append)
    assert sizes[:6] == [16, 8, 4, 4, 4, 4]
    assert set(sizes[6:]) == {4}
    assert [sentence for sentence in said if "memory" in sentence] == [
        "memory does not suffice: 8 pictures go through the network at a time, and the batch stays 16.",
        "memory does not suffice: 4 pictures go through the network at a time, and the batch stays 16.",
    ]
    for one, other in zip(whole.history, found.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)
    state = json.loads((tmp_path / "short" / "checkpoint" / "state.json").read_text())
    assert state["place"]["micro_batch"] == 4


def test_memory_that_does_not_suffice_for_one_picture_is_told(
    cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: CellClassifier, pictures: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(CellClassifier, "forward", never)
    with pytest.raises(InputError, match="memory does not suffice for a single picture; use a smaller"):
        trained(cells, tiny(), tmp_path)


def as_it_is(graph: Any, inputs: Any) -> Any:
    return graph


def no_compiler(*args: Any) -> Any:
    raise FileNotFoundError("no compiler here")


@pytest.mark.parametrize("part", ["fw_compiler", "bw_compiler"])
def test_a_network_that_cannot_be_compiled_trains_as_it_is_and_says_so(
    cells: Cells, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    compilers: dict[str, Any] = {"fw_compiler": as_it_is, "bw_compiler": as_it_is, part: no_compiler}
    backend = aot_autograd(**compilers)
    torch._dynamo.reset()
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: compile_(function, backend=backend, dynamic=False)
    )
    recipe = tiny(backbone="test_convnext")
    plain = trained(cells, recipe, tmp_path / "plain")
    said: list[str] = []
    found = train_network(cells, recipe, tmp_path / "compiled", Options(compiled=True), said.append)
    told = [sentence for sentence in said if "cannot be compiled here" in sentence]
    assert len(told) == 1
    assert "no compiler here" in told[0]
    for one, other in zip(plain.history, found.history, strict=True):
        assert {**one, **PACE} == {**other, **PACE}
