"""A moving average of a network's weights, which is often better than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

Tensors = dict[str, torch.Tensor]


class WeightAverage:
    """The exponential moving average of the floating-point state of a network; with decay 0, that state itself.

    values: name -> tensor, as in the network's state_dict, on the network's device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        # Training changes these tensors in place; to gather them at each step takes longer than to average them.
        self.own = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
        self.values = self.own if decay == 0 else self._copy()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        if self.decay:
            # Early on the average would be of the first, random weights: its memory grows with the steps done.
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_([self.values[name] for name in self.own], list(self.own.values()), 1 - decay)

    def restore(self, values: Tensors) -> None:
        """Go on from values that were saved; with decay 0 they are the network's own and there is nothing to do."""
        if self.decay:
            for name, value in values.items():
                self.values[name].copy_(value)

    def frozen(self) -> Tensors:
        """A copy that later steps do not change."""
        return {name: value.detach().clone() for name, value in self.values.items()}

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Within the block the network computes with the average."""
        if not self.decay:
            yield
            return
        own = self._copy()
        self.network.load_state_dict(self.values, strict=False)
        try:
            yield
        finally:
            self.network.load_state_dict(own, strict=False)

    def _copy(self) -> Tensors:
        return {name: value.detach().clone() for name, value in self.own.items()}
