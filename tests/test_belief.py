from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hemascope.belief import constant_answer, promises, reasons_to_believe, without_labels
from hemascope.runtime import ONE_ANSWER


def scores(accuracy: float = 0.97, half: float = 0.01, **others: Any) -> dict[str, Any]:
    return {"n": 1000, "accuracy": accuracy, "accuracy_interval": [accuracy - half, accuracy + half], **others}


def divided(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"id": list("abcd"), "split": ["train", "train", "test", "validation"], **columns})


def titles(metrics: dict[str, Any], split: pd.DataFrame | None = None, scored_on: str = "test") -> dict[str, str]:
    return {check["title"]: check["kind"] for check in reasons_to_believe(metrics, scored_on, split)}


def test_unknown_patients_are_the_first_thing_said() -> None:
    checks = reasons_to_believe({"test": scores()}, "test", divided(group=[np.nan] * 4, pixel_hash=list("wxyz")))
    assert checks[0]["title"] == "Patients are unknown"
    assert "new patients" in checks[0]["text"]
    assert {"No picture stands in two splits": "good"}.items() <= {c["title"]: c["kind"] for c in checks}.items()


def test_patients_and_pictures_on_both_sides_are_counted() -> None:
    found = titles({"test": scores()}, divided(group=["p", "q", "p", "r"], pixel_hash=["1", "2", "1", "2"]))
    assert found["1 of 3 groups stands in two splits"] == "care"
    assert found["2 pictures stand in two splits"] == "care"
    clean = titles({"test": scores()}, divided(group=["p", "p", "q", "r"], pixel_hash=list("wxyz")))
    assert clean["No patient or slide stands in two splits"] == "good"


def test_what_corruption_costs_is_told_beside_the_accuracy() -> None:
    checks = reasons_to_believe({"test": scores(0.97), "stress": {"test": {"stress_score": 0.71}}}, "test", None)
    costly = next(check for check in checks if check["title"] == "Corruption costs it 26 points")
    assert costly["kind"] == "care"
    assert "stress score 0.7100" in costly["text"]
    assert "does not forecast your hidden test" in costly["text"]
    steady = {"test": scores(0.97), "stress": {"test": {"stress_score": 0.9}}}
    assert titles(steady)["It holds under simulated corruption"] == "good"
    assert not [title for title in titles({"test": scores()}) if "orruption" in title]


def test_a_model_no_better_than_one_answer_is_not_praised_for_steadiness() -> None:
    metrics = {
        "test": scores(0.2),
        "baseline": {"class": "neutrophil", "accuracy": 0.2},
        "stress": {"test": {"stress_score": 0.2}},
    }
    assert not [title for title in titles(metrics) if "orruption" in title]


def test_rows_that_no_split_uses_do_not_count() -> None:
    table = divided(group=["p", "q", "p", "r"], pixel_hash=list("wxyz"))
    table["split"] = ["unused", "train", "test", "validation"]
    assert titles({"test": scores()}, table)["No patient or slide stands in two splits"] == "good"


def test_small_tests_and_small_classes_ask_for_care() -> None:
    rows = [{"class": "basophil", "support": 9}, {"class": "monocyte", "support": 0}, {"class": "x", "support": 90}]
    checks = {c["title"]: c for c in reasons_to_believe({"test": scores(half=0.04, per_class=rows)}, "test", None)}
    assert checks["The test is small"]["text"] == (
        "1,000 pictures pin the accuracy to within 8.0 points (95% interval); more pictures would narrow it."
    )
    assert "basophil (9)" in checks["Some classes have few test pictures"]["text"]
    assert "monocyte" in checks["Some classes were not tested"]["text"]
    assert titles({"test": scores()})["The test is large enough"] == "good"


def test_the_test_is_held_against_validation() -> None:
    assert titles({"test": scores(), "validation": scores()})["The test bears out validation"] == "good"
    behind = titles({"test": scores(0.90), "validation": scores()})
    assert behind["The test falls behind validation"] == "care"
    assert titles({"validation": scores()}, scored_on="validation")["There is no test score"] == "care"


def test_confidence_is_judged_by_its_calibration_error() -> None:
    for error, kind in ((0.01, "good"), (0.2, "care")):
        found = titles({"test": scores(calibration={"expected_calibration_error": error})})
        assert kind in {value for title, value in found.items() if "confidence" in title}


def test_the_weights_and_further_files_are_told() -> None:
    assert "Trained from random weights" in titles({"test": scores(), "weights": "random"})
    assert "Trained from pretrained weights" in titles({"test": scores(), "weights": "ImageNet (timm)"})
    assert "One source only" in titles({"test": scores()})
    leaked = {"test": scores(), "files": {"public.npz": scores(left_out={"count": 5, "of": 1712})}}
    checks = {check["title"]: check["text"] for check in reasons_to_believe(leaked, "test", None)}
    assert "5 of public.npz" in checks["Known pictures were left out of the further files"]
    assert "One source only" not in checks


