from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from hemascope import devices
from hemascope.data import Cells
from hemascope.devices import build_fabric, cpu_has_bfloat16, enough_memory, has_depthwise, out_of_memory, precision_of
from hemascope.errors import InputError
from hemascope.recipe import Recipe
from hemascope.split import split
from hemascope.train import Options, train_network


@pytest.mark.parametrize(
    ("told", "expected"),
    [({"avx512_bf16": True, "avx2": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False), ({}, False)],
)
def test_a_cpu_is_asked_for_instructions_of_bfloat16(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert cpu_has_bfloat16() is expected


def test_without_a_way_to_ask_a_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert cpu_has_bfloat16() is False


@pytest.mark.parametrize(("name", "expected"), [("cell_residual", False), ("mobilenetv2_100", True)])
def test_networks_with_a_filter_for_each_channel_are_told(name: str, expected: bool) -> None:
    assert has_depthwise(timm.create_model(name)) is expected
    # A grey picture has one channel, whose filter is dense.
    assert not has_depthwise(nn.Conv2d(1, 4, 3))


@pytest.mark.parametrize(
    ("precision", "backbone", "has", "expected"),
    [
        ("auto", "cell_residual", True, True),
        ("auto", "cell_residual", False, False),
        ("auto", "mobilenetv2_100", True, False),
        ("float32", "cell_residual", True, False),
        ("bfloat16", "mobilenetv2_100", False, True),
    ],
)
def test_bfloat16_is_taken_where_it_pays_or_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, precision: str, backbone: str, has: bool, expected: bool
) -> None:
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: has)
    fabric = build_fabric("cpu", precision, timm.create_model(backbone))
    assert precision_of(fabric) == ("bfloat16" if expected else "float32")
    layer = fabric.setup(nn.Linear(2, 2))
    with fabric.autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype is (torch.bfloat16 if expected else torch.float32)
    assert next(layer.parameters()).dtype is torch.float32


def test_a_cpu_that_has_bfloat16_trains_in_it_and_says_so(
    drawn: Cells, tiny: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)
    said: list[str] = []
    low = train_network(split(drawn), tiny(), tmp_path / "low", Options(device="cpu"), said.append)
    assert low.precision == "bfloat16"
    assert any("computing in bfloat16" in sentence for sentence in said)
    assert {value.dtype for value in low.network.parameters()} == {torch.float32}
    options = Options(device="cpu", precision="float32")
    whole = train_network(split(drawn), tiny(), tmp_path / "whole", options, said.append)
    assert whole.precision == "float32"
    for one, other in zip(low.history, whole.history, strict=True):
        assert one["train_loss"] != other["train_loss"]
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=0.1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        RuntimeError("pthread_create failed, error code: 12 error msg: Cannot allocate memory"),
    ],
)
def test_memory_that_is_used_up_is_told_as_one_sentence(error: Exception) -> None:
    with pytest.raises(InputError, match="memory does not suffice to fly; walk"), enough_memory("to fly; walk."):
        raise error


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("to fly; walk."):
        raise RuntimeError("shapes do not match")


@pytest.mark.parametrize(
    ("error", "whether"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 78643200 bytes"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_libraries_say_where_memory_ran_out(error: Exception, whether: bool) -> None:
    assert out_of_memory(error) is whether
