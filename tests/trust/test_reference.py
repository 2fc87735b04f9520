from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from hemascope.errors import InputError
from hemascope.synthetic import draw_cells
from hemascope.trust.appearance import APPEARANCE
from hemascope.trust.reference import DISTANCE, FEW, Reference, describe, embedding_distance, fit_reference

NAMES = ("basophil", "monocyte", "platelet")


def numbers(rows: int, rng: np.random.Generator) -> dict[str, Any]:
    return {name: rng.normal(size=rows) for name in APPEARANCE}


def fitted(rows: int = 300, width: int = 5) -> tuple[Reference, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 3, rows), rng.integers(0, 3, 90)
    places = rng.normal(size=(rows, width)) + labels[:, None]
    others = rng.normal(size=(90, width)) + answers[:, None]
    images = np.zeros((rows, 4, 4, 3), np.uint8)
    reference = fit_reference(
        images,
        labels,
        NAMES,
        held_out_answers=answers,
        embeddings=places,
        held_out_embeddings=others,
        numbers=numbers(rows, rng),
    )
    return reference, places, labels


def test_the_distance_is_that_of_mahalanobis() -> None:
    reference, places, labels = fitted()
    found = embedding_distance(reference.centres, reference.scales, places, labels)
    expected = cdist(places, reference.centres, "seuclidean", V=reference.scales**2)[np.arange(len(labels)), labels]
    assert np.exp(found) == pytest.approx(expected / np.sqrt(places.shape[1]), rel=1e-4)
    for place in range(3):
        assert reference.centres[place] == pytest.approx(places[labels == place].mean(0))


def test_measures_are_those_of_each_class_and_of_all_where_a_class_has_few() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [200, 100, FEW // 4])
    described = numbers(len(labels), rng)
    described["brightness"][:200] *= 3
    described["noise"][7] = np.nan
    reference = fit_reference(
        np.zeros((len(labels), 4, 4, 3), np.uint8), labels, NAMES, held_out_answers=[0, 1], numbers=described
    )
    found, own = reference.measures["brightness"], described["brightness"][:200]
    assert found.mean[0] == pytest.approx(own.mean())
    assert found.deviation[0] == pytest.approx(own.std())
    assert [found.low[0], found.high[0]] == pytest.approx(np.quantile(own, [0.025, 0.975], method="weibull"))
    assert found.count.tolist() == [200, 100, FEW // 4]
    assert found.deviation[1] < found.deviation[2] < found.deviation[0]
    assert reference.measures["noise"].count[0] == 199
    assert DISTANCE not in reference.measures


def test_it_travels_as_json() -> None:
    reference, places, labels = fitted(width=256)
    text = json.dumps(reference.as_json())
    assert len(text) < 30_000
    back = Reference.from_json(json.loads(text))
    assert back.class_names == NAMES
    assert back.centres == pytest.approx(reference.centres, rel=1e-4)
    assert back.measures["contrast"].high == pytest.approx(reference.measures["contrast"].high, rel=1e-4)
    before, after = (embedding_distance(one.centres, one.scales, places, labels) for one in (reference, back))
    assert after == pytest.approx(before, abs=1e-3)


def test_what_equals_a_bound_is_usual_after_the_bound_lost_digits() -> None:
    labels, steps = np.zeros(200, np.int64), np.log(np.array([0.1, 0.1 + 1 / 6, 0.1 + 1 / 3]))
    described = numbers(200, np.random.default_rng(3)) | {"noise": np.repeat(steps, [20, 160, 20])}
    reference = fit_reference(
        np.zeros((200, 4, 4, 3), np.uint8), labels, NAMES, held_out_answers=[0], numbers=described
    )
    again = Reference.from_json(json.loads(json.dumps(reference.as_json()))).measures["noise"]
    assert not again.outside(described["noise"], labels).any()
    assert again.outside(np.array([-2.31, -0.83]), labels[:2]).all()


def test_all_classes_together_are_as_their_rows_are() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [300, 100])
    described = numbers(400, rng)
    described["brightness"] += 3 * labels
    reference = fit_reference(
        np.zeros((400, 4, 4, 3), np.uint8), labels, NAMES, held_out_answers=[0], numbers=described
    )
    pooled = reference.whatever_class().measures["brightness"]
    assert pooled.mean == pytest.approx([described["brightness"].mean()] * 3)
    assert pooled.deviation == pytest.approx([described["brightness"].std()] * 3)
    assert pooled.low[2] == reference.measures["brightness"].low[:2].min()
    assert pooled.count.tolist() == [400] * 3


@pytest.mark.parametrize("part", ["class_names", "measures", "answers", "centres", "scales"])
def test_what_is_damaged_is_refused(part: str) -> None:
    content = fitted()[0].as_json()
    for broken in ({key: value for key, value in content.items() if key != part}, {**content, part: [["x"]]}):
        with pytest.raises(InputError, match="cannot be read"):
            Reference.from_json(broken)


def test_pictures_are_described_by_what_the_reference_knows() -> None:
    reference, _, _ = fitted()
    images = np.asarray(draw_cells(6, seed=1, size=48).images[:])
    answers = np.array([0, 1, 2, 0, 1, 2])
    assert set(describe(reference, images, None, answers)) == set(APPEARANCE)
    assert DISTANCE in describe(reference, images, np.zeros((6, 5)), answers)
    with pytest.raises(InputError, match=r"embeddings have the shape \(6, 4\)"):
        describe(reference, images, np.zeros((6, 4)), answers)
    with pytest.raises(InputError, match="answers reach from 0 to 3"):
        describe(reference, images, None, [0, 1, 2, 3, 0, 0])


def test_lengths_must_agree() -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    described = numbers(3, np.random.default_rng(0))
    with pytest.raises(InputError, match="labels have the shape"):
        fit_reference(images, [0, 1], NAMES, held_out_answers=[0], numbers=described)
    with pytest.raises(InputError, match="at least one of each"):
        fit_reference(images, [0, 1, 2], NAMES, held_out_answers=[], numbers=described)
    with pytest.raises(InputError, match="give a row for each"):
        fit_reference(
            images,
            [0, 1, 2],
            NAMES,
            held_out_answers=[0],
            embeddings=np.zeros((2, 5)),
            held_out_embeddings=np.zeros((1, 5)),
            numbers=described,
        )
