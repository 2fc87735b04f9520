from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hemascope.errors import InputError
from hemascope.optimization import FUSED, OPTIMIZERS, WARM_UP, build_optimizer, rate_share
from hemascope.recipe import Recipe


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_norms_biases_and_frozen_weights(name: str, tiny: Callable[..., Recipe]) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    network[2].requires_grad_(False)
    optimizer = build_optimizer(network, tiny(optimizer=name, weight_decay=0.1), 0.01)
    decayed, plain = optimizer.param_groups
    assert [parameter.shape for parameter in decayed["params"]] == [(3, 4)]
    assert len(plain["params"]) == 3
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert decayed["lr"] == 0.01
    assert bool(decayed.get("fused")) == (name in FUSED)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_it_is_fused_unless_the_recipe_says_otherwise(name: str, tiny: Callable[..., Recipe]) -> None:
    recipe = tiny(optimizer=name, fused=True)
    if name not in FUSED:
        with pytest.raises(InputError, match=f"recipe 'tiny': {name} cannot be fused; leave 'fused' out, or take one"):
            build_optimizer(nn.Linear(4, 3), recipe, 0.01)
        return
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    second.load_state_dict(first.state_dict())
    for network, chosen in ((first, recipe), (second, tiny(optimizer=name, fused=False))):
        optimizer = build_optimizer(network, chosen, 0.01)
        assert bool(optimizer.param_groups[0].get("fused")) == bool(chosen.fused)
        for _ in range(3):
            network(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
    assert torch.allclose(first.weight, second.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "warm_up", "rise"), [("one_cycle", None, WARM_UP["one_cycle"]), ("cosine", 0.3, 0.3)]
)
def test_the_rate_rises_to_its_top_and_falls_to_almost_nothing(
    schedule: str, warm_up: float | None, rise: float
) -> None:
    values = [rate_share(schedule, step / 1000, warm_up) for step in range(1000)]
    peak = values.index(max(values))
    assert peak == round(rise * 1000)
    assert max(values) == pytest.approx(1.0)
    assert values[0] == pytest.approx(0.05)
    assert values[-1] < 0.002
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_without_a_warm_up_the_rate_starts_at_its_top() -> None:
    assert rate_share("cosine", 0.0) == 1.0
    assert rate_share("cosine", 0.5) == pytest.approx(0.5)
    assert {rate_share("constant", 0.1), rate_share("plateau", 0.9), rate_share("constant", 0.5, 0.5)} == {1.0}
