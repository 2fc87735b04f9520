from __future__ import annotations

import torch
from torch import nn

from hemascope.average import WeightAverage


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_average_follows_the_weights_by_its_decay() -> None:
    net = network()
    average = WeightAverage(net, 0.9)
    before = average.frozen()["0.weight"]
    with torch.no_grad():
        net.get_parameter("0.weight").add_(1.0)
    average.update(10_000)
    assert torch.allclose(average.values["0.weight"], before + 0.1)
    average.update(0)
    # At first its memory is short: 1 / 10 of the old average stays.
    assert torch.allclose(average.values["0.weight"], before + 0.1 + 0.9 * 0.9)


def test_the_network_computes_with_it_inside_the_block_only() -> None:
    net = network()
    average = WeightAverage(net, 0.9)
    old = average.frozen()["0.weight"]
    with torch.no_grad():
        net.get_parameter("0.weight").add_(1.0)
    with average.in_network():
        assert torch.equal(net.state_dict()["0.weight"], old)
    assert torch.equal(net.state_dict()["0.weight"], old + 1.0)


def test_without_decay_it_is_the_network_itself() -> None:
    net = network()
    average = WeightAverage(net, 0.0)
    with torch.no_grad():
        net.get_parameter("0.weight").fill_(2.0)
    assert float(average.values["0.weight"][0, 0]) == 2.0
    assert float(average.frozen()["0.weight"][0, 0]) == 2.0
