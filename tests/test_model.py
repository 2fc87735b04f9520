from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hemascope.data import Cells
from hemascope.ensemble import check_recipe, load_network
from hemascope.errors import InputError
from hemascope.model import Body, Constant, NeighbourVote, build_model, fitted
from hemascope.pipeline import fit, training_options
from hemascope.prepare import prepare
from hemascope.recipe import Recipe, load_recipe
from hemascope.resize import central_square, resize
from hemascope.run import open_run
from hemascope.runtime import load_model

CLASSES = ("basophil", "eosinophil", "monocyte")
Tiny = Callable[..., Recipe]


def test_the_head_of_the_report(tiny: Tiny) -> None:
    network, weights = build_model(tiny(head_widths=[1024, 512]), CLASSES)
    layers = [type(layer).__name__ for layer in network.head.children()]
    assert layers == ["Linear", "ReLU", "BatchDropout", "Linear", "ReLU", "BatchDropout", "Linear"]
    assert [weight.shape[0] for weight in network.penalised_weights()] == [1024, 512]
    assert weights.random


def test_dropout_draws_for_the_batch_and_not_for_its_parts(tiny: Tiny) -> None:
    network, _ = build_model(tiny(head_widths=[64]), CLASSES)
    embeddings = network.embedding(torch.rand(10, 3, 32, 32) * 255).detach()

    def dropped(first: int, end: int) -> torch.Tensor:
        torch.manual_seed(3)
        network.shown_part(first, 10)
        found: torch.Tensor = network.train().head(embeddings[first:end])
        return found

    whole = dropped(0, 10)
    assert torch.allclose(torch.cat([dropped(0, 4), dropped(4, 5), dropped(5, 10)]), whole, atol=1e-6)
    assert not torch.allclose(whole, network.eval().head(embeddings))


def test_uint8_pictures_go_in_and_probabilities_come_out(tiny: Tiny, drawn: Cells) -> None:
    network, _ = build_model(tiny(), CLASSES)
    out = Body(network.eval(), 32)(torch.from_numpy(np.asarray(drawn.images[:5])))[0].softmax(1)
    assert out.shape == (5, 3)
    assert torch.allclose(out.sum(1), torch.ones(5))


def test_the_network_resizes_as_the_reader_does(tiny: Tiny, drawn: Cells) -> None:
    network, _ = build_model(tiny(image_size=24), CLASSES)
    images = np.asarray(drawn.images[:3])
    inside = network._resized(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    outside = resize(images, 24)
    assert np.abs(inside.permute(0, 2, 3, 1).numpy() - outside).max() <= 0.51


@pytest.mark.parametrize("shape", [(32, 32), (50, 41), (20, 24), (97, 96)])
def test_what_is_exported_resizes_as_the_reader_does(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), np.uint8)
    inside = fitted(torch.from_numpy(images), 32).permute(0, 2, 3, 1).numpy()
    difference = np.abs(inside - resize(central_square(images), 32))
    # A sum that lies halfway between two grey levels may be rounded either way.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_the_baseline_says_the_same_to_every_picture(drawn: Cells) -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    out = Body(Constant(logits), 32)(torch.from_numpy(np.asarray(drawn.images[:4])))[0].softmax(1)
    assert np.allclose(out.detach().numpy(), [[0.5, 0.3, 0.2]] * 4)


def test_the_nearest_training_cells_vote() -> None:
    rng = np.random.default_rng(0)
    known, labels = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    asked = rng.normal(size=(6, 4))
    vote = NeighbourVote(4, 3, neighbours=5)
    vote.remember(torch.from_numpy(known), torch.from_numpy(labels))
    found = vote(torch.from_numpy(asked)).softmax(1).numpy()
    cosine = (asked / np.linalg.norm(asked, axis=1)[:, None]) @ (known / np.linalg.norm(known, axis=1)[:, None]).T
    for row, near in enumerate(np.argsort(-cosine, axis=1)[:, :5]):
        weights = np.exp(cosine[row, near] / 0.07)
        expected = np.bincount(labels[near], weights / weights.sum(), minlength=3)
        assert found[row] == pytest.approx(expected, abs=3e-4)


def test_a_vote_of_neighbours_is_a_run_like_any_other(dirty: Cells, tiny: Tiny, tmp_path: Path) -> None:
    # Without training, neighbours lie so close that of some networks rounding decides which of them is nearer.
    torch.manual_seed(0)
    first, _ = build_model(tiny(), CLASSES)
    save_file(first.backbone.state_dict(), tmp_path / "backbone.safetensors")
    recipe = tiny(head="knn", stages=[], pretrained=str(tmp_path / "backbone.safetensors"))
    prepared = prepare(dirty, seed=0, say=lambda sentence: None)
    run = open_run(tmp_path / "run", resume=False)
    fit(prepared, recipe, run, training_options(0, "cpu", "float32", None), lambda sentence: None)
    network, _, _ = load_network(run)
    training = prepared.cells.in_split("train")
    assert isinstance(network.head, NeighbourVote)
    assert len(network.head.known) == len(training)
    images = np.asarray(training.images[:20])
    model = load_model(run.folder)
    assert model.trust is not None
    with torch.inference_mode():
        logits, _ = Body(network, 32)(torch.from_numpy(images))
    told = model.trust.calibration.probabilities(logits.numpy())
    assert np.abs(told - model.predict(images)).max() < 1e-4


def test_sides_that_a_backbone_does_not_take_are_refused(tiny: Tiny) -> None:
    transformer = {
        "backbone": "vit_tiny_patch16_224",
        "image_size": 48,
        "stages": [{"name": "one", "epochs": 1, "learning_rate": 0.001, "image_size": 32}],
    }
    with pytest.raises(
        InputError, match=r"vit_tiny_patch16_224 does not take pictures of 32 pixels beside those of 48 .*'image_size'"
    ):
        build_model(tiny(**transformer), CLASSES)
    with pytest.raises(InputError, match=r"crossvit_9_240 does not take pictures of 96 pixels .*26.*'backbone'"):
        check_recipe(tiny(backbone="crossvit_9_240", image_size=96))


@pytest.mark.parametrize("name", ["dinov2", "dinov2-knn"])
def test_a_transformer_takes_the_size_of_the_recipe(name: str) -> None:
    recipe = load_recipe(name).model_copy(update={"pretrained": "none"})
    network, _ = build_model(recipe, CLASSES)
    with torch.inference_mode():
        logits = network.eval()(torch.zeros(2, 3, 96, 96, dtype=torch.uint8))
    assert logits.shape == (2, 3)
    assert network.image_size == 98
