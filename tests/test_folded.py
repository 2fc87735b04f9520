from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import hemascope.residual  # noqa: F401  registers cell_residual
from hemascope.folded import folded

EXAMPLE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def with_statistics(network: nn.Module) -> nn.Module:
    """Normalisations as after a training: no mean is 0, no variance 1."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def normalisations(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "left"), [("cell_residual", 0), ("test_resnet", 0), ("densenet121", 62), ("mobilenetv2_100", 0)]
)
def test_a_folded_network_gives_the_same(name: str, left: int) -> None:
    network = with_statistics(timm.create_model(name, num_classes=3))
    smaller = folded(network, EXAMPLE)
    assert normalisations(smaller) == left < normalisations(network)
    with torch.inference_mode():
        before, after = network(EXAMPLE), smaller(EXAMPLE)
    assert (before - after).abs().max() < 1e-3 * before.abs().max()


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.convolution(pictures)
        found: torch.Tensor = seen.mean((2, 3)) + self.norm(seen).relu().mean((2, 3))
        return found


def test_what_is_used_twice_stays() -> None:
    network = with_statistics(Twice())
    smaller = folded(network, EXAMPLE)
    assert normalisations(smaller) == 1
    with torch.inference_mode():
        assert torch.equal(smaller(EXAMPLE), network(EXAMPLE))
