"""A network from pictures to classes: preprocessing, backbone and head as one module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hemascope.devices import out_of_memory
from hemascope.errors import InputError
from hemascope.pretrained import Weights, load_backbone
from hemascope.recipe import Recipe
from hemascope.resize import resize_weights
from hemascope.wording import first_line

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Network(nn.Module):
    """Pictures (n, 3, h, w), 0 to 255 -> logits float (n, classes), and the embedding that they were made of."""

    def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits (n, classes) and the embedding (n, d) of pictures."""
        raise NotImplementedError

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.described(pictures)[0]


class CellClassifier(Network):
    """uint8 (or 0..255 float) pictures (n, 3, h, w) -> logits float (n, classes).

    Pictures of another size than the network's are resized as everywhere in hemascope, then scaled and normalised:
    the preprocessing cannot be lost, because it is part of the network.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, recipe: Recipe, class_names: Sequence[str], backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.image_size = recipe.image_size
        self.backbone = backbone
        self.head: nn.Sequential | NeighbourVote
        if recipe.head == "knn":
            self.head = NeighbourVote(features, len(self.class_names), recipe.neighbours)
        else:
            self.head = _head(features, recipe, len(self.class_names))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[None, :, None, None] * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[None, :, None, None] * 255, persistent=False)

    def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.embedding(pictures)
        return self.head(embedding), embedding

    def embedding(self, pictures: torch.Tensor) -> torch.Tensor:
        """What the head sees of pictures, taken as by `forward`: float (n, features)."""
        image = self._resized(pictures.float())
        found: torch.Tensor = self.backbone((image - self.mean) / self.std)
        return found

    def _resized(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        if (height, width) == (self.image_size, self.image_size):
            return image
        rows = torch.from_numpy(resize_weights(height, self.image_size)).to(image)
        columns = torch.from_numpy(resize_weights(width, self.image_size)).to(image)
        return (rows @ (image @ columns.T).clamp(0, 255)).clamp(0, 255)

    def shown_part(self, first: int, size: int) -> None:
        """Say that the pictures to come are those from number `first` on of a batch of `size`, for their dropout."""
        for layer in self.head.modules():
            if isinstance(layer, BatchDropout):
                layer.first, layer.size = first, size

    def penalised_weights(self) -> list[torch.Tensor]:
        """The weights of the dense layers that the recipe's L2 penalty stands on."""
        dense = [layer for layer in self.head.children() if isinstance(layer, nn.Linear)]
        return [layer.weight for layer in dense[:-1]]


class BatchDropout(nn.Module):
    """Dropout (n, d) -> (n, d) that draws for a whole batch, though only some of its pictures may be there.

    So each picture loses the same, however many go through the network at a time and in whichever process. first,
    size: which part of the batch comes next; with size 0, what comes is the batch.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.first, self.size = share, 0, 0

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        rows = embeddings.shape[0]
        if not self.training or self.size in (0, rows):
            return nn.functional.dropout(embeddings, self.share, self.training)
        kept = nn.functional.dropout(embeddings.new_ones(self.size, embeddings.shape[1]), self.share)
        return embeddings * kept[self.first : self.first + rows]


class NeighbourVote(nn.Module):
    """Embeddings (n, features) -> logits (n, classes): a vote of the training cells whose embeddings point alike.

    A vote weighs exp(cosine / temperature), as in Wu et al., Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination, 2018. `remember` gives it the training cells; the file of the weights holds them.
    """

    known: torch.Tensor
    shown: torch.Tensor

    TEMPERATURE = 0.07
    LEAST = 1e-4
    """The probability of a class without a vote, so that its logarithm is a number."""

    def __init__(self, features: int, classes: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours, self.classes = neighbours, classes
        self.register_buffer("known", torch.zeros(1, features))
        self.register_buffer("shown", torch.zeros(1, classes))

    def remember(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        """embeddings: float (rows, features). labels: (rows,), the class of each."""
        self.known = nn.functional.normalize(embeddings.float(), dim=1)
        self.shown = nn.functional.one_hot(labels, self.classes).to(self.known)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        cosine = nn.functional.normalize(embeddings.float(), dim=1) @ self.known.T
        nearest, which = cosine.topk(min(self.neighbours, len(self.known)), dim=1)
        weights = (nearest / self.TEMPERATURE).softmax(1)
        votes = (weights[:, :, None] * self.shown[which]).sum(1)
        return torch.log(votes * (1 - self.classes * self.LEAST) + self.LEAST)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *further: Any) -> None:
        # How many cells it knows is in the file.
        for name in ("known", "shown"):
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name]))
        super()._load_from_state_dict(state, prefix, *further)


class Constant(Network):
    """The baseline in the place of a backbone: logits that do not depend on the picture."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.from_numpy(logits), requires_grad=False)

    def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # The mean colour keeps the picture in the graph, so that an exported file takes the same input as any other.
        colour = pictures.float().mean(dim=(2, 3))
        return colour[:, :1] * 0 + self.logits[None, :], colour


