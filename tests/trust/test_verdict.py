from __future__ import annotations

import numpy as np
import pytest

from hemascope.errors import InputError
from hemascope.run import Run
from hemascope.runtime import Answers, load_model
from hemascope.trust.verdict import OUTLIER, UNSURE, Verdict, kind_of, kinds, verdict_of


def answers(*confidences: float, strange: float = 0.0) -> Answers:
    rows = np.array([[value, 1 - value] for value in confidences], np.float32)
    return Answers(rows, np.full(len(rows), strange, np.float32), np.zeros((len(rows), 3), np.float32))


def test_low_confidence_is_a_reason_and_says_so() -> None:
    judged = Verdict(0.8).why_not(answers(0.79, 0.8, 0.1))
    assert [len(reasons) for reasons in judged] == [1, 0, 0]  # 0.1 leaves 0.9 for the other class
    assert judged[0] == ["unsure: the highest probability is 0.79, below 0.80."]
    assert kind_of(judged[0][0]) == UNSURE


def test_a_strange_picture_is_a_reason_however_sure_the_model_is() -> None:
    judged = Verdict(0.8, 0.01, 2.0).why_not(answers(0.99, 0.7, strange=2.5))
    assert [[kind_of(reason) for reason in each] for each in judged] == [[OUTLIER], [OUTLIER, UNSURE]]
    assert kinds(judged).tolist() == ["outlier", "outlier; unsure"]
    assert Verdict(0.8, 0.01, 2.5).why_not(answers(0.99, strange=2.5)) == [[]]


def test_what_is_no_number_is_not_trusted() -> None:
    assert Verdict().why_not(answers(float("nan")))[0]
    assert Verdict(0.5, None, 1.0).why_not(answers(0.9, strange=float("nan")))[0]


def test_a_model_is_judged_by_what_its_file_knows() -> None:
    model = load_model("small")
    verdict = verdict_of(model)
    assert model.trust is not None
    assert verdict.max_error == 0.01
    assert verdict.outlier_score == model.trust.outliers.value  # type: ignore[union-attr]
    assert verdict.why_not(answers(0.99)) == [[]]
    lax = verdict_of(model, 0.05)
    assert lax.confidence < verdict.confidence
    assert set(lax.thresholds()) == {"confidence", "max_error", "outlier_score"}


def test_a_risk_that_cannot_be_proved_is_refused(finished: Run) -> None:
    with pytest.raises(InputError, match="299"):
        verdict_of(load_model(finished.folder), 0.01)
