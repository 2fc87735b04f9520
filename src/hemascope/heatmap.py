"""Where a network looks: its answer, its embedding and a heat map of each picture, from one pass.

Of a convolutional network the map is LayerCAM: Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for
Localization, 2021. Each place of a feature map weighs its own channels by the gradient of the answer's logit, as far as
that is positive; on the last map before pooling, with a linear head, that is CAM with the positive weights alone. At 96
pixels the last map has 3 x 3 places, so the maps of the last three resolutions are added, each between its coldest and
its hottest place: on validation cells that told better than any one of them what the answer rests on. A convolution
with a stride reads some places more often than others, one of 1 x 1 only one in four: their gradients stand on a grid
that is the network's, not the cell's. What weighs the channels is therefore averaged over the steps from a map to the
last one; the channels stay as fine as they are. Of a transformer it is the rollout of its attention, which is the same
for every answer: Abnar and Zuidema, Quantifying Attention Flow in Transformers, 2020.

No layer is named by the user: the backbone is run once, and at each resolution the last feature map is taken through
which everything passes on its way to the embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, normalize

from hemascope.ensemble import Ensemble, Views, log_mean
from hemascope.errors import InputError
from hemascope.model import CellClassifier, NeighbourVote

RESOLUTIONS = 3
"""Of how many of the last resolutions the maps are added."""


class Explanation(NamedTuple):
    """logits (n, classes), embedding (n, features), and heatmap (n, h, w) for the most probable class.

    A map has the size of the picture and goes from 0 to 1; it is 0 all over where it would be flat.
    """

    logits: torch.Tensor
    embedding: torch.Tensor
    heatmap: torch.Tensor


class Answer(NamedTuple):
    """The same for whichever classes: heat maps classes (n,) -> (n, h, w)."""

    logits: torch.Tensor
    embedding: torch.Tensor
    heat: Callable[[torch.Tensor], torch.Tensor]


class Explained(nn.Module):
    """Pictures (n, 3, h, w), uint8 or 0..255 float -> Explanation; the network's weights are shared, not copied.

    network: a CellClassifier in evaluation mode, or Views or an Ensemble of such. The embedding of Views is the mean
    over the poses, the maps turned back and averaged; an Ensemble's embeddings stand side by side, the maps are
    averaged. The map is made with gradients, so it cannot be exported as it is: see `hemascope.heatmap_graph.traced`.
    Raises InputError when the network has no map: it is no network of pictures, or neither convolutional nor a plain
    transformer.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.source = _source(network.eval())

    def forward(self, pictures: torch.Tensor) -> Explanation:
        with torch.inference_mode(False), torch.enable_grad():
            # What was made in inference mode cannot be differentiated; a copy can.
            logits, embedding, heat = self.source(pictures.clone())
            found = scaled(heat(logits.argmax(1)))
        return Explanation(logits.detach(), embedding.detach(), found.detach())


def has_heatmap(network: nn.Module) -> bool:
    """Whether `Explained` has a map of that network."""
    try:
        _source(network)
    except InputError:
        return False
    return True


def _source(network: nn.Module) -> _Gradients | _Rollout | _OfViews | _OfMembers:
    if isinstance(network, Views):
        return _OfViews(_source(network.network), network.views)
    if isinstance(network, Ensemble):
        return _OfMembers([_source(member) for member in network.members])
    if not isinstance(network, CellClassifier):
        raise InputError(f"a {type(network).__name__} has no heat map; give a network that hemascope trained.")
    if blocks := attention_blocks(network):
        return _Rollout(network, blocks)
    return _Gradients(network, cuts(network))


