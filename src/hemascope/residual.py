"""A plain residual network for small pictures, known to timm as `cell_residual`.

At 96 pixels a network made for 224 leaves its last stages 3 x 3 places and spends most of a CPU's time on its first
ones. This one cuts the picture into overlapping patches of 6 x 6 every 4 pixels, and then has one residual block each
at 24 x 24, 12 x 12, 6 x 6 and 3 x 3 places: dense convolutions, which two CPU cores are best at. He et al., Deep
residual learning for image recognition, 2016; the mean instead of a stride on the way past a block after He et al.,
Bag of tricks for image classification with convolutional neural networks, 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import nn

WIDTHS = (48, 96, 192, 256)
PATCH, STRIDE = 6, 4


class Block(nn.Module):
    """Two convolutions of 3 x 3 beside a way past them; float (n, c, h, w) -> (n, width, h / stride, w / stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.past: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
            self.past = nn.Sequential(pool, nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.past(x))


class CellResidual(nn.Module):
    """float (n, in_chans, h, w) -> the mean of the last feature map (n, widths[-1]), or logits (n, num_classes)."""

    def __init__(self, widths: Sequence[int] = WIDTHS, num_classes: int = 0, in_chans: int = 3) -> None:
        super().__init__()
        self.num_features = widths[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, widths[0], PATCH, STRIDE, (PATCH - STRIDE) // 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        before = (widths[0], *widths)
        self.blocks = nn.Sequential(*(Block(before[at], width, 1 if at == 0 else 2) for at, width in enumerate(widths)))
        self.classifier: nn.Module = nn.Linear(widths[-1], num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Block):
                # Each block begins as the way past it, so that depth does not stand in the way of the first steps.
                nn.init.zeros_(module.second_norm.weight)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last feature map: float (n, widths[-1], h / 32, w / 32)."""
        found: torch.Tensor = self.blocks(self.stem(x))
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.classifier(self.forward_features(x).mean((2, 3)))
        return found


@register_model
def cell_residual(pretrained: bool = False, **options: Any) -> CellResidual:
    """The network of the recipe `small`. There are no weights of it on any hub: pretrained must be False."""
    if pretrained:
        raise ValueError("cell_residual has no pretrained weights; train it from random ones.")
    return CellResidual(
        **{name: value for name, value in options.items() if name in ("widths", "num_classes", "in_chans")}
    )
