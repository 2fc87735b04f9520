from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from hemascope.optimization import OPTIMIZERS, SCHEDULES, WARM_UP, build_optimizer
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


def test_one_cycle_rises_to_the_rate_and_falls_to_almost_nothing() -> None:
    schedule = SCHEDULES["one_cycle"]
    values = [schedule(step / 1000) for step in range(1000)]
    peak = values.index(max(values))
    assert peak == round(WARM_UP * 1000)
    assert max(values) == pytest.approx(1.0)
    assert values[0] == pytest.approx(0.05)
    assert values[-1] < 0.002
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_cosine_and_constant() -> None:
    assert SCHEDULES["cosine"](0.0) == 1.0
    assert SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
    assert {SCHEDULES["constant"](0.1), SCHEDULES["plateau"](0.9)} == {1.0}
