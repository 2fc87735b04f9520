from __future__ import annotations

import numpy as np
import pytest
import torch

from hemascope import novelty as module
from hemascope.augment import augment
from hemascope.corrupt import HELD_OUT, corrupt
from hemascope.data import Cells, Images
from hemascope.data.cells import Rows
from hemascope.novelty import features, novelty, seen_share
from hemascope.recipe import Augmentation, load_recipe, recipe_names

JITTER = Augmentation(name="jitter", magnitude=0.5)
SMALL = {"pictures": 8, "draws": 96, "own_draws": 2}


def of_own_draws(images: Images, name: str, severity: int, *, seed: int, rows: Rows) -> Images:
    """A corruption that is the recipe's own augmentation, one that is far from it, and one that does nothing."""
    if name == "own":
        batch = torch.from_numpy(images).permute(0, 3, 1, 2)
        changed = augment(batch, rows + 1000 * severity, [JITTER], seed=seed, epoch=9)
        return changed.permute(0, 2, 3, 1).numpy()
    if name == "far":
        stripes = np.zeros(images.shape[1], np.uint8)
        stripes[:: 7 - severity] = 255
        return np.maximum(images, stripes[None, :, None, None])
    return images.copy()


def test_the_recipes_own_augmentation_is_seen_and_a_far_one_is_not(
    drawn: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "corrupt", of_own_draws)
    found = novelty(drawn, [JITTER], ["own", "far", "nothing"], **SMALL)
    assert found.seen("own")
    assert not found.seen("far")
    assert found.shares["far"] > 0.9
    assert found.seen("nothing"), "the clean pictures count as seen"
    assert found.shares["nothing"] == found.shifts["nothing"] == 0.0
    assert 0 < found.threshold < 0.9
    assert (found.draws, found.pictures) == (96, 8)


def test_what_one_step_of_several_does_alone_is_seen(drawn: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "corrupt", of_own_draws)
    steps = [Augmentation(name="affine"), Augmentation(name="jitter", magnitude=0.5, probability=0.3)]
    found = novelty(drawn, steps, ["own", "far"], pictures=8, draws=120, own_draws=2)
    assert found.seen("own")
    assert not found.seen("far")
    assert found.draws == 120 + 2 * 60


def test_to_a_recipe_that_augments_nothing_every_corruption_is_unseen(drawn: Cells) -> None:
    found = novelty(drawn, [], ["brightness_up", "fog"], **SMALL)
    assert found.threshold == 0.0
    assert found.shares == pytest.approx({"brightness_up": 1.0, "fog": 1.0})
    assert not found.seen("brightness_up")


def test_light_is_near_to_jitter_and_stripes_are_not(drawn: Cells) -> None:
    found = novelty(drawn, [JITTER], ["brightness_up", "scan_lines"], **SMALL)
    assert found.shares["brightness_up"] < 0.5 < found.shares["scan_lines"]
    assert found.as_json()["families"]["scan_lines"]["seen"] is False
    again = novelty(drawn, [JITTER], ["brightness_up", "scan_lines"], **SMALL)
    assert again.shares == found.shares


def test_the_threshold_is_what_draws_show_of_each_other() -> None:
    rng = np.random.default_rng(0)
    line = np.zeros((201, 3))
    line[1:, 0] = rng.uniform(1, 2, 200)
    cloud = np.concatenate([np.zeros((1, 40)), rng.normal(size=(200, 40))])
    origin = np.r_[-1, np.zeros(200, np.int64)]
    assert seen_share(line, origin, 15) < 0.05, "draws along a line lie close"
    assert seen_share(cloud, origin, 15) > 0.9, "scattered draws are no nearer to each other than to the middle"
    assert seen_share(line[:1], origin[:1], 15) == 0.0
    both, ways = np.concatenate([line, line[1:] + 50]), np.r_[origin, np.ones(200, np.int64)]
    assert seen_share(both, ways, 15) >= seen_share(line, origin, 15)


@pytest.mark.parametrize("name", ["jpeg", "defocus_blur", "brightness_up", "saturate", "scan_lines", "vignetting"])
def test_the_features_move_with_what_networks_trip_over(drawn: Cells, name: str) -> None:
    images = np.asarray(drawn.images[:16])
    clean, rows = features(images), np.arange(16)
    assert clean.shape[1] == features(np.zeros((1, 24, 40, 3), np.uint8)).shape[1]
    weak, strong = (
        np.abs((features(corrupt(images, name, severity, seed=0, rows=rows)) - clean).mean(0) / (clean.std(0) + 1e-3))
        for severity in (1, 5)
    )
    assert strong.max() > 1
    assert strong.mean() > weak.mean()


def test_no_shipped_recipe_lists_a_held_out_family() -> None:
    assert len(HELD_OUT) >= 10
    for name in recipe_names():
        listed = {step.name for step in load_recipe(name).augmentation}
        assert not listed & set(HELD_OUT), f"{name} trains on what is held out"
