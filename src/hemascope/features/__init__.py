"""Hand-made features: numbers that tell cells apart without a network, for the audit and for classical models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hemascope.data.cells import Images
from hemascope.errors import InputError
from hemascope.features.stain import Floats, compartments, stained
from hemascope.features.texture import texture
from hemascope.resize import resize

__all__ = ["CURRENT", "FEATURE_SETS", "SIDE", "Floats", "feature_set", "stepwise", "texture_features"]

SIDE = 96
"""The side in pixels at which cells are described, so that one scale means the same in every set."""
# Small enough for a step's intermediate results to stay in a core's cache.
_STEP = 8


def texture_features(images: Images) -> Floats:
    """The texture of pictures uint8 (n, height, width, 3): float32 (n, 386). See `texture`."""
    level = stained(_sized(images))
    return texture(level, *compartments(level))


def cell_features_1(images: Images) -> Floats:
    """Texture, colour and form of pictures uint8 (n, height, width, 3): float32 (n, 496)."""
    from hemascope.features.form import colours, form

    level = stained(_sized(images))
    nucleus, cytoplasm = compartments(level)
    return np.concatenate([texture(level, nucleus, cytoplasm), colours(level), form(nucleus, cytoplasm)], 1)


FEATURE_SETS: Mapping[str, Callable[[Images], Floats]] = {"cell-1": cell_features_1}
"""What a model's file may ask for. A set never changes, or its models would read other numbers than they learnt from:
a better one is another name."""
CURRENT = "cell-1"


def feature_set(name: str) -> Callable[[Images], Floats]:
    """The function from pictures uint8 (n, height, width, 3) to float32 (n, features) that a model's file asks for.

    Raises InputError when this version has no such set.
    """
    if name not in FEATURE_SETS:
        raise InputError(
            f"the model wants the features '{name}', but this version of hemascope has {', '.join(FEATURE_SETS)}; "
            "install the version that trained it."
        )
    describe = FEATURE_SETS[name]
    return lambda images: stepwise(images, describe)


def stepwise(images: Images, function: Callable[[Images], Floats]) -> Floats:
    """Apply a function to a few pictures at a time: float32 (n, features)."""
    # Without pictures, one that is black tells how many features there are.
    if not len(images):
        return function(np.zeros((1, SIDE, SIDE, 3), np.uint8))[:0]
    return np.concatenate([function(images[at : at + _STEP]) for at in range(0, len(images), _STEP)])


def _sized(images: Images) -> Images:
    return resize(images, SIDE) if images.shape[1:3] != (SIDE, SIDE) else images
