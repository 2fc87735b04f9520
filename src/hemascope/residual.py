"""Plain residual networks for small pictures, known to timm as `cell_residual` and `cell_residual_deep`.

At 96 pixels a network made for 224 leaves its last stages 3 x 3 places and spends most of a CPU's time on its first
ones. These cut the picture into overlapping patches of 6 x 6 every 4 pixels, and then have residual blocks at 24 x 24,
12 x 12, 6 x 6 and 3 x 3 places, one each or two to three: dense convolutions, which CPU cores are best at. He et al.,
Deep residual learning for image recognition, 2016; the mean instead of a stride on the way past a block after He et
al., Bag of tricks for image classification with convolutional neural networks, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import nn

WIDTHS, DEPTHS = (48, 96, 192, 256), (1, 1, 1, 1)
DEEP_WIDTHS, DEEP_DEPTHS = (48, 96, 192, 384), (2, 2, 3, 2)
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

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        num_classes: int = 0,
        in_chans: int = 3,
    ) -> None:
        """widths: channels at each of the resolutions, each half of the one before. depths: blocks at each."""
        super().__init__()
        self.num_features = widths[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, widths[0], PATCH, STRIDE, (PATCH - STRIDE) // 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        blocks, channels = [], widths[0]
        for at, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for number in range(depth):
                blocks.append(Block(channels, width, 2 if at > 0 and number == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
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
    return _built("cell_residual", WIDTHS, DEPTHS, pretrained, options)


@register_model
def cell_residual_deep(pretrained: bool = False, **options: Any) -> CellResidual:
    """The network of the recipe `robust`. There are no weights of it on any hub: pretrained must be False."""
    return _built("cell_residual_deep", DEEP_WIDTHS, DEEP_DEPTHS, pretrained, options)


def _built(
    name: str, widths: Sequence[int], depths: Sequence[int], pretrained: bool, options: Mapping[str, Any]
) -> CellResidual:
    if pretrained:
        raise ValueError(f"{name} has no pretrained weights; train it from random ones.")
    taken = {key: value for key, value in options.items() if key in ("widths", "depths", "num_classes", "in_chans")}
    return CellResidual(**{"widths": widths, "depths": depths} | taken)
