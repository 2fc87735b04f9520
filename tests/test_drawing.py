from __future__ import annotations

import pandas as pd

from hemascope.drawing import typical_answers
from hemascope.run import Run


def test_the_report_of_a_run_shows_where_it_looks(finished: Run) -> None:
    page = finished.report.read_text(encoding="utf-8")
    assert (finished.figures / "heat_maps_right.png").is_file()
    assert page.count("<h3>Where it looks</h3>") == 1
    assert ("Where it looked when it was wrong" in page) == (finished.figures / "heat_maps_wrong.png").is_file()


def test_a_typical_answer_is_the_right_one_of_middling_confidence() -> None:
    table = pd.DataFrame(
        {
            "id": list("abcdef"),
            "label": ["x", "x", "x", "y", "x", "y"],
            "predicted": ["x", "x", "x", "x", "x", "x"],
            "confidence": [0.9, 0.5, 0.7, 0.8, 0.95, 0.6],
            "correct": [True, True, True, False, True, False],
            "left_out": [False, False, False, False, True, False],
            "p_x": 0.5,
            "p_y": 0.5,
        }
    )
    (only,) = typical_answers(table)
    assert only == {"row": 2, "id": "c", "label": "x", "predicted": "x", "confidence": 0.7}
