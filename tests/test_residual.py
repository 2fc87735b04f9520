from __future__ import annotations

import pytest
import timm
import torch

from hemascope.residual import CellResidual


@pytest.mark.parametrize("side", [96, 64, 50, 128])
def test_it_takes_pictures_of_any_size(side: int) -> None:
    network = CellResidual().eval()
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 256)
    assert network.forward_features(torch.zeros(2, 3, side, side)).shape[1] == 256


def test_timm_makes_it_by_name_and_it_is_small() -> None:
    network = timm.create_model("cell_residual", num_classes=8)
    assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 8)
    assert sum(parameter.numel() for parameter in network.parameters()) < 3e6


def test_the_deep_one_has_more_blocks_at_the_same_resolutions() -> None:
    network = timm.create_model("cell_residual_deep", num_classes=8)
    assert isinstance(network, CellResidual)
    assert network.forward_features(torch.zeros(1, 3, 96, 96)).shape == (1, 384, 3, 3)
    assert len(network.blocks) == 9
    assert 6.9e6 < sum(parameter.numel() for parameter in network.parameters()) < 1e7


@pytest.mark.parametrize("name", ["cell_residual", "cell_residual_deep"])
def test_it_has_no_pretrained_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no pretrained weights"):
        timm.create_model(name, pretrained=True)


def test_a_new_block_is_the_way_past_it() -> None:
    network = CellResidual(widths=(8, 16), depths=(1, 1))
    x = torch.rand(4, 8, 6, 6)
    assert torch.equal(network.blocks[0](x), torch.relu(x))
