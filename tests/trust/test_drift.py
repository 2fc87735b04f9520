from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from hemascope.data import Images
from hemascope.errors import InputError
from hemascope.synthetic import draw_cells
from hemascope.trust.drift import LEAST_ROWS, WORDS, compare, compare_numbers, drift_sentences
from hemascope.trust.reference import DISTANCE, Reference, describe, fit_reference


class Scene:
    """A reference of drawn cells, and others drawn alike; the labels stand for the answers of a perfect model."""

    def __init__(self) -> None:
        cells = draw_cells(640, seed=2, size=96)
        images, self.rng = np.asarray(cells.images[:]), np.random.default_rng(0)
        self.class_names = cells.class_names
        places = self.rng.normal(size=(640, 6)) + cells.labels[:, None]
        self.images, self.labels, self.places = images[440:], cells.labels[440:], places[440:]
        self.reference: Reference = fit_reference(
            images[:336],
            cells.labels[:336],
            cells.class_names,
            held_out_answers=cells.labels[336:440],
            embeddings=places[:336],
            held_out_embeddings=places[336:440],
        )
        self.numbers = describe(self.reference, self.images, self.places, self.labels)

    def told(self, images: Images) -> list[str]:
        return drift_sentences(compare(self.reference, images[:80], self.places[:80], self.labels[:80]))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def taken(numbers: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: values[rows] for name, values in numbers.items()}


def test_it_is_silent_on_others_of_the_same_origin(scene: Scene) -> None:
    alarms = 0
    for _ in range(30):
        rows = scene.rng.choice(len(scene.labels), 100, replace=False)
        alarms += bool(
            drift_sentences(compare_numbers(scene.reference, taken(scene.numbers, rows), scene.labels[rows]))
        )
    assert alarms <= 1


def test_another_mix_of_classes_changes_no_colour_and_no_size(scene: Scene) -> None:
    for place in range(8):
        rows = np.flatnonzero(scene.labels == place)
        some = np.concatenate([rows, np.flatnonzero(scene.labels != place)[:10]])
        table = compare_numbers(scene.reference, taken(scene.numbers, some), scene.labels[some])
        drifted = table.loc[table["drifted"], "name"]
        assert drifted.str.startswith("share of ").all()
        assert f"share of {scene.class_names[place]}" in set(drifted)
        told = drift_sentences(table)
        assert any(scene.class_names[place] in sentence and "in training" in sentence for sentence in told)
        assert all(sentence.startswith("class mix: ") for sentence in told)


def test_bluer_slides_blur_noise_and_another_crop_are_told(scene: Scene) -> None:
    images = scene.images[:80]
    cooler = np.clip(images * np.array([0.92, 0.97, 1.05]), 0, 255).astype(np.uint8)
    assert scene.told(cooler)[0].startswith("bluer background")
    assert "blurrier" in scene.told(np.stack([cv2.GaussianBlur(image, (0, 0), 2.5) for image in images]))[0]
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 15, images.shape), 0, 255).astype(np.uint8)
    assert any(sentence.startswith("noisier") for sentence in scene.told(noisy))
    closer = np.stack([cv2.resize(image[19:77, 19:77], (96, 96)) for image in images])
    assert any("larger across" in sentence and "magnification?" in sentence for sentence in scene.told(closer))


def test_two_opposite_laboratories_are_told_as_mixed(scene: Scene) -> None:
    numbers, deviation = dict(scene.numbers), scene.reference.measures["background_blueness"].deviation[scene.labels]
    numbers["background_blueness"] = numbers["background_blueness"] + 4 * deviation * np.resize([1, -1], len(deviation))
    table = compare_numbers(scene.reference, numbers, scene.labels)
    line = table.set_index("name").loc["background_blueness"]
    assert abs(line["effect"]) < 0.5
    assert line["drifted"]
    assert line["unusual"] > 0.5
    assert drift_sentences(table)[0].startswith("mixed blue in the background: ")


def test_the_effect_is_the_shift_in_deviations_of_training(scene: Scene) -> None:
    measure, before = scene.reference.measures["saturation"], scene.numbers["saturation"]
    moved = {**scene.numbers, "saturation": before + 2 * measure.deviation[scene.labels]}
    tables = [compare_numbers(scene.reference, numbers, scene.labels) for numbers in (scene.numbers, moved)]
    before_it, after_it = (table.loc[table["name"] == "saturation", "effect"].item() for table in tables)
    assert after_it - before_it == pytest.approx(2, abs=1e-9)


def test_strangers_to_the_network_are_told_and_friends_are_not(scene: Scene) -> None:
    for factor, expected in ((3.0, True), (0.2, False)):
        numbers = {**scene.numbers, DISTANCE: scene.numbers[DISTANCE] + np.log(factor)}
        told = drift_sentences(compare_numbers(scene.reference, numbers, scene.labels))
        assert any("stranger to the network" in sentence for sentence in told) == expected
        assert len(told) == expected


def test_what_matters_most_comes_first_and_consequences_are_silent(scene: Scene) -> None:
    numbers = dict(scene.numbers)
    for name, by in (("sharpness", -3.0), ("noise", -1.0), ("cell_density", 5.0)):
        numbers[name] = numbers[name] + by * scene.reference.measures[name].deviation[scene.labels]
    table = compare_numbers(scene.reference, numbers, scene.labels)
    told = drift_sentences(table)
    assert [sentence.split(",")[0] for sentence in told] == ["cells stained darker", "blurrier"]
    assert bool(table.set_index("name").loc["noise", "drifted"])


def test_few_pictures_are_never_called_drifted(scene: Scene) -> None:
    rows = np.arange(LEAST_ROWS - 1)
    numbers = {name: values + 100 for name, values in taken(scene.numbers, rows).items()}
    table = compare_numbers(scene.reference, numbers, scene.labels[rows])
    assert not table["drifted"].any()
    assert drift_sentences(table) == [
        f"{LEAST_ROWS - 1} pictures are too few to tell whether they differ from those of training; "
        f"give {LEAST_ROWS} or more."
    ]
    none = compare_numbers(scene.reference, taken(scene.numbers, rows[:0]), scene.labels[:0])
    assert not none["drifted"].any()


def test_lengths_must_agree_and_every_number_has_words(scene: Scene) -> None:
    with pytest.raises(InputError, match="there are numbers for other pictures"):
        compare_numbers(scene.reference, scene.numbers, scene.labels[:5])
    assert set(WORDS) == set(scene.reference.measures)
