# mypy: disable-error-code="arg-type"
from __future__ import annotations

import numpy as np
import pytest

from hemascope.data.cells import Images
from hemascope.errors import InputError
from hemascope.explain import background_colours, occlusion
from hemascope.explain.occlusion import patches_of
from hemascope.runtime import load_model
from hemascope.synthetic import draw_cells

SPOTS = ((slice(10, 16), slice(10, 16)), (slice(34, 40), slice(30, 36)))


class Spotted:
    """Says 'spotted' while one of its spots is dark; each spot makes it surer."""

    class_names = ("spotted", "clear")

    def predict(self, images: Images) -> np.ndarray:
        dark = np.stack([1 - images[:, *spot].mean((1, 2, 3)) / 255 for spot in SPOTS], 1)
        sure = np.where(dark > 0.5, dark, 0).sum(1) * 0.3 + 0.35
        return np.stack([sure, 1 - sure], 1).astype(np.float32)


def picture(spots: int) -> Images:
    image = np.full((48, 48, 3), 255, np.uint8)
    for spot in SPOTS[:spots]:
        image[spot] = 0
    return image


@pytest.mark.parametrize("spots", [1, 2])
def test_as_many_patches_as_there_are_spots_change_the_answer(spots: int) -> None:
    found = occlusion(Spotted(), picture(spots))
    assert (found.answer, found.changed_to) == ("spotted", "clear")
    assert found.confidence == pytest.approx(0.35 + 0.3 * spots)
    side = 8
    assert found.covered.sum() <= spots * side * side
    for spot in SPOTS[:spots]:
        assert found.covered[spot].mean() > 0.5
    assert found.sentence.startswith(
        "The answer changes from spotted to clear when the colour of the background covers"
    )
    assert f"({spots} patch" in found.sentence


def test_the_fall_is_where_the_answer_rests() -> None:
    found = occlusion(Spotted(), picture(1))
    assert found.fall.shape == (48, 48)
    assert np.unravel_index(found.fall.argmax(), found.fall.shape)[0] in range(4, 22)
    assert found.fall[SPOTS[0]].mean() > 0.05
    assert np.abs(found.fall[30:, 30:]).max() < 1e-6


def test_an_answer_that_no_patch_touches_stays() -> None:
    class Stubborn:
        class_names = ("always", "never")

        def predict(self, images: Images) -> np.ndarray:
            return np.tile(np.float32([0.9, 0.1]), (len(images), 1))

    found = occlusion(Stubborn(), picture(2), limit=4)
    assert found.changed_to is None
    assert found.sentence.startswith("The answer stays always when the colour of the background covers")
    assert "No patch alone costs it 1 point of confidence." in found.sentence
    assert np.abs(found.fall).max() < 1e-6


def test_a_cell_of_the_shipped_model_is_explained_in_a_sentence() -> None:
    image = np.asarray(draw_cells(1, seed=0, size=96).images[0])
    model = load_model("small")
    found = occlusion(model, image)
    assert found.answer == model.class_names[model.predict(image[None]).argmax()]
    assert found.without_cell in model.class_names
    assert found.sentence.endswith(f"Without the cell, it is {found.without_cell}.")
    assert "of the cell" in found.sentence
    covered = np.where(found.covered[..., None], background_colours(image[None])[0], image)
    named = model.class_names[model.predict(covered[None]).argmax()]
    assert named == (found.changed_to or found.answer)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (40, 61), (5, 5)])
def test_patches_reach_from_edge_to_edge(height: int, width: int) -> None:
    patches = patches_of(height, width)
    assert patches.any(0).all()
    assert len({int(patch.sum()) for patch in patches}) == 1


def test_a_stack_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(height, width, 3\) is expected"):
        occlusion(Spotted(), picture(1)[None])
