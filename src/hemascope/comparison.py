"""Two models on the same pictures: do they differ beyond chance?"""

from __future__ import annotations

from typing import Any

from hemascope import metrics
from hemascope.errors import InputError
from hemascope.evaluate import Evaluation
from hemascope.wording import many

CHANCE = 0.05
"""The p-value under which a difference between two models is called one."""


def compare(
    evaluation_a: Evaluation, evaluation_b: Evaluation, names: tuple[str, str] = ("the first", "the second")
) -> dict[str, Any]:
    """Whether two models differ beyond chance on the pictures that both were scored on, matched by id.

    Returns the counts and p-value of McNemar's test, the rows shared, both accuracies, and a sentence. Raises
    InputError when they share no picture, or a shared one has two labels.
    """
    columns = ["id", "label", "correct"]
    a, b = (each.predictions.loc[~each.predictions["left_out"], columns] for each in (evaluation_a, evaluation_b))
    shared = a.merge(b, on="id", suffixes=("_a", "_b"))
    if shared.empty:
        raise InputError(
            f"{names[0]} and {names[1]} were scored on no picture in common; evaluate both on the same file."
        )
    if len(other := shared[shared["label_a"] != shared["label_b"]]):
        row = other.iloc[0]
        raise InputError(
            f"{row['id']} is labelled {row['label_a']} for {names[0]} and {row['label_b']} for {names[1]}; "
            "evaluate both on the same file."
        )
    test = metrics.mcnemar(shared["correct_a"].to_numpy(), shared["correct_b"].to_numpy())
    accuracies = [float(shared[column].mean()) for column in ("correct_a", "correct_b")]
    if test.p < CHANCE:
        verdict = f"{names[0] if test.only_a > test.only_b else names[1]} is better beyond chance"
    else:
        verdict = "chance alone may explain the difference"
    if not test.only_a + test.only_b:
        verdict = "they are right on the same pictures"
    return {
        "rows": len(shared),
        "accuracy_a": accuracies[0],
        "accuracy_b": accuracies[1],
        **test._asdict(),
        "sentence": (
            f"On the {many(len(shared), 'picture')} that both were scored on, {names[0]} has an accuracy of "
            f"{accuracies[0]:.4f} and {names[1]} of {accuracies[1]:.4f}; {test.only_a:,} only {names[0]} names "
            f"rightly, {test.only_b:,} only {names[1]}: {verdict} (McNemar, p {_p_value(test.p)})."
        ),
    }


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
