from __future__ import annotations

import numpy as np
import pytest

from hemascope.data import Cells
from hemascope.preparation.square import at_scale
from hemascope.runtime import Answers, load_model
from hemascope.synthetic import draw_cells
from hemascope.trust.reference import fit_reference
from hemascope.trust.scale import FAR, SCALE, CellSizes
from hemascope.trust.verdict import Verdict, kind_of, verdict_of


@pytest.fixture(scope="module")
def cells() -> Cells:
    return draw_cells(120, seed=2, size=96)


@pytest.fixture(scope="module")
def sizes(cells: Cells) -> CellSizes:
    return CellSizes.of(fit_reference(cells.images, cells.labels, cells.class_names, held_out_answers=cells.labels))


def test_cells_of_another_scale_are_marked_and_usual_ones_are_not(cells: Cells, sizes: CellSizes) -> None:
    images = np.asarray(cells.images[:])
    usual, wide = (sizes.reasons(at_scale(images, field), cells.labels) for field in (1.0, 2.5))
    assert np.mean([bool(reason) for reason in usual]) < 0.05
    marked = [reason for reason in wide if reason]
    assert len(marked) > 0.5 * len(images)
    assert all(
        reason.startswith(f"{SCALE}: the cell is ") and "% smaller across than a usual " in reason for reason in marked
    )


def test_a_class_that_nothing_is_known_of_and_a_picture_without_a_cell_are_not_judged(sizes: CellSizes) -> None:
    unknown = CellSizes(sizes.class_names, np.full(8, np.nan), sizes.deviation)
    glass = np.full((2, 96, 96, 3), 230, np.uint8)
    assert sizes.reasons(glass, np.array([0, 1])) == ["", ""]
    assert unknown.reasons(np.asarray(draw_cells(2, seed=0).images), np.array([0, 1])) == ["", ""]
    assert FAR > 2.5


def test_the_verdict_says_so_where_it_has_the_pictures(cells: Cells, sizes: CellSizes) -> None:
    images = at_scale(np.asarray(cells.images[:40]), 3.0)
    sure = np.full((40, 8), 0.001, np.float32)
    sure[np.arange(40), cells.labels[:40]] = 0.993
    answers = Answers(sure, np.zeros(40, np.float32), np.zeros((40, 2), np.float32))
    verdict = Verdict(0.5, sizes=sizes)
    assert verdict.why_not(answers) == [[]] * 40
    assert any(kind_of(reason) == SCALE for each in verdict.why_not(answers, images) for reason in each)
    shipped = verdict_of(load_model("small"))
    assert shipped.sizes is not None
    assert "sizes" not in shipped.thresholds()
