from __future__ import annotations

from dataclasses import replace

import numpy as np

from hemascope.audit.shape import Finding, shape_of_set
from hemascope.data import NO_GROUPS_NOTE
from hemascope.data.cells import Cells

NAMES = ("red", "green", "blue")


def cells(counts: tuple[int, ...], unlabelled: int = 0) -> Cells:
    labels = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.full(unlabelled, -1)])
    images = np.zeros((len(labels), 16, 20, 3), np.uint8)
    return Cells(images, labels.astype(np.int64), NAMES[: len(counts)], np.arange(len(labels)).astype(str))


def told(*args: object, **options: object) -> dict[str, Finding]:
    return {finding.name: finding for finding in shape_of_set(*args, **options)}  # type: ignore[arg-type]


def test_an_even_set_asks_for_no_care() -> None:
    found = shape_of_set(cells((200, 200, 200)))
    assert [(finding.name, finding.number, finding.care) for finding in found] == [
        ("pictures", 600, False),
        ("imbalance", 1, False),
    ]
    assert found[0].sentence == "600 pictures of 3 classes, 20 x 16 pixels"
    assert found[1].sentence == "the classes are even, 200 pictures each"


def test_a_slight_imbalance_has_no_number() -> None:
    finding = told(cells((205, 200, 201)))["imbalance"]
    assert finding.sentence == "the largest class, red (205), has about as many pictures as the smallest, green (200)"
    assert finding.shown == "hardly any"
    assert told(cells((300, 200)))["imbalance"].shown == "1.5 times"


def test_what_reading_had_to_do_is_told() -> None:
    frames = "Pictures with several frames gave their first (1: moving.gif)."
    found = shape_of_set(replace(cells((200, 200)), notes=(frames, NO_GROUPS_NOTE)))
    assert [finding.sentence for finding in found if finding.name == "reading"] == [frames]


def test_the_quality_of_some_pictures_is_told_of_those() -> None:
    quality = np.r_[np.full(200, 94.9972885032538), np.full(200, np.nan)]
    finding = told(cells((200, 200)), None, {"JPEG quality": quality})["JPEG quality"]
    assert finding.sentence == "JPEG quality: 95 in each of the 200 JPEG pictures"
    assert finding.shown == "95"


def test_what_asks_for_care_stands_first() -> None:
    found = shape_of_set(replace(cells((900, 60, 3), unlabelled=1), unreadable={"a b.jpg": "the file is empty"}))
    assert [finding.care for finding in found] == sorted([finding.care for finding in found], reverse=True)
    by_name = {finding.name: finding for finding in found}
    assert by_name["imbalance"].number == 300
    assert by_name["imbalance"].sentence == (
        "the largest class, red (900), has 300.0 times as many pictures as the smallest, blue (3); naming every "
        "picture red would be right for 93%"
    )
    assert by_name["unlabelled"].sentence == "1 picture without a label"
    assert by_name["unreadable"].sentence == "1 file could not be read, the first being a b.jpg: the file is empty"
    assert by_name["too few to split"].sentence.startswith("blue: fewer than 4 pictures")
    assert by_name["few held out"].sentence == (
        "green: fewer than 10 pictures would stand in the test split (5 of green), too few to say how well the class "
        "is told"
    )


def test_empty_and_single_classes() -> None:
    assert told(cells((500, 500, 0)))["empty classes"].sentence == "no picture of blue"
    assert told(cells((500,)))["one class"].care
    nothing = told(cells((0, 0), unlabelled=5))
    assert "empty classes" not in nothing
    assert nothing["unlabelled"].number == 5
    assert "imbalance" not in nothing


def test_its_own_split_is_told_with_what_it_lacks() -> None:
    split = np.array(["train"] * 300 + ["test"] * 300)
    found = told(replace(cells((200, 200, 200)), split=split))
    assert found["splits"].sentence == "comes with its own split: train 300, test 300"
    assert found["classes missing in train"].sentence == "the train split has no picture of blue"
    assert found["classes missing in test"].number == 1
    assert "few held out" not in found


def test_groups() -> None:
    patients = np.array([f"patient {row % 10}" for row in range(600)])
    patients[:200] = "patient 1"
    found = told(replace(cells((200, 200, 200)), groups=patients))
    assert found["groups"].sentence == "10 groups of pictures, the largest holding 40% of them"
    assert found["classes of few groups"].sentence.startswith("red: from fewer than 4 groups")
    two = told(replace(cells((200, 200, 200)), groups=np.array(["a", "b"] * 300)))
    assert two["groups"].care
    assert "classes of few groups" not in two


def test_pictures_without_colour_and_facts_of_the_files() -> None:
    saturation = np.full(600, 0.3, np.float32)
    saturation[5:8] = 0
    facts = {
        "picture size": np.array(["360 x 363"] * 590 + [f"{side} x {side}" for side in range(100, 110)]),
        "file size": np.r_[np.full(300, 1000.0), np.full(299, 3000.0), np.nan],
        "mode": np.full(600, "RGB"),
    }
    found = told(cells((200, 200, 200)), {"saturation": saturation}, facts)
    assert found["without colour"].sentence == "3 pictures without colour among coloured ones"
    assert found["picture size"].number == 11
    assert found["picture size"].sentence.startswith("picture size: 360 x 363 in 590, 100 x 100 in 1")
    assert found["picture size"].sentence.endswith("and 7 more")
    assert found["file size"].sentence == (
        "file size: 1,000 to 3,000 bytes, median 1,000 bytes, in the 599 pictures that have one"
    )
    assert found["file size"].shown == "median 1,000 bytes"
    assert found["mode"].sentence == "mode: RGB in every picture"
    assert "without colour" not in told(cells((200,)), {"saturation": np.zeros(200, np.float32)})
