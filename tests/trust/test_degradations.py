"""Batches that are degraded alike: which there are, and that they are what their steps say."""

from __future__ import annotations

import numpy as np

from hemascope.corrupt import FAMILIES, HELD_OUT, MEDMNIST_C, compose, corrupt
from hemascope.data import Cells
from hemascope.trust.degradations import CLEAN, Degradation, degradations


def test_a_degradation_is_its_steps_one_after_the_other(drawn: Cells) -> None:
    images, rows = np.asarray(drawn.images[:6]), np.arange(6)
    both = Degradation((("jpeg", 3), ("defocus_blur", 2)))
    expected = corrupt(corrupt(images, "jpeg", 3, seed=4, rows=rows), "defocus_blur", 2, seed=4, rows=rows)
    np.testing.assert_array_equal(both.applied(images, seed=4, rows=rows), expected)
    mixed = Degradation((("mild", 0),))
    np.testing.assert_array_equal(mixed.applied(images, seed=4, rows=rows), compose(images, "mild", seed=4, rows=rows))
    np.testing.assert_array_equal(CLEAN.applied(images, seed=4, rows=rows), images)
    assert (CLEAN.title, both.title, mixed.title) == ("clean", "jpeg 3, defocus_blur 2", "mild")
    assert both.families == {"jpeg", "defocus_blur"}
    assert mixed.families == set(MEDMNIST_C)
    assert Degradation((("hidden-unseen", 0),)).families == set(HELD_OUT)
    assert not CLEAN.families


def test_every_family_occurs_alone_and_in_chains() -> None:
    for families in (MEDMNIST_C, HELD_OUT, MEDMNIST_C[::2]):
        found = degradations(families)
        alone = [each for each in found if len(each.steps) == 1]
        chains = [each for each in found if len(each.steps) > 1]
        assert {family for each in alone for family in each.families} == set(families)
        assert len(alone) == 3 * len(families)
        assert len(chains) == 16
        assert all(len(each.families) == len(each.steps) for each in chains)
        assert {family for each in chains for family in each.families} <= set(families)
        assert {severity for each in chains for _, severity in each.steps} == {3, 4, 5}
        assert len({each.title for each in found}) == len(found)
    assert degradations() == degradations(MEDMNIST_C)
    assert set(MEDMNIST_C) <= set(FAMILIES)


def test_one_family_makes_chains_of_itself_alone() -> None:
    assert all(each.families == {"jpeg"} for each in degradations(["jpeg"], chains=3))


def test_rows_are_drawn_anew_for_each_degradation() -> None:
    first, second = (each.rows(100, 20, seed=1) for each in degradations()[:2])
    assert len(set(first.tolist())) == 20
    assert (np.diff(first) > 0).all()
    assert set(first.tolist()) != set(second.tolist())
    assert CLEAN.rows(15, 20, seed=1).tolist() == list(range(15))
