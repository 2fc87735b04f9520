from __future__ import annotations

import json

import numpy as np
import pytest

from hemascope.data.cells import Images
from hemascope.errors import InputError
from hemascope.explain import faithfulness
from hemascope.explain.faithfulness import as_coarse, curves, inside_share, ranks


class Looking:
    """Tells two classes apart by how dark one place of the picture is, and by nothing else."""

    WHERE = (slice(8, 16), slice(20, 28))

    def predict(self, images: Images) -> np.ndarray:
        dark = 1 - images[:, *self.WHERE].mean((1, 2, 3)) / 255
        return np.stack([dark, 1 - dark], 1).astype(np.float32)


def pictures(count: int) -> Images:
    """A dark place where the model looks, noise elsewhere, and bright glass."""
    images = np.random.default_rng(0).integers(120, 256, (count, 32, 32, 3)).astype(np.uint8)
    images[:, :6] = 255
    images[:, *Looking.WHERE] = 0
    return images


def truth(count: int) -> np.ndarray:
    maps = np.zeros((count, 32, 32))
    maps[:, *Looking.WHERE] = 1
    return maps


def test_of_the_true_map_both_areas_are_known() -> None:
    # The place is 64 of 1,024 pixels, a sixteenth: it goes in the first of 16 steps, from 1 to 0 along a line.
    found = curves(Looking(), pictures(3), truth(3), 16, np.random.default_rng(0))
    assert found.shape == (2, 3, 16)
    assert np.allclose(found[0].mean(1), 0.5 / 16)
    assert np.allclose(found[1].mean(1), 1 - 0.5 / 16)


def test_a_map_that_tells_is_better_than_chance_and_its_opposite_is_not() -> None:
    images = pictures(24)
    found = faithfulness(Looking(), images, truth(24), steps=16, seed=1)
    assert found.deletion < 0.05 < 0.2 < found.random_deletion
    assert found.insertion > 0.95 > 0.8 > found.random_insertion
    assert max(found.deletion_p, found.insertion_p) < 1e-3
    against = faithfulness(Looking(), images, 1 - truth(24), steps=16, seed=1)
    assert against.deletion > against.random_deletion
    assert min(against.deletion_p, against.insertion_p) > 0.99


def test_the_seed_decides() -> None:
    images, maps = pictures(6), np.random.default_rng(3).random((6, 32, 32))
    one, same, other = (faithfulness(Looking(), images, maps, 8, seed) for seed in (0, 0, 1))
    assert one.as_json() == same.as_json()
    assert one.random_deletion != other.random_deletion


def test_pictures_without_a_cell_leave_the_share_open_and_json_can_hold_it() -> None:
    found = faithfulness(Looking(), np.full((3, 32, 32, 3), 255, np.uint8), truth(3), 4)
    assert found.masked == 0
    assert found.as_json()["heat_inside"] is None
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["pictures"] == 3


def test_random_maps_are_as_coarse_and_lie_elsewhere() -> None:
    maps = truth(200)
    drawn = as_coarse(maps, np.random.default_rng(0))
    assert drawn.shape == maps.shape
    assert (drawn >= 0).all()
    ours, theirs = (np.abs(np.fft.rfft2(each - each.mean((1, 2), keepdims=True))) for each in (maps, drawn))
    # The phases of a real map's own mirror images cannot be drawn; all others are.
    assert np.abs(ours[:, 1:16, 1:16] - theirs[:, 1:16, 1:16]).max() < 1e-6
    mean = drawn.mean(0)
    assert mean.max() < 1.3 * mean.min()


def test_equal_heat_goes_in_blots_and_every_pixel_once() -> None:
    flat = np.ones((48, 48))
    order = ranks(flat, np.random.default_rng(0))
    assert sorted(order.ravel()) == list(range(48 * 48))
    first = order < 48 * 24
    # Neighbours go together far more often than drawn singly, where it is half of the time.
    assert (first[1:] == first[:-1]).mean() > 0.8
    hot = flat.copy()
    hot[5, 7] = 2
    assert ranks(hot, np.random.default_rng(0))[5, 7] == 0


def test_the_share_inside_is_of_the_heat() -> None:
    heat = np.zeros((2, 4, 4))
    heat[0, 0, 0], heat[0, 3, 3] = 3, 1
    mask = np.zeros((2, 4, 4), bool)
    mask[:, :2, :2] = True
    assert inside_share(heat, mask)[0] == 0.75
    assert np.isnan(inside_share(heat, mask)[1])


@pytest.mark.parametrize(
    ("maps", "told"),
    [(np.zeros((3, 8, 8)), "one map of the same height"), (-truth(3), "negative"), (truth(3) * np.nan, "no number")],
)
def test_what_is_no_map_is_refused(maps: np.ndarray, told: str) -> None:
    with pytest.raises(InputError, match=told):
        faithfulness(Looking(), pictures(3), maps)
