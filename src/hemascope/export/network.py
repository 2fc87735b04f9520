"""A trained network -> one ONNX file that takes uint8 pictures and gives answers, checked before it is kept."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from hemascope.data import Images
from hemascope.errors import InputError
from hemascope.files import replacing
from hemascope.model import Body, Network
from hemascope.runtime import PURPOSE, Model
from hemascope.tail import with_tail

TOLERANCE = 1e-4
"""The largest difference in a probability between the network and its file."""


def export_onnx(
    network: Network, path: Path, class_names: Sequence[str], pictures: Images, metadata: Mapping[str, str]
) -> float:
    """Write `network` as ONNX for pictures uint8 (batch, height, width, 3), any batch and any size.

    pictures: uint8 (n, size, size, 3) with n >= 1, of the size that trained the network. Returns the largest difference
    in probability from the network itself on them, at batches of 1, 7 and 64. Raises InputError, and leaves no file,
    when it is over TOLERANCE.
    """
    body = Body(network, pictures.shape[1]).eval()
    stated = {
        "class_names": json.dumps(list(class_names)),
        "picture_size": str(pictures.shape[1]),
        "purpose": PURPOSE,
        **metadata,
    }
    model = with_tail(to_onnx(body), len(class_names), stated)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
        difference = _difference(body, temporary, pictures)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{path.name}: differs from the network by {difference:.2g} in a probability, expected at most "
                f"{TOLERANCE:g}; no file was kept: report this with the recipe."
            )
    return difference


def to_onnx(body: Body) -> onnx.ModelProto:
    """A network as a graph from "images" to "logits" and "embedding", for a tail to be put on.

    Raises InputError when the network cannot be exported.
    """
    dimensions = {place: torch.export.Dim(name, min=1) for place, name in enumerate(("batch", "height", "width"))}
    # Sides that differ from each other and from the network's own, so that none of them is taken for a constant.
    example = torch.zeros(2, body.picture_size + 3, body.picture_size + 5, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations; nothing in them is the user's.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            body,
            (example,),
            input_names=["images"],
            output_names=["logits", "embedding"],
            dynamic_shapes=(dimensions,),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise InputError("the network could not be exported to ONNX; use a backbone that timm marks as exportable.")
    return program.model_proto


def _difference(body: Body, path: Path, pictures: Images) -> float:
    exported = Model(path)
    largest = 0.0
    for batch in (1, 7, 64):
        images = pictures[np.arange(batch) % len(pictures)]
        with torch.inference_mode():
            expected = body(torch.from_numpy(images))[0].softmax(1).numpy()
        largest = max(largest, float(np.abs(exported.predict(images) - expected).max()))
    return largest
