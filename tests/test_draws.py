from __future__ import annotations

import numpy as np
from scipy import stats

from hemascope import draws

ROWS = np.arange(4000, dtype=np.int64)
EXPECTED = [11413401085597433030, 2955918975588165984]


def test_a_draw_is_the_same_in_any_company() -> None:
    alone = draws.uniform(7, 3, np.array([123]), "jitter", 4)
    among = draws.uniform(7, 3, ROWS, "jitter", 4)[123]
    assert (alone[0] == among).all()


def test_draws_are_uniform_and_unrelated() -> None:
    values = draws.uniform(1, 0, ROWS, "jitter", 3)
    assert values.min() >= 0
    assert values.max() < 1
    for column in values.T:
        assert stats.chisquare(np.histogram(column, 20, (0, 1))[0]).pvalue > 1e-4
    others = [
        draws.uniform(2, 0, ROWS, "jitter", 3),
        draws.uniform(1, 1, ROWS, "jitter", 3),
        draws.uniform(1, 0, ROWS, "affine", 3),
        draws.uniform(1, 0, ROWS + 4000, "jitter", 3),
    ]
    for other in others:
        assert abs(np.corrcoef(values[:, 0], other[:, 0])[0, 1]) < 0.06
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.06


def test_the_numbers_never_change() -> None:
    # A run that is repeated years later must draw the same: these were drawn when the function was written.
    found = draws.words(0, 0, np.array([0, 1], np.int64), "order")[:, 0]
    assert found.tolist() == EXPECTED


def test_an_order_holds_each_row_once_and_changes_with_the_epoch() -> None:
    first, second = draws.permutation(0, 0, 500), draws.permutation(0, 1, 500)
    assert sorted(first.tolist()) == list(range(500))
    assert (first != second).any()


def test_a_word_fits_a_generator() -> None:
    assert all(0 <= draws.word(0, epoch, 5, "dropout") < 2**63 for epoch in range(50))
