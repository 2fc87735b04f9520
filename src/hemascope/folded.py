"""Batch normalisation that follows a convolution, folded into it: the same function in fewer operations."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Module = TypeVar("Module", bound=nn.Module)

AGREEMENT = 1e-3
"""The largest share of its size by which a folded network may differ from the one that it was made of."""


@torch.no_grad()
def folded(network: Module, example: torch.Tensor) -> Module:
    """A copy of a network in evaluation mode with its batch normalisations folded where they can be.

    example: what it takes; it is run once to see what follows on what. A normalisation that takes anything but the
    output of one convolution stays. Where the copy does not give what the network gives, as where that output is used
    a second time, it is an unchanged copy. Its tensors lie as they are counted, which tracing wants.
    """
    plain = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)
    smaller = copy.deepcopy(plain)
    for name, convolution in _pairs(smaller, example):
        norm: Any = smaller.get_submodule(name)
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        # timm's normalisations hold what is done after them.
        further = [kept for kept in (getattr(norm, part, None) for part in ("drop", "act")) if kept is not None]
        parent, _, own = name.rpartition(".")
        setattr(smaller.get_submodule(parent), own, nn.Sequential(*further) if further else nn.Identity())
    before, after = plain(example), smaller(example)
    agrees = (before - after).abs().max() <= AGREEMENT * before.abs().max().clamp(min=1)
    return smaller if agrees else plain


def _pairs(network: nn.Module, example: torch.Tensor) -> list[tuple[str, nn.Conv2d]]:
    """The names of the normalisations whose input is the output of a convolution that nothing else is seen to take."""
    made: dict[int, nn.Conv2d] = {}
    taken: dict[nn.Conv2d, list[str]] = {}
    # Kept, so that no later tensor gets the address of an earlier one.
    alive: list[torch.Tensor] = []

    def watch(name: str, module: nn.Module) -> Any:
        def after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            for given in inputs:
                if id(given) in made:
                    taken.setdefault(made[id(given)], []).append(name if isinstance(layer, nn.BatchNorm2d) else "")
            if isinstance(layer, nn.Conv2d):
                made[id(output)] = layer
                alive.append(output)

        return module.register_forward_hook(after)

    leaves = [(name, module) for name, module in network.named_modules() if _is_step(module)]
    hooks = [watch(name, module) for name, module in leaves]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [(names[0], convolution) for convolution, names in taken.items() if len(names) == 1 and names[0]]


def _is_step(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) or not any(True for _ in module.children())
