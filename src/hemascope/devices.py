"""Where a network computes: the device, its precision and its memory, through Lightning Fabric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from hemascope.errors import InputError
from hemascope.machine import memory
from hemascope.processes import processes
from hemascope.wording import many

PRECISIONS = ("auto", "float32", "bfloat16")
_NO_MEMORY = ("out of memory", "allocate memory", "bad_alloc", "could not create a primitive")
"""How libraries say it; the last is oneDNN's word where it finds no room for the code that it writes for a layer."""
_USUAL_MEMORY = 8 * 2**30


def build_fabric(device: str, precision: str, network: nn.Module | None = None) -> Fabric:
    """Fabric for a device and a precision by the names of the command line, with all processes of the training.

    network: what is to be trained; by it "auto" decides whether a CPU computes in bfloat16. Raises InputError when a
    device or a precision cannot be had.
    """
    cuda = torch.cuda.is_available()
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{device}', expected auto, cpu or cuda.")
    if device == "cuda" and not cuda:
        raise InputError("--device is cuda, but torch sees no GPU here; use --device cpu, or see hemascope doctor.")
    if precision not in PRECISIONS:
        raise InputError(f"--precision is '{precision}', expected {', '.join(PRECISIONS)}.")
    on_gpu = cuda and device != "cpu"
    if on_gpu:
        # GPUs before Ampere imitate it, which does not pay.
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        pays = network is not None and cpu_has_bfloat16() and not has_depthwise(network)
    low = precision == "bfloat16" or (precision == "auto" and pays)
    group = processes()
    if on_gpu and group.per_node > torch.cuda.device_count():
        raise InputError(
            f"{many(group.per_node, 'process was', 'processes were')} started on this node, but torch sees "
            f"{many(torch.cuda.device_count(), 'GPU')}; "
            "start one for each GPU."
        )
    return Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=group.per_node,
        num_nodes=group.nodes,
        # Running means of norms are averaged over the processes once an epoch instead.
        strategy=DDPStrategy(broadcast_buffers=False) if group.total > 1 else "auto",
        plugins=[
            *([MixedPrecision("bf16-mixed", "cuda" if on_gpu else "cpu")] if low else []),
            # A process of its own inside a SLURM allocation would otherwise wait for those that srun did not start.
            *([] if group.total > 1 else [LightningEnvironment()]),
        ],
    )


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 by instructions of its own (AVX-512 BF16 or AMX) and does not imitate it.

    Convolutions then take some 0.6 times what they take in float32.
    """
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def has_depthwise(network: nn.Module) -> bool:
    """Whether a network convolves each channel by itself, which a CPU does more slowly in bfloat16."""
    return any(
        isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 for module in network.modules()
    )


def precision_of(fabric: Fabric) -> str:
    """In what the network computes: one of PRECISIONS, but for "auto"."""
    return "bfloat16" if isinstance(fabric.strategy.precision, MixedPrecision) else "float32"


def describe_device(device: str, precision: str) -> str:
    """What a run computes on, in words. Raises InputError when it cannot be had."""
    found = build_fabric(device, precision).device
    count = processes().total
    together = f", {count} processes" if count > 1 else ""
    return (f"cuda: {torch.cuda.get_device_name(found)}" if found.type == "cuda" else "cpu") + together


def memory_of(device: torch.device) -> int:
    """All memory of a device in bytes; on the CPU what the machine has, or what this process may take of it."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory() or _USUAL_MEMORY


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up; torch has a type for it on GPUs alone, ONNX Runtime none."""
    told = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in told for words in _NO_MEMORY)


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Within the block, memory that is used up is told as an InputError which ends with the advice."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise InputError(f"memory does not suffice {advice}") from error


def reduced(fabric: Fabric, values: torch.Tensor, how: str) -> torch.Tensor:
    """The "sum" or the "mean" of a tensor over all processes of the training, which each of them gets."""
    if fabric.world_size == 1:
        return values
    found = fabric.all_reduce(values, reduce_op=how)
    assert isinstance(found, torch.Tensor)
    return found


def any_process(fabric: Fabric, flag: bool) -> bool:
    """Whether it holds in any process of the training: what one decides by its clock, all must do."""
    return bool(reduced(fabric, torch.tensor(float(flag), device=fabric.device), "sum") > 0)