class _Gradients(nn.Module):
    """LayerCAM of one convolutional network on the outputs of the layers named, the first of them first."""

    def __init__(self, network: CellClassifier, layers: Sequence[str]) -> None:
        super().__init__()
        self.network, self.layers = network, tuple(layers)

    def forward(self, pictures: torch.Tensor) -> Answer:
        maps: list[torch.Tensor] = []

        def keep(layer: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            # Gradients are wanted from here on, and not of what came before.
            maps.append(output if maps else output.detach().requires_grad_())
            # A layer that works in place must not change what is kept.
            return maps[-1].clone()

        with _hooked([self.network.backbone.get_submodule(name) for name in self.layers], keep):
            embedding = self.network.embedding(pictures)
        logits = self.network.head(embedding)

        def heat(classes: torch.Tensor) -> torch.Tensor:
            found = torch.autograd.grad(_score(self.network.head, embedding, logits, classes).sum(), maps)
            weights = [spread(grown.relu(), maps[-1].shape[-2:]) for grown in found]
            each = [(weight * kept).sum(1).relu() for weight, kept in zip(weights, maps, strict=True)]
            return torch.stack([risen(_sized(one, pictures)) for one in each]).mean(0)

        return Answer(logits, embedding, heat)


class _Rollout(nn.Module):
    """The rollout of one transformer's attention, from the layers whose inputs are its weights, in their order."""

    def __init__(self, network: CellClassifier, blocks: Sequence[str]) -> None:
        super().__init__()
        self.network, self.blocks = network, tuple(blocks)
        self.prefix = int(getattr(network.backbone, "num_prefix_tokens", 0))
        self.by_token = getattr(network.backbone, "global_pool", "") == "token"

    def forward(self, pictures: torch.Tensor) -> Answer:
        with _attentions(self.network.backbone, self.blocks) as attentions:
            embedding = self.network.embedding(pictures)

        def heat(classes: torch.Tensor) -> torch.Tensor:
            flow = rollout(attentions)[:, :, self.prefix :]
            seen = flow[:, 0] if self.by_token else flow[:, self.prefix :].mean(1)
            side = round(seen.shape[1] ** 0.5)
            return risen(_sized(seen.reshape(-1, side, side), pictures))

        return Answer(self.network.head(embedding), embedding, heat)


class _OfViews(nn.Module):
    """The maps of the poses of a picture, turned back and averaged."""

    def __init__(self, source: nn.Module, views: int) -> None:
        super().__init__()
        self.source, self.views = source, views

    def forward(self, pictures: torch.Tensor) -> Answer:
        logits, embedding, heat = self.source(Views.poses(pictures, self.views))
        whole = log_mean(logits.float().log_softmax(1).reshape(self.views, -1, logits.shape[1]))
        mean = embedding.reshape(self.views, -1, embedding.shape[1]).mean(0)

        def turned_back(classes: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = heat(classes.repeat(self.views))
            if self.views >= 8:
                found = sum_of_halves(found, lambda posed: posed.transpose(1, 2))
            if self.views >= 4:
                found = sum_of_halves(found, lambda posed: posed.flip(1))
            if self.views >= 2:
                found = sum_of_halves(found, lambda posed: posed.flip(2))
            return found / self.views

        return Answer(whole, mean, turned_back)


def sum_of_halves(maps: torch.Tensor, back: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    # Told in halves, and not by a count of rows, so that a graph of it holds for any.
    halves = maps.reshape(2, -1, *maps.shape[1:])
    return halves[0] + back(halves[1])


class _OfMembers(nn.Module):
    """The maps of an ensemble's members for the answer that they give together, averaged."""

    def __init__(self, sources: Sequence[nn.Module]) -> None:
        super().__init__()
        self.sources = nn.ModuleList(sources)

    def forward(self, pictures: torch.Tensor) -> Answer:
        answers: list[Answer] = [source(pictures) for source in self.sources]
        logits = log_mean(torch.stack([answer.logits.float().log_softmax(1) for answer in answers]))
        embedding = torch.cat([answer.embedding for answer in answers], 1)
        return Answer(logits, embedding, lambda classes: torch.stack([each.heat(classes) for each in answers]).mean(0))


def spread(gradients: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Gradients (n, channels, h, w) >= 0 without the grid that strides leave in them, up to a map of these sides.

    Each is averaged over a step, twice, which is a mean with weights that fall to nothing a step away: what stands on
    a grid of that step becomes even.
    """
    steps = [max(round(int(side) / int(last)), 1) for side, last in zip(gradients.shape[-2:], sides, strict=True)]
    before = [step // 2 for step in steps]
    after = [step - 1 - pad for step, pad in zip(steps, before, strict=True)]
    once = avg_pool2d(gradients, steps, 1, before, count_include_pad=False)
    return avg_pool2d(once, steps, 1, after, count_include_pad=False)


def scaled(maps: torch.Tensor) -> torch.Tensor:
    """Maps (n, h, w) >= 0 with the largest value of each 1, or 0 where there is no heat."""
    top = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(top > 0, top, torch.ones_like(top))


def risen(maps: torch.Tensor) -> torch.Tensor:
    """Maps (n, h, w) between 0 at the coldest place of each and 1 at the hottest; 0 where they are flat.

    A map is never cold all over: each place of it sees much of the picture, and each token keeps some of itself.
    """
    return scaled(maps - maps.amin((1, 2), keepdim=True))


def rollout(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """What each token takes from each token of the first layer: (n, tokens, tokens), rows summing to 1.

    attentions: (n, heads, tokens, tokens) of each block, the first first. The way past a block counts as half.
    """
    flow: torch.Tensor | None = None
    for attention in attentions:
        mixed = attention.mean(1) / 2 + torch.eye(attention.shape[-1]).to(attention) / 2
        flow = mixed if flow is None else mixed @ flow
    assert flow is not None
    return flow


def _score(head: nn.Module, embedding: torch.Tensor, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """What is differentiated for the classes (n,): their logits (n,)."""
    if not isinstance(head, NeighbourVote):
        return logits.gather(1, classes[:, None])[:, 0]
    # Where all neighbours agree the vote is flat. How near they are is not: the vote's own weights, summed unscaled
    # over the known cells of the class.
    cosine = normalize(embedding.float(), dim=1) @ head.known.T
    others = head.shown.T[classes] == 0
    return (cosine / head.TEMPERATURE).masked_fill(others, -1e4).logsumexp(1)


def _sized(maps: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    return interpolate(maps[:, None], size=pictures.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def attention_blocks(network: CellClassifier) -> list[str]:
    """The layers of a plain transformer that are given attention weights, in their order; none of another network.

    Plain means that every block has all tokens look at all tokens: windows have no rollout.
    """
    backbone = network.backbone
    names = [f"{name}.attn_drop" for name, layer in backbone.named_modules() if _attends(layer)]
    if not names:
        return []
    with torch.no_grad(), _attentions(backbone, names) as attentions:
        network.embedding(torch.zeros(1, 3, network.image_size, network.image_size))
    prefix = int(getattr(backbone, "num_prefix_tokens", 0))
    sizes = {tuple(attention.shape) for attention in attentions}
    tokens = attentions[0].shape[-1] if attentions else 0
    square = round(max(tokens - prefix, 0) ** 0.5) ** 2 == tokens - prefix
    whole = len(attentions) == len(names) and len(sizes) == 1 and attentions[0].shape[0] == 1
    if not (whole and square and tokens > prefix + 1):
        raise InputError(
            f"a {type(backbone).__name__} has no heat map: its attention does not join all places of the picture; use "
            "a convolutional backbone or a plain ViT."
        )
    return names


def _attends(layer: nn.Module) -> bool:
    return hasattr(layer, "fused_attn") and isinstance(getattr(layer, "attn_drop", None), nn.Module)


@contextmanager
def _attentions(backbone: nn.Module, names: Sequence[str]) -> Iterator[list[torch.Tensor]]:
    """Collects the attention weights of the blocks while the backbone runs."""
    found: list[torch.Tensor] = []
    owners = [backbone.get_submodule(name.rpartition(".")[0]) for name in names]
    fused = [owner.fused_attn for owner in owners]
    layers = [backbone.get_submodule(name) for name in names]
    try:
        for owner in owners:
            # The fused kernel never holds the weights.
            owner.fused_attn = False  # type: ignore[assignment]
        with _hooked(layers, lambda layer, inputs, output: found.append(inputs[0])):
            yield found
    finally:
        for owner, before in zip(owners, fused, strict=True):
            owner.fused_attn = before


def cuts(network: CellClassifier) -> list[str]:
    """The backbone's layers whose feature maps the heat map is made of, the first first: one for each resolution.

    Of each of the last resolutions above 1 x 1 it is the last layer that everything passes through: with its output
    cut off, the embedding does not depend on the picture any more. Raises InputError when there is none.
    """
    backbone, side = network.backbone, network.image_size
    seen: list[tuple[str, int]] = []
    names = {layer: name for name, layer in backbone.named_modules() if name}

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            seen.append((names[layer], output.shape[2]))

    with torch.no_grad(), _hooked(list(names), note):
        network.embedding(torch.zeros(1, 3, side, side))
    found: dict[int, str] = {}
    passes = Counter(name for name, _ in seen)
    for name, places in reversed(seen):
        finer = len(found) < RESOLUTIONS and places > max(found, default=0)
        if finer and passes[name] == 1 and _is_cut(network, name):
            found[places] = name
    if not found:
        raise InputError(
            f"a {type(backbone).__name__} has no heat map: none of its layers gives a feature map (n, channels, h, w) "
            "that the whole answer rests on; use a convolutional backbone or a plain ViT."
        )
    return [name for _, name in sorted(found.items(), reverse=True)]


def _is_cut(network: CellClassifier, name: str) -> bool:
    side = network.image_size
    pictures = torch.zeros(1, 3, side, side, requires_grad=True)
    with (
        torch.enable_grad(),
        _hooked([network.backbone.get_submodule(name)], lambda layer, inputs, output: output.detach()),
    ):
        embedding = network.embedding(pictures)
        return (
            not embedding.requires_grad or torch.autograd.grad(embedding.sum(), pictures, allow_unused=True)[0] is None
        )


def _gradient(embedding: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor | None:
    return torch.autograd.grad(embedding.sum(), pictures, allow_unused=True)[0]


@contextmanager
def _hooked(layers: Sequence[nn.Module], hook: Callable[[nn.Module, Any, Any], Any]) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
