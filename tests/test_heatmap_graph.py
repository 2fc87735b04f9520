from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hemascope.ensemble import Ensemble, Views
from hemascope.heatmap import Explained
from hemascope.heatmap_graph import OURS, traced
from hemascope.model import CellClassifier, NeighbourVote, build_model
from hemascope.recipe import Recipe

Tiny = Callable[..., Recipe]
aten = torch.ops.aten


def network_of(recipe: Recipe, seed: int = 0) -> CellClassifier:
    torch.manual_seed(seed)
    network = build_model(recipe, ("basophil", "eosinophil", "monocyte"))[0].eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
    return network


def pictures_of(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def agree(explained: Explained, side: int) -> None:
    """The graph gives what the network gives, at batches that it was not traced with, and holds no gradient."""
    graph = traced(explained, side, side)
    assert not [node for node in graph.graph.nodes if "backward" in str(node.target)]
    for count in (1, 4):
        pictures = pictures_of(count, side)
        for ours, theirs in zip(graph(pictures.float()), explained(pictures), strict=True):
            assert ours.shape == theirs.shape
            assert not ours.requires_grad
            assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "groups"),
    [(9, 3, 1, 1, 1, 1), (12, 3, 2, 1, 1, 4), (13, 5, 3, 0, 1, 2), (11, 3, 2, 2, 2, 1), (7, 1, 4, 0, 1, 1)],
)
def test_the_gradient_of_a_convolution_is_a_convolution(
    size: int, kernel: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    inputs = torch.randn(2, 8, size, size + 1, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 8 // groups, kernel, kernel, dtype=torch.float64)
    out = nn.functional.conv2d(inputs, weight, None, stride, padding, dilation, groups)
    grown = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, inputs, grown)
    pairs = ([stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], groups, [True, False, False])
    found = OURS[aten.convolution_backward.default](grown, inputs, weight, None, *pairs)
    assert torch.allclose(found[0], expected)
    assert found[1:] == (None, None)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "ceil", "counted", "divisor"),
    [
        (12, 2, 2, 0, False, True, None),
        (9, 2, 2, 0, True, False, None),
        (9, 2, 2, 0, True, True, None),
        (10, 3, 2, 1, True, True, None),
        (10, 3, 1, 1, False, False, None),
        (11, 3, 2, 1, False, True, 5),
    ],
)
def test_the_gradient_of_a_mean_over_patches_is_two_products(
    size: int, kernel: int, stride: int, padding: int, ceil: bool, counted: bool, divisor: int | None
) -> None:
    inputs = torch.randn(2, 3, size, size + 3, requires_grad=True)
    out = nn.functional.avg_pool2d(inputs, kernel, stride, padding, ceil, counted, divisor)
    grown = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, inputs, grown)
    pairs = ([kernel] * 2, [stride] * 2, [padding] * 2, ceil, counted, divisor)
    assert torch.allclose(OURS[aten.avg_pool2d_backward.default](grown, inputs, *pairs), expected, atol=1e-6)


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_100", "test_resnet", "test_vit"])
def test_the_graph_of_any_backbone_gives_what_the_network_gives(backbone: str, tiny: Tiny) -> None:
    network = network_of(tiny(backbone=backbone, image_size=64, head_widths=[8]))
    agree(Explained(network), 64)


def test_the_graph_of_views_and_members_and_of_neighbours(tiny: Tiny) -> None:
    recipe = tiny(backbone="cell_residual", image_size=64, head_widths=[])
    agree(Explained(Views(network_of(recipe), 4)), 64)
    agree(Explained(Ensemble([network_of(recipe), network_of(tiny(head_widths=[]), 1)])), 48)
    network = network_of(
        tiny(backbone="cell_residual", image_size=64, head="knn", stages=[], neighbours=3, head_widths=[])
    )
    assert isinstance(network.head, NeighbourVote)
    network.head.remember(torch.randn(9, 256).abs(), torch.arange(9) % 3)
    agree(Explained(network), 64)


def test_the_exported_file_gives_what_the_network_gives_in_the_same_pass(tiny: Tiny, tmp_path: Path) -> None:
    import onnxruntime

    network = network_of(tiny(backbone="cell_residual", image_size=64, head_widths=[6]))
    explained = Explained(network)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            traced(explained, 64, 64),
            (pictures_of(2, 64).float(),),
            input_names=["pictures"],
            output_names=["logits", "embedding", "heatmap"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 7):
        pictures = pictures_of(count, 64)
        for ours, theirs in zip(
            session.run(None, {"pictures": pictures.float().numpy()}), explained(pictures), strict=True
        ):
            assert np.abs(ours - theirs.numpy()).max() < 1e-4
