from __future__ import annotations

import pytest

from hemascope.wording import capitalised, every, listed, many


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures"), (1200, "1,200 pictures")]
)
def test_one_is_said_otherwise_than_many(count: int, said: str) -> None:
    assert many(count, "picture") == said


def test_a_word_may_have_a_plural_of_its_own_and_a_verb_behind_it() -> None:
    assert (many(1, "class", "classes"), many(3, "class", "classes")) == ("1 class", "3 classes")
    assert (many(1, "row is", "rows are"), many(0, "row is", "rows are")) == ("1 row is", "0 rows are")


def test_all_of_one_is_that_one() -> None:
    assert (every(1, "picture"), every(1200, "picture")) == ("the one picture", "all 1,200 pictures")
    assert every(2, "picture is", "pictures are") == "all 2 pictures are"


def test_names_are_listed_as_a_sentence_lists_them() -> None:
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_a_capital_leaves_the_rest_of_a_word_alone() -> None:
    assert capitalised("JPEG quality") == "JPEG quality"
    assert capitalised("border") == "Border"
    assert capitalised("") == ""
