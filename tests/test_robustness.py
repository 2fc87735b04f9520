from __future__ import annotations

import numpy as np
import pytest

from hemascope.corrupt import MEDMNIST_C
from hemascope.robustness import ALEXNET, ALEXNET_CLEAN, _expanded, chain_interval, relative_errors


def test_alexnet_has_an_error_for_every_corruption_of_the_benchmark() -> None:
    assert set(ALEXNET) == set(MEDMNIST_C)
    assert all(error > ALEXNET_CLEAN for error in ALEXNET.values())


def test_errors_relative_to_alexnet_are_those_of_the_paper() -> None:
    errors = {"jpeg": [0.02, 0.04, 0.06, 0.08, 0.10], "bubble": [0.129] * 5, "fog": [0.5] * 5}
    found = relative_errors(errors, clean=0.01)
    assert set(found) == {"jpeg", "bubble"}
    assert found["jpeg"].be == pytest.approx(0.06 / 0.1398)
    assert found["jpeg"].rbe == pytest.approx((0.06 - 0.01) / (0.1398 - 0.01837))
    assert found["bubble"].be == pytest.approx(1.0)


def test_alexnet_itself_has_the_errors_one() -> None:
    found = relative_errors({name: [error] * 5 for name, error in ALEXNET.items()}, ALEXNET_CLEAN)
    assert all(error == pytest.approx((1.0, 1.0)) for error in found.values())


def mixes(families: int, cells: int, seed: int, harm: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Right answers (3, cells) and chains (3, cells, 3), where each family takes its harm from what is right."""
    rng = np.random.default_rng(seed)
    harm = rng.uniform(0.0, 0.3, families) if harm is None else harm
    chains = np.argsort(rng.random((3, cells, families)), axis=2)[:, :, :3]
    return rng.random((3, cells)) < 0.95 - harm[chains].sum(2), chains


def width(values: np.ndarray, chains: np.ndarray, groups: np.ndarray) -> float:
    low, high = chain_interval(values, chains, groups, draws=400)
    assert low <= values.mean() <= high
    return float(high - low)


def test_the_interval_is_wider_with_fewer_families_and_with_fewer_groups() -> None:
    harm = np.tile([0.0, 0.0, 0.1, 0.25], 6)
    few, many = mixes(8, 600, 0, harm[:8]), mixes(24, 600, 0, harm)
    own = np.arange(600)
    assert width(*few, own) > 1.25 * width(*many, own)
    alike = np.repeat(np.random.default_rng(5).random((3, 20)) < 0.7, 30, axis=1)
    assert width(alike, many[1], own // 30) > 1.25 * width(alike, many[1], own)


def test_values_count_as_much_as_their_weights_say() -> None:
    values, chains = mixes(12, 100, 1)
    own = np.arange(100)
    alike = chain_interval(values, chains, own, np.full(values.shape, 7.0), draws=200)
    assert alike == pytest.approx(chain_interval(values, chains, own, draws=200))
    counted = np.broadcast_to(own % 2 == 0, values.shape)
    other = np.where(counted, values, ~values)
    some = chain_interval(values, chains, own, counted, draws=200)
    assert some == pytest.approx(chain_interval(other, chains, own, counted, draws=200))
    assert some != pytest.approx(alike)


def test_copies_add_no_certainty() -> None:
    values, chains = mixes(12, 100, 1)
    alone = chain_interval(values, chains, np.arange(100), draws=200)
    twice = np.concatenate([np.arange(100)] * 4)
    copied = chain_interval(values[:, twice], chains[:, twice], twice, draws=200)
    assert copied == pytest.approx(alone)


def test_the_interval_covers_what_other_families_and_cells_would_show() -> None:
    rng = np.random.default_rng(2)
    truth = 0.95 - 3 * 0.15  # the mean harm of a family, three of them in a chain
    covered = []
    for seed in range(60):
        values, chains = mixes(20, 200, seed, rng.uniform(0.0, 0.3, 20))
        low, high = chain_interval(values, chains, np.arange(200), draws=200)
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.93


def test_cells_alone_would_promise_too_much() -> None:
    values, chains = mixes(11, 900, 3)
    cells = float(np.std([np.random.default_rng(s).choice(values.mean(0), 900).mean() for s in range(200)]))
    assert width(values, chains, np.arange(900)) > 3 * 2 * 1.96 * cells


def test_few_families_stretch_the_percentiles_as_their_number_asks() -> None:
    assert _expanded(0.025, 11) == pytest.approx(0.0097, abs=2e-4)  # Hesterberg: t of 10 degrees times sqrt(11 / 10)
    assert _expanded(0.025, 100_000) == pytest.approx(0.025, abs=1e-4)
    assert _expanded(0.025, 1) == 0.025


def test_what_never_varies_has_no_width() -> None:
    low, high = chain_interval(np.ones((3, 40)), mixes(9, 40, 4)[1], np.arange(40), draws=100)
    assert low == high == 1.0


@pytest.mark.parametrize(
    ("values", "chains", "groups"),
    [((40,), (1, 40, 3), 40), ((3, 40), (3, 39, 3), 40), ((3, 40), (3, 40), 40), ((3, 40), (3, 40, 3), 39)],
)
def test_shapes_that_do_not_fit_are_refused(values: tuple[int, ...], chains: tuple[int, ...], groups: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        chain_interval(np.ones(values), np.zeros(chains, np.int64), np.arange(groups))
