# mypy: disable-error-code="index,union-attr,assignment,no-untyped-call,unused-ignore"
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from hemascope.ensemble import Ensemble, Views, load_network
from hemascope.errors import InputError
from hemascope.explain import cell_mask
from hemascope.explain.faithfulness import inside_share
from hemascope.heatmap import Explained, rollout, spread
from hemascope.heatmap_graph import mean_weights
from hemascope.model import CellClassifier, Constant, NeighbourVote, build_model
from hemascope.models import model_folder
from hemascope.recipe import Recipe
from hemascope.run import Run
from hemascope.synthetic import draw_cells

Tiny = Callable[..., Recipe]
CLASSES = ("basophil", "eosinophil", "monocyte", "platelet")


def network_of(recipe: Recipe, seed: int = 0) -> CellClassifier:
    torch.manual_seed(seed)
    network = build_model(recipe, CLASSES)[0].eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # As if it were trained: no block is the way past it, and no norm the identity.
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
    return network


def pictures_of(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures, so that some of their places matter more than others."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def between(maps: torch.Tensor) -> torch.Tensor:
    """Maps (n, h, w) from 0 to 1 each."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def evened(gradient: torch.Tensor, last: int) -> torch.Tensor:
    """Means over the step to a map of the side `last`, twice, along one axis and then the other; square maps only."""
    side = gradient.shape[-1]
    step = side // last
    first = mean_weights(side, side + 2 * (step // 2) - step + 1, [step], [1], [step // 2], False, 0)
    second = mean_weights(len(first), side, [step], [1], [step - 1 - step // 2], False, 0)
    both = torch.from_numpy(second @ first)
    return both @ gradient @ both.T


def layer_cam(maps: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], side: int) -> torch.Tensor:
    """LayerCAM of several layers as the paper writes it, but for what strides leave; each from 0 to 1, added, before it
    is scaled again."""
    total = torch.zeros(len(maps[0]), side, side)
    for each, gradient in zip(maps, gradients, strict=True):
        weighed = (each * evened(gradient.clamp(min=0), maps[-1].shape[-1])).sum(1).clamp(min=0)
        total += between(nn.functional.interpolate(weighed[:, None], size=(side, side), mode="bilinear")[:, 0])
    return total / total.amax((1, 2), keepdim=True)


def test_of_a_linear_head_the_last_map_is_cam_by_the_weights(tiny: Tiny) -> None:
    network = network_of(tiny(backbone="cell_residual", image_size=64, head_widths=[]))
    pictures = pictures_of(5, 64)
    explained = Explained(network)
    explained.source.layers = explained.source.layers[-1:]  # type: ignore[union-attr, assignment]
    logits, _, found = explained(pictures)
    with torch.no_grad():
        last = network.backbone.forward_features((pictures.float() - network.mean) / network.std)  # type: ignore[operator]
    weights = network.head[-1].weight[logits.argmax(1)].detach()  # type: ignore[index, union-attr]
    expected = layer_cam([last], [weights[:, :, None, None].expand_as(last)], 64)
    assert torch.allclose(found, expected, atol=1e-5)


def test_of_a_deep_head_the_gradient_is_the_one_written_by_hand(tiny: Tiny) -> None:
    network = network_of(tiny(backbone="cell_residual", image_size=64, head_widths=[12, 7]))
    pictures = pictures_of(5, 64)
    explained = Explained(network)
    explained.source.layers = explained.source.layers[-1:]  # type: ignore[union-attr, assignment]
    logits, embedding, found = explained(pictures)
    first, _, _, second, _, _, third = network.head  # type: ignore[misc]
    with torch.no_grad():
        one = first(embedding)
        two = second(one.relu())
        gradient = third.weight[logits.argmax(1)]
        gradient = ((gradient * (two > 0)) @ second.weight * (one > 0)) @ first.weight
        last = network.backbone.forward_features((pictures.float() - network.mean) / network.std)  # type: ignore[operator]
    expected = layer_cam([last], [gradient[:, :, None, None].expand_as(last)], 64)
    assert torch.allclose(found, expected, atol=1e-5)


# What is taken at each resolution, and how the rest of the pass goes on from there.
BACKBONES = {
    "cell_residual": ("blocks.1", "blocks.2", "blocks"),
    "densenet121": ("features.transition2.conv", "features.transition3.conv", "features"),
    "mobilenetv3_small_100": ("blocks.2.0.bn1", "blocks.4.0.bn1", "blocks"),
    "regnetx_002": ("s2", "s3", "final_conv"),
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_maps_are_those_of_autograd_through_the_whole_network(backbone: str, tiny: Tiny) -> None:
    network = network_of(tiny(backbone=backbone, image_size=64, head_widths=[8]))
    pictures = pictures_of(3, 64)
    explained = Explained(network)
    assert explained.source.layers == BACKBONES[backbone]
    maps: list[torch.Tensor] = []
    handles = []
    for name in BACKBONES[backbone]:

        def keep(layer: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
            output.retain_grad()
            maps.append(output)
            return output.clone()

        handles.append(network.backbone.get_submodule(name).register_forward_hook(keep))
    logits = network(pictures)
    logits.max(1).values.sum().backward()
    for handle in handles:
        handle.remove()
    expected = layer_cam([each.detach() for each in maps], [each.grad for each in maps if each.grad is not None], 64)
    found = explained(pictures)
    assert torch.allclose(found.logits, logits.detach(), atol=1e-5)
    assert torch.allclose(found.embedding, network.embedding(pictures).detach(), atol=1e-5)
    assert torch.allclose(found.heatmap, expected, atol=1e-4)
    assert not found.heatmap.requires_grad
    assert torch.allclose(found.heatmap.amax((1, 2)), torch.ones(3))


@pytest.mark.parametrize("backbone", ["regnetx_002", "cell_residual"])
def test_strides_leave_no_grid_in_the_map(backbone: str, tiny: Tiny) -> None:
    explained = Explained(network_of(tiny(backbone=backbone, image_size=96, head_widths=[])))
    heat = explained(pictures_of(32, 96)).heatmap
    heat = heat / heat.mean((1, 2), keepdim=True)
    # The last map has 3 x 3 places; within a place no pixel is hotter than another in the mean of pictures and places.
    within = heat.mean(0).reshape(3, 32, 3, 32).mean((0, 2))
    assert within.max() / within.min() < 1.25


def test_what_is_spread_keeps_an_even_map_and_evens_a_grid() -> None:
    even = torch.ones(2, 3, 12, 8)
    assert torch.allclose(spread(even, (3, 2)), even)
    assert torch.equal(spread(even, (12, 8)), even)
    grid = torch.zeros(1, 1, 16, 16)
    grid[:, :, ::4, ::4] = 1
    found = spread(grid, (4, 4))[0, 0, 3:-3, 3:-3]
    assert torch.allclose(found, torch.full_like(found, 1 / 16))


def test_a_trained_network_looks_at_the_cell() -> None:
    cells = np.asarray(draw_cells(24, seed=3, size=96).images)
    explained = Explained(load_network(Run(model_folder("small")))[0])
    with torch.inference_mode():
        found = explained(torch.from_numpy(cells).permute(0, 3, 1, 2)).heatmap
    assert not found.is_inference()
    masks = cell_mask(cells)
    inside = inside_share(found.numpy(), masks)
    assert masks.any((1, 2)).all()
    assert inside.mean() > 1.3 * masks.mean()
    assert (inside > masks.mean((1, 2))).mean() > 0.9


def test_a_network_that_sees_nothing_has_a_map_of_zeros(tiny: Tiny) -> None:
    network = network_of(tiny(backbone="cell_residual", image_size=64, head_widths=[]))
    nn.init.zeros_(network.head[-1].weight)  # type: ignore[index, union-attr, arg-type]
    assert (Explained(network)(pictures_of(2, 64)).heatmap == 0).all()


def test_pictures_of_another_size_have_maps_of_theirs(tiny: Tiny) -> None:
    network = network_of(tiny(backbone="cell_residual", image_size=64, head_widths=[]))
    assert Explained(network)(pictures_of(2, 80)[:, :, :70]).heatmap.shape == (2, 70, 80)


def test_neighbours_that_all_agree_still_warm_the_map(tiny: Tiny) -> None:
    network = network_of(
        tiny(backbone="cell_residual", image_size=64, head="knn", stages=[], neighbours=3, head_widths=[])
    )
    pictures = pictures_of(4, 64)
    assert isinstance(network.head, NeighbourVote)
    with torch.no_grad():
        known = network.embedding(pictures_of(12, 64, seed=1))
    network.head.remember(known, torch.full((12,), 2))
    found = Explained(network)(pictures)
    assert (found.logits.argmax(1) == 2).all()
    assert torch.allclose(found.heatmap.amax((1, 2)), torch.ones(4))
    # The vote of all of the class: the cosines, weighed as the head weighs them.
    maps = network.backbone.forward_features((pictures.float() - network.mean) / network.std)  # type: ignore[operator]
    maps = maps.detach().requires_grad_()
    cosine = nn.functional.cosine_similarity(maps.mean((2, 3))[:, None], known[None], dim=2)
    torch.log(torch.exp(cosine / 0.07).sum(1)).sum().backward()
    explained = Explained(network)
    explained.source.layers = explained.source.layers[-1:]  # type: ignore[union-attr, assignment]
    assert torch.allclose(explained(pictures).heatmap, layer_cam([maps.detach()], [maps.grad], 64), atol=1e-3)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "test_vit2"])
def test_of_a_transformer_the_map_is_the_rollout_of_its_attention(backbone: str, tiny: Tiny) -> None:
    network = network_of(tiny(backbone=backbone, image_size=64, head_widths=[]))
    body: nn.Module = network.backbone
    body.blocks = body.blocks[:3]  # type: ignore[index, assignment]
    pictures = pictures_of(2, 64)
    # The attention of each block from its own queries and keys, in NumPy.
    attentions: list[np.ndarray] = []

    def attend(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tokens = inputs[0].detach()
        heads = int(layer.num_heads)  # type: ignore[arg-type]
        queries, keys, _ = layer.qkv(tokens).detach().reshape(*tokens.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)  # type: ignore[operator]
        scores = (queries.numpy() @ keys.numpy().swapaxes(2, 3)) / np.sqrt(queries.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        attentions.append(weights / weights.sum(-1, keepdims=True))

    handles = [block.attn.register_forward_pre_hook(attend) for block in body.blocks]  # type: ignore[union-attr]
    expected_logits = network(pictures).detach()
    for handle in handles:
        handle.remove()
    flow = np.eye(attentions[0].shape[-1])
    for attention in attentions:
        flow = (0.5 * attention.mean(1) + 0.5 * np.eye(attention.shape[-1])) @ flow
    # The first answers by its class token; the second by the mean of the places, and has a register beside them.
    seen = flow[:, 0, 1:] if backbone == "vit_tiny_patch16_224" else flow[:, 1:, 1:].mean(1)
    side = int(np.sqrt(seen.shape[1]))
    places = torch.from_numpy(seen.reshape(-1, 1, side, side)).float()
    expected = between(nn.functional.interpolate(places, size=(64, 64), mode="bilinear")[:, 0])
    found = Explained(network)(pictures)
    assert torch.allclose(found.logits, expected_logits, atol=1e-4)
    assert torch.allclose(found.heatmap, expected, atol=2e-3)
    assert all(block.attn.fused_attn for block in body.blocks)  # type: ignore[union-attr]


def test_a_rollout_keeps_the_sum_of_its_rows() -> None:
    attentions = [torch.rand(2, 3, 5, 5).softmax(-1) for _ in range(4)]
    assert torch.allclose(rollout(attentions).sum(-1), torch.ones(2, 5))


def test_views_turn_their_maps_back(tiny: Tiny) -> None:
    network = network_of(tiny(backbone="cell_residual", image_size=64, head_widths=[]))
    pictures = pictures_of(3, 64)
    explained = Explained(Views(network, 8))
    logits, embedding, heat = explained(pictures)
    assert torch.allclose(logits, Views(network, 8)(pictures), atol=1e-5)
    assert embedding.shape == network.embedding(pictures).shape
    for pose in (
        lambda x: x.flip(-1),
        lambda x: x.flip(-2),
        lambda x: x.transpose(-1, -2),
        lambda x: x.flip(-1).transpose(-1, -2),
    ):
        posed = explained(pose(pictures))
        assert torch.allclose(posed.heatmap, pose(heat), atol=1e-3)
        assert torch.allclose(posed.embedding, embedding, atol=1e-4)
    assert not torch.allclose(
        Explained(network)(pictures.flip(-1)).heatmap.flip(-1), Explained(network)(pictures).heatmap
    )


def test_members_are_averaged_for_the_answer_that_they_give_together(tiny: Tiny) -> None:
    recipe = tiny(backbone="cell_residual", image_size=64, head_widths=[])
    members = [network_of(recipe, seed) for seed in (0, 1)]
    pictures = pictures_of(3, 64)
    logits, embedding, heat = Explained(Ensemble(members))(pictures)
    assert torch.allclose(logits, Ensemble(members)(pictures), atol=1e-5)
    assert torch.allclose(embedding, torch.cat([member.embedding(pictures) for member in members], 1), atol=1e-5)
    each = [Explained(member).source(pictures).heat(logits.argmax(1)) for member in members]
    total = (each[0] + each[1]).detach()
    assert torch.allclose(heat, total / total.amax((1, 2), keepdim=True), atol=1e-5)


def test_a_network_without_a_feature_map_is_refused(tiny: Tiny) -> None:
    with pytest.raises(InputError, match="Constant has no heat map"):
        Explained(Constant(np.zeros(3, np.float32)))
    network = network_of(tiny(backbone="cell_residual", image_size=64, head_widths=[]))
    network.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, network.head[-1].in_features))  # type: ignore[index, union-attr, arg-type]
    with pytest.raises(InputError, match="none of its layers gives a feature map"):
        Explained(network)
