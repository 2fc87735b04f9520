"""A network compiled for training, where launching kernels costs more than computing; else as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from hemascope.devices import out_of_memory


class Compiled(nn.Module):
    """Computes what `network` computes. In training torch.compile makes it faster, on a GPU with CUDA graphs too.

    The first batch takes a minute or more. Where compiling fails, `say` tells why and training goes on without.
    graphs: whether the gradients of one batch are done with before the next begins, which CUDA graphs rely on.
    """

    def __init__(self, network: nn.Module, say: Callable[[str], None], graphs: bool) -> None:
        super().__init__()
        self.network, self.say, self.graphs = network, say, graphs
        mode = "reduce-overhead" if graphs else "default"
        self.compiled: Callable[[torch.Tensor], torch.Tensor] | None = torch.compile(
            network.forward, mode=mode, dynamic=False
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.training and self.compiled is not None:
            try:
                if self.graphs:
                    torch.compiler.cudagraph_mark_step_begin()
                return self.compiled(pictures)
            except Exception as error:
                # Dynamo, the compiler and the driver raise many types for "cannot be had".
                if out_of_memory(error):
                    raise
                self.compiled = None
                # Dynamo's first line names the backend that failed, the second what it said.
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                reason = " ".join(lines[:2]) or type(error).__name__
                self.say(f"the network cannot be compiled here ({reason}): training goes on without.")
        logits: torch.Tensor = self.network(pictures)
        return logits
