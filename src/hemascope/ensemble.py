"""Several answers for one picture, averaged within the network: poses of the picture, and members of an ensemble."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from hemascope.errors import InputError
from hemascope.model import CellClassifier, Network, build_model
from hemascope.models import shipped_models
from hemascope.pretrained import check_weights
from hemascope.recipe import Recipe
from hemascope.run import Run, recipe_of


class Views(Network):
    """Pictures (n, 3, h, h) -> the logarithm of the mean probabilities over poses of a square: (n, classes).

    views: 1 (as it is), 2 (and mirrored), 4 (mirrored along either axis or both) or 8 (those, transposed too): each
    set is closed, so that none of its poses changes the answer. The poses go through the network as one batch. The
    embedding is the mean of theirs.
    """

    def __init__(self, network: Network, views: int) -> None:
        super().__init__()
        self.network, self.views = network, views

    def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, embedding = self.network.described(self.poses(pictures, self.views))
        told = log_mean(logits.float().log_softmax(1).reshape(self.views, -1, logits.shape[1]))
        return told, embedding.float().reshape(self.views, -1, embedding.shape[1]).mean(0)

    @staticmethod
    def poses(pictures: torch.Tensor, views: int) -> torch.Tensor:
        """The pictures (n, 3, h, h) in each pose: (views * n, 3, h, h), all in the first pose first."""
        poses = pictures
        if views >= 2:
            poses = torch.cat([poses, poses.flip(3)])
        if views >= 4:
            poses = torch.cat([poses, poses.flip(2)])
        if views >= 8:
            poses = torch.cat([poses, poses.transpose(2, 3)])
        return poses


class Ensemble(Network):
    """Pictures (n, 3, h, w) -> the logarithm of the mean probabilities of several networks: (n, classes).

    The embedding is theirs side by side.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, embeddings = zip(*(member.described(pictures) for member in self._members()), strict=True)
        told = log_mean(torch.stack([one.float().log_softmax(1) for one in logits]))
        return told, torch.cat([one.float() for one in embeddings], dim=1)

    def _members(self) -> Iterator[Network]:
        yield from cast("Iterable[Network]", self.members)


def log_mean(log_probabilities: torch.Tensor) -> torch.Tensor:
    """The logarithm of the mean over the first axis of what log_probabilities (k, n, classes) are logarithms of."""
    return log_probabilities.logsumexp(0) - math.log(len(log_probabilities))


def with_views(network: Network, views: int) -> Network:
    """The network, averaged over so many poses of a picture."""
    return network if views == 1 else Views(network, views)


def classifiers(network: Network) -> list[CellClassifier]:
    """The single networks that answer in a network, in the order of its weights."""
    return [one for one in network.modules() if isinstance(one, CellClassifier)]


def load_network(run: Run) -> tuple[Network, tuple[str, ...], str]:
    """The trained network of a run with its views, its class names, and where its first weights came from.

    Raises InputError when the folder holds no finished training, or one of a model that is no network.
    """
    if str(run.folder) in shipped_models():
        raise InputError(
            f"{run.folder}: comes with hemascope as the file that answers, without the weights that training needs; "
            f"train it by --recipe {run.folder}, and give the folder of that run."
        )
    if not run.trained:
        raise InputError(f"{run.folder}: holds no finished training; give the folder of a finished run.")
    recipe = recipe_of(run)
    weights = run.model / "weights.safetensors"
    whole = isinstance(recipe.members, int)
    if (whole and recipe.backbone == "none") or not weights.is_file():
        raise InputError(f"{run.folder}: its model is no network ({recipe.backbone}); give runs of networks.")
    described = json.loads((run.model / "model.json").read_text(encoding="utf-8"))
    names = tuple(described["class_names"])
    single = recipe.model_copy(update={"pretrained": "none"})
    network: Network
    if recipe.members == 1:
        network = build_model(single, names)[0]
    elif isinstance(recipe.members, int):
        network = Ensemble([build_model(single, names)[0] for _ in range(recipe.members)])
    else:
        network = Ensemble([load_network(Run(Path(folder)))[0] for folder in recipe.members])
    network.load_state_dict(load_file(weights))
    # Runs of before do not say at which size their networks look at pictures: it was the recipe's.
    for one, side in zip(classifiers(network), described.get("image_sizes", ()), strict=False):
        one.image_size = side
    return with_views(network.eval(), recipe.views), names, described["weights"]


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError for what a recipe asks for and is not there: backbone, weights, the runs that it names.

    A backbone is there if it takes pictures of the recipe's sides, for which it is built once.
    """
    if not recipe.classical:
        check_weights(recipe)
        if recipe.backbone != "none":
            build_model(recipe.model_copy(update={"pretrained": "none"}), ("a class",))
    members = () if isinstance(recipe.members, int) else recipe.members
    for folder in (*filter(None, [recipe.teacher]), *members):
        load_network(Run(Path(folder)))


def check_same_rows(folder: str, names: Sequence[str], class_names: Sequence[str], run: Run) -> None:
    """Raise InputError when a finished run knows other classes than these, or pictures that `run` holds out."""
    if tuple(names) != tuple(class_names):
        raise InputError(
            f"{folder}: tells {', '.join(names)} apart, and these data hold {', '.join(class_names)}; name runs that "
            "were trained on the same classes."
        )
    if not _rows_of(Run(Path(folder))).equals(_rows_of(run)):
        raise InputError(
            f"{folder}: was trained on another split or other data, so that it may know pictures that are held out "
            "here; name runs that were trained on these data with the same --split-seed."
        )


def _rows_of(run: Run) -> pd.DataFrame:
    """Which pictures stand on which side of a run's split."""
    if not run.split.is_file():
        raise InputError(f"{run.folder}: holds no split.csv, which says what it was trained on; name a whole run.")
    table = pd.read_csv(run.split, dtype={"pixel_hash": np.uint64}, keep_default_na=False)
    return table[["pixel_hash", "split"]].sort_values(["pixel_hash", "split"], ignore_index=True)
