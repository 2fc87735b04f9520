"""A trained network -> one ONNX file that takes uint8 pictures and gives probabilities, checked before it is kept."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from hemascope.data import Images
from hemascope.errors import InputError
from hemascope.files import replacing
from hemascope.model import Deployed
from hemascope.runtime import PURPOSE, Model

TOLERANCE = 1e-4
"""The largest difference in a probability between the network and its file."""


def export_onnx(
    network: nn.Module, path: Path, class_names: Sequence[str], pictures: Images, metadata: Mapping[str, str]
) -> float:
    """Write `network` as ONNX for pictures uint8 (batch, size, size, 3), any batch, of the size of `pictures`.

    Returns the largest difference in probability from the network itself on `pictures`, uint8 (n, size, size, 3) with
    n >= 1, at batches of 1, 7 and 64. Raises InputError, and leaves no file, when it is over TOLERANCE.
    """
    deployed = Deployed(network).eval()
    image_size = pictures.shape[1]
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations; nothing in them is the user's.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployed,
            (example,),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise InputError("the network could not be exported to ONNX; use a backbone that timm marks as exportable.")
    model = program.model_proto
    stated = {"class_names": json.dumps(list(class_names)), "purpose": PURPOSE, **metadata}
    onnx.helper.set_model_props(model, stated)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
        difference = _difference(deployed, temporary, pictures)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{path.name}: differs from the network by {difference:.2g} in a probability, expected at most "
                f"{TOLERANCE:g}; no file was kept: report this with the recipe."
            )
    return difference


def _difference(deployed: Deployed, path: Path, pictures: Images) -> float:
    exported = Model(path)
    largest = 0.0
    for batch in (1, 7, 64):
        images = pictures[np.arange(batch) % len(pictures)]
        with torch.inference_mode():
            expected = deployed(torch.from_numpy(images)).numpy()
        largest = max(largest, float(np.abs(exported.predict(images) - expected).max()))
    return largest
