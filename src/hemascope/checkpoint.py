"""The state of a training run on disk: safetensors for tensors, JSON for the rest, never half written.

`state.json` names the file that holds the tensors of the last whole epoch. It is replaced after that file is
complete, so that a kill at any moment leaves the last whole epoch or the one before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialized

from hemascope.files import replacing, write_json


class Tensors(dict[str, torch.Tensor]):
    """Tensors by name, where a name is "part/name"."""

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of one part, without its name before theirs."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.items() if key.startswith(prefix)}


def save(folder: Path, epoch: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Write the state after `epoch` whole epochs, then remove the one before it.

    Raises OSError when it cannot be written, as on a full disk; the state before it then stays.
    """
    name = f"epoch-{epoch:04d}.safetensors"
    save_tensors(folder / name, tensors)
    write_json(folder / "state.json", {**state, "tensors": name})
    # A process that was killed while it wrote leaves a file whose name begins with a dot.
    for old in [*folder.glob("epoch-*.safetensors"), *folder.glob(".epoch-*.safetensors")]:
        if old.name != name:
            old.unlink()


def load(folder: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """The tensors and the state of the last whole epoch, or None when there is none yet."""
    path = folder / "state.json"
    if not path.is_file():
        return None
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Tensors(load_file(folder / state["tensors"])), state


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors, at once."""
    content = serialized({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        # A full disk may tell only when the bytes reach it; the name must not stand for less.
        file.flush()
        os.fsync(file.fileno())


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """The optimiser's state as flat tensors and JSON-ready numbers."""
    tensors = Tensors()
    numbers: dict[str, Any] = {}
    for place, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            key = f"optimizer/{place}/{name}"
            if isinstance(value, torch.Tensor):
                tensors[key] = value
            elif value is not None:
                numbers[key] = value
    return tensors, numbers


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, numbers: Mapping[str, Any]) -> None:
    """Put back what `pack_optimizer` gave; the groups and their rates are the caller's."""
    state: dict[int, dict[str, Any]] = {}
    flat = {f"optimizer/{name}": value for name, value in tensors.part("optimizer").items()} | dict(numbers)
    for key, value in flat.items():
        _, place, name = key.split("/", 2)
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # Fused kernels walk through memory: what belongs to a parameter must lie as the parameter does, channels last too.
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()