class Body(nn.Module):
    """What is exported of a network: uint8 images (n, height, width, 3) -> logits (n, classes) and embedding (n, d).

    The images may have any size: the central square is cut, brought to the size that the network was trained on and
    rounded, as `hemascope.resize` does it, within the graph.
    """

    def __init__(self, network: Network, picture_size: int) -> None:
        super().__init__()
        self.network, self.picture_size = network, picture_size

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, embedding = self.network.described(fitted(images, self.picture_size))
        return logits.float(), embedding.float()


def fitted(images: torch.Tensor, size: int) -> torch.Tensor:
    """The central squares of images uint8 (n, height, width, 3), at a size: float (n, 3, size, size), whole numbers."""
    height, width = images.shape[1], images.shape[2]
    side = torch.sym_min(height, width)
    square = images.narrow(1, (height - side) // 2, side).narrow(2, (width - side) // 2, side)
    weights = _traced_weights(side, size)
    picture = square.permute(0, 3, 1, 2).float()
    narrow = (picture @ weights.T).clamp(0, 255)
    return torch.floor((weights @ narrow).clamp(0, 255) + 0.5)


def _traced_weights(source: int | torch.SymInt, target: int) -> torch.Tensor:
    """`hemascope.resize.resize_weights` for a side that is known only when the graph runs: (target, source)."""
    scale: Any = torch.sym_float(source) / target
    stretch: Any = torch.sym_max(scale, 1.0)
    pixels = torch.arange(source, dtype=torch.float64) + 0.5
    centres = (torch.arange(target, dtype=torch.float64) + 0.5) * scale
    distance = ((pixels[None, :] - centres[:, None]) / stretch).abs()
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
    return (weights / weights.sum(1, keepdim=True)).float()


def build_model(recipe: Recipe, class_names: Sequence[str]) -> tuple[CellClassifier, Weights]:
    """The network of a recipe, with its first weights and where they came from.

    Random weights follow torch's global generator. Raises InputError when the backbone is unknown or does not take
    pictures of the recipe's sides, or when weights are required and cannot be had, or do not fit.
    """
    backbone, weights = load_backbone(recipe)
    return CellClassifier(recipe, class_names, backbone, _features(backbone, recipe)), weights


@torch.no_grad()
def _features(backbone: nn.Module, recipe: Recipe) -> int:
    """How long an embedding is, as pictures of all sides tell that the recipe and its stages name."""
    lengths: list[int] = []
    for side in dict.fromkeys([recipe.image_size, *map(recipe.side_in, recipe.stages)]):
        try:
            lengths.append(int(backbone.eval()(torch.zeros(1, 3, side, side)).shape[1]))
        except Exception as error:
            # Each network has its own way to say that its layers do not fit.
            if out_of_memory(error):
                raise
            what = f"pictures of {side} pixels" + (f" beside those of {recipe.image_size}" if lengths else "")
            raise InputError(
                f"recipe '{recipe.name}': {recipe.backbone} does not take {what} ({first_line(error)}); change "
                "'image_size', of the recipe or of its stages, or 'backbone'."
            ) from error
    return lengths[0]


def _head(features: int, recipe: Recipe, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in recipe.head_widths:
        layers += [nn.Linear(features, width), nn.ReLU(), BatchDropout(recipe.head_dropout)]
        features = width
    if not recipe.head_widths and recipe.head_dropout:
        layers.append(BatchDropout(recipe.head_dropout))
    return nn.Sequential(*layers, nn.Linear(features, classes))
