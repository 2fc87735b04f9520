"""Backbones and their first weights: random, from the hub that timm knows, or from a safetensors file."""

from __future__ import annotations

import difflib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import timm
from torch import nn

from hemascope import residual as residual  # timm knows its networks from here on
from hemascope.devices import out_of_memory
from hemascope.errors import InputError
from hemascope.recipe import Classical, Recipe
from hemascope.wording import first_line

_HUB = ("huggingface.co", 443)


@dataclass(frozen=True)
class Weights:
    """Where the backbone's first weights come from."""

    origin: str
    """"random", "ImageNet (NAME)", "file NAME" or, of the baseline, ONE_ANSWER; run folders and tables say it."""

    @property
    def random(self) -> bool:
        return self.origin == "random"


def check_backbone(recipe: Recipe) -> None:
    """Raise InputError when timm does not know the recipe's backbone."""
    if recipe.backbone != "none" and not timm.is_model(recipe.backbone):
        near = difflib.get_close_matches(recipe.backbone, [*get_args(Classical), *timm.list_models()], n=3)
        hint = f"; near it are {', '.join(near)}" if near else "; timm.list_models() lists them"
        raise InputError(f"recipe '{recipe.name}': timm has no backbone '{recipe.backbone}'{hint}.")


def check_weights(recipe: Recipe) -> None:
    """Raise InputError when the backbone is unknown, or the weights that the recipe asks for are plainly not there."""
    check_backbone(recipe)
    if recipe.backbone == "none":
        return
    if recipe.pretrained == "required" and not (_cached(recipe) or hub_reachable()):
        raise _no_weights(recipe, f"no connection to {_HUB[0]}")
    if recipe.pretrained not in ("auto", "required", "none"):
        _check_file(Path(recipe.pretrained))


def _create(recipe: Recipe, pretrained: bool) -> nn.Module:
    check_backbone(recipe)
    told = timm.get_pretrained_cfg(recipe.backbone)
    # A transformer knows where in the picture it looks: its table of places is brought to the recipe's size.
    sized: dict[str, Any] = {"img_size": recipe.image_size} if told is not None and told.fixed_input_size else {}
    try:
        backbone: nn.Module = timm.create_model(recipe.backbone, pretrained=pretrained, num_classes=0, **sized)
    except Exception as error:
        # With weights it may be these that fail; without them a network of this size cannot be made.
        if pretrained or not sized or out_of_memory(error):
            raise
        raise InputError(
            f"recipe '{recipe.name}': {recipe.backbone} cannot be made for pictures of {recipe.image_size} pixels "
            f"({first_line(error)}); change 'image_size' or 'backbone'."
        ) from error
    return backbone


def load_backbone(recipe: Recipe) -> tuple[nn.Module, Weights]:
    """The backbone of a recipe, without a head, and where its weights came from; raises as `build_model` does."""
    choice = recipe.pretrained
    if choice == "none":
        return _create(recipe, pretrained=False), Weights("random")
    if choice not in ("auto", "required"):
        backbone = _create(recipe, pretrained=False)
        _load_backbone(backbone, Path(choice), recipe)
        return backbone, Weights(f"file {Path(choice).name}")
    try:
        if not (_cached(recipe) or hub_reachable()):
            raise ConnectionError(f"no connection to {_HUB[0]}")
        return _create(recipe, pretrained=True), Weights(f"ImageNet (timm {recipe.backbone})")
    except InputError:
        raise
    except Exception as error:
        # timm and the hub's client raise many types for "cannot be had"; what matters is what to do now.
        if choice == "required":
            raise _no_weights(recipe, str(error)) from error
        return _create(recipe, pretrained=False), Weights("random")


def _no_weights(recipe: Recipe, reason: str) -> InputError:
    return InputError(
        f"recipe '{recipe.name}': the pretrained weights of {recipe.backbone} cannot be had ({reason}); connect to the "
        "network, name a safetensors file with --pretrained PATH, or use --pretrained none."
    )


def _cached(recipe: Recipe) -> bool:
    """Whether an earlier download left the backbone's weights on this machine, where no connection is needed."""
    from huggingface_hub import try_to_load_from_cache

    told = timm.get_pretrained_cfg(recipe.backbone)
    if told is None or not told.hf_hub_id:
        return False
    return isinstance(try_to_load_from_cache(told.hf_hub_id, "model.safetensors"), str)


def hub_reachable(seconds: float = 3.0) -> bool:
    """Whether the hub that timm takes weights from answers; a quick look instead of a client's long retries."""
    if os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "TRUE"):
        return False
    try:
        socket.create_connection(_HUB, timeout=seconds).close()
    except OSError:
        return False
    return True


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: there is no such weights file; give a safetensors file, or auto, required or none.")


def _load_backbone(backbone: nn.Module, path: Path, recipe: Recipe) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_file(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file ({error}); save the weights as safetensors.") from error
    own = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    wanted = backbone.state_dict()
    wrong = [name for name, value in wanted.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise InputError(
            f"{path}: lacks {len(wrong)} of the {len(wanted)} tensors of {recipe.backbone} in the right shape (first: "
            f"{wrong[0]}); give weights of that network, with 'backbone.' before the names or without."
        )
    backbone.load_state_dict({name: own[name] for name in wanted})