def test_a_model_that_one_answer_for_all_could_match_is_not_believed() -> None:
    rows = [{"class": "a", "support": 60}, {"class": "b", "support": 40}]
    title = "It may be no better than one answer for all"
    assert constant_answer({"per_class": rows}) == {"class": "a", "accuracy": 0.6}
    assert titles({"test": scores(0.62, half=0.05, per_class=rows)})[title] == "care"
    assert title not in titles({"test": scores(0.70, half=0.05, per_class=rows)})


def test_the_baseline_is_not_held_against_itself() -> None:
    rows = [{"class": "a", "support": 60}, {"class": "b", "support": 40}]
    alarms = {"It may be no better than one answer for all", "The test falls behind validation"}
    metrics = {"test": scores(0.6, half=0.05, per_class=rows), "validation": scores(0.7), "files": {}}
    assert alarms <= set(titles(metrics))
    for told in (metrics | {"weights": ONE_ANSWER}, {"test": metrics["test"] | {"weights": ONE_ANSWER}}):
        found = titles(told)
        assert found["This is the baseline"] == "know"
        assert not alarms & set(found)
        assert not [title for title in found if title.startswith("Trained from")]


def test_pictures_of_one_class_alone_do_not_accuse_the_model() -> None:
    rows = [{"class": "a", "support": 1000}, {"class": "b", "support": 0}]
    found = titles({"test": scores(0.97, per_class=rows), "stress": {"test": {"stress_score": 0.5}}})
    assert "It may be no better than one answer for all" not in found
    assert found["Some classes were not tested"] == found["Corruption costs it 47 points"] == "care"


def test_a_test_of_few_patients_is_called_that() -> None:
    one = titles({"test": scores()}, divided(group=["p", "p", "q", "r"], pixel_hash=list("wxyz")))
    assert one["The test is 1 patient or slide"] == "care"
    many = pd.DataFrame({"split": ["train"] + ["test"] * 12, "group": [f"p{row}" for row in range(13)]})
    assert not [title for title in titles({"test": scores()}, many) if title.startswith("The test is 1")]


def test_a_model_no_better_than_one_answer_is_not_praised_for_its_confidence() -> None:
    calibration = {"expected_calibration_error": 0.01}
    useless = {"test": scores(0.2, calibration=calibration), "baseline": {"class": "neutrophil", "accuracy": 0.2}}
    assert "Its confidence means something" not in titles(useless)
    useful = {"test": scores(0.97, calibration=calibration), "baseline": {"class": "neutrophil", "accuracy": 0.2}}
    assert titles(useful)["Its confidence means something"] == "good"


def test_pictures_that_were_changed_are_told_first() -> None:
    done = {"field": 1.4, "colours": None, "notes": ["scale: 1.4 of each side"]}
    checks = reasons_to_believe({"test": scores(preparation=done)}, "test", None)
    assert checks[0]["title"] == "The pictures were changed before they were named"
    assert "Scale: 1.4 of each side" in checks[0]["text"]
    untouched = {"field": 1.0, "colours": None, "notes": ["scale and stain: as they are"]}
    assert "The pictures were changed before they were named" not in titles({"test": scores(preparation=untouched)})


def test_pictures_unlike_those_of_training_ask_for_care() -> None:
    trust = {"drift": [{"sentence": "darker background, 3.1 s.d."}], "strange": 0.4, "usual_kept": 0.95, "rows": 100}
    found = titles({"test": scores(trust=trust)})
    assert found["These pictures differ from those of training"] == "care"
    assert found["Many are unlike any training picture"] == "care"
    # 7 of 104 may be chance where 5 of 100 are usual.
    for strange, rows in ((0.05, 1000), (7 / 104, 104)):
        usual = titles({"test": scores(trust={"drift": [], "strange": strange, "usual_kept": 0.95, "rows": rows})})
        assert not {"These pictures differ from those of training", "Many are unlike any training picture"} & set(usual)


def test_a_promise_is_broken_only_beyond_chance() -> None:
    def title(wrong: int, answered: int) -> str:
        here = {"answered": 1.0, "error": wrong / answered}
        told = scores(trust={"rejection": {"max_error": 0.01, "here": here}}) | {"n": answered}
        return next(check["title"] for check in promises(told))

    assert title(1, 99) == "It knows when not to answer"
    assert title(4, 99) == "It is wrong more often than promised where it is sure"


def test_classes_of_few_pictures_are_all_or_some() -> None:
    rows = [{"class": "basophil", "support": 9}, {"class": "monocyte", "support": 0}]
    assert titles({"test": scores(per_class=rows)})["All classes have few test pictures"] == "care"


def test_a_spot_check_is_praised_only_where_most_are_right() -> None:
    def kind(low: float) -> str:
        checked = {"right": 9, "labelled": 10, "low": low, "high": 1.0}
        return without_labels({"rows": 9, "spot_check": checked})[0]["kind"]

    assert kind(0.95) == "good"
    assert kind(0.5) == "care"
