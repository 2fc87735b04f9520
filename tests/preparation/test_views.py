from __future__ import annotations

import numpy as np
import pytest

from hemascope.errors import InputError
from hemascope.preparation.asked import Asked, asked_for
from hemascope.preparation.views import VIEWS, poses
from hemascope.runtime import load_model
from hemascope.synthetic import draw_cells


def test_poses_are_all_different_and_closed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), dtype=np.uint8)
    for views in VIEWS:
        made = {pose.tobytes() for pose in poses(image, views)}
        assert len(made) == views
        for again in poses(image, views):
            assert {pose.tobytes() for pose in poses(again, views)} == made
    with pytest.raises(ValueError, match="not 3"):
        poses(image, 3)


def test_an_answer_is_the_mean_and_turning_the_picture_does_not_change_it() -> None:
    model, images = load_model("small"), np.asarray(draw_cells(5, seed=3).images)
    alone = [model.answers(np.ascontiguousarray(pose)) for pose in poses(images, 8)]
    many = model.with_views(8).answers(images)
    assert many.probabilities == pytest.approx(np.mean([one.probabilities for one in alone], axis=0), abs=1e-6)
    assert many.outlier_score == pytest.approx(np.mean([one.outlier_score for one in alone], axis=0), abs=1e-4)
    turned = model.with_views(8).predict(np.rot90(images, axes=(1, 2)))
    assert turned == pytest.approx(many.probabilities, abs=1e-5)
    # The model itself is as it was.
    assert model.views == 1
    assert model.predict(images) == pytest.approx(alone[0].probabilities, abs=0)
    assert model.with_views(4).predict(images[:0]).shape == (0, len(model.class_names))


def test_options_mean_what_they_say_or_are_refused() -> None:
    assert asked_for() == asked_for("whole", "keep") == Asked()
    assert asked_for("200", None, 4) == Asked(200, views=4)
    assert asked_for("cell", "normalise") == Asked(cell=True, stain=True)
    assert asked_for("cell", None, 2).as_json() == {"crop": "cell", "stain": None, "views": 2}
    for options, sentence in (
        (("nucleus", None, 1), "--crop nucleus: expected a number of pixels, cell or whole."),
        ((4, None, 1), "--crop 4: a cell needs at least 8 pixels; give 8 or more."),
        ((None, "macenko", 1), "--stain macenko: expected normalise or keep."),
        ((None, None, 3), "--views 3: expected 1, 2, 4 or 8, the poses of a square."),
    ):
        with pytest.raises(InputError) as told:
            asked_for(*options)
        assert str(told.value) == sentence
