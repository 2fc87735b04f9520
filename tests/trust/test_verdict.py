from __future__ import annotations

import numpy as np

from hemascope.runtime import Answers, load_model
from hemascope.trust.verdict import UNSURE, LeastConfidence, kind_of, verdict_of


def answers(*confidences: float) -> Answers:
    rows = np.array([[value, 1 - value] for value in confidences], np.float32)
    return Answers(rows, np.zeros(len(rows), np.float32), np.zeros((len(rows), 3), np.float32))


def test_low_confidence_is_a_reason_and_says_so() -> None:
    judged = LeastConfidence(0.8).why_not(answers(0.79, 0.8, 0.1))
    assert [len(reasons) for reasons in judged] == [1, 0, 0]  # 0.1 leaves 0.9 for the other class
    assert judged[0] == ["unsure: the highest probability is 0.79, below 0.80."]
    assert kind_of(judged[0][0]) == UNSURE


def test_what_is_no_number_is_not_trusted() -> None:
    assert LeastConfidence().why_not(answers(float("nan")))[0]


def test_a_model_has_a_verdict() -> None:
    assert verdict_of(load_model("small")).why_not(answers(0.99)) == [[]]
