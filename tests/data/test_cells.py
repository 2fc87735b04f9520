from __future__ import annotations

import numpy as np

from hemascope.data import Cells
from hemascope.synthetic import draw_cells


def test_cells_tell_in_a_line_what_they_are() -> None:
    cells = draw_cells(16, seed=0)
    assert repr(cells).startswith("<Cells: 16 pictures of 96 x 96 pixels, 16 labelled, 8 classes, from ")
    one = Cells(np.asarray(cells.images[:1]), np.array([-1]), cells.class_names, cells.ids[:1])
    assert repr(one) == "<Cells: 1 picture of 96 x 96 pixels, 0 labelled, 0 classes, from memory>"
