"""A network compiled for training, where launching kernels costs more than computing; else as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class Compiled(nn.Module):
    """Computes what `network` computes. In training torch.compile makes it faster, on a GPU with CUDA graphs too.

    The first batch takes a minute or more. Who trains calls `give_up` where compiling fails, forward or backward.
    graphs: whether the gradients of one batch are done with before the next begins, which CUDA graphs rely on.
    """

    def __init__(self, network: nn.Module, say: Callable[[str], None], graphs: bool) -> None:
        super().__init__()
        self.network, self.say = network, say
        self._compile(graphs)

    def _compile(self, graphs: bool) -> None:
        self.graphs = graphs
        mode = "reduce-overhead" if graphs else "default"
        self.compiled: Callable[[torch.Tensor], torch.Tensor] | None = torch.compile(
            self.network.forward, mode=mode, dynamic=False
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.training and self.compiled is not None:
            if self.graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return self.compiled(pictures)
        logits: torch.Tensor = self.network(pictures)
        return logits

    def without_graphs(self) -> None:
        """Let gradients of several batches be summed from now on."""
        if self.compiled is not None and self.graphs:
            self._compile(graphs=False)

    def give_up(self, error: Exception) -> None:
        """Go on without compiling, and say why. Raises the error where that was done already."""
        if self.compiled is None:
            raise error
        self.compiled = None
        # Dynamo's first line names the backend that failed, the second what it said.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
        self.say(f"the network cannot be compiled here ({reason}): training goes on without.")
