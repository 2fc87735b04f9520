"""A trained network -> one ONNX file that takes uint8 pictures and gives answers, checked before it is kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from hemascope.assembly import assemble
from hemascope.data import Cells, Images
from hemascope.errors import InputError
from hemascope.model import Body, Network
from hemascope.trust.fitted import UNDISTORTED, Distortion, Trust

TOLERANCE = 1e-4
"""The largest difference in a probability between the network and its file."""


def export_onnx(
    network: Network,
    path: Path,
    cells: Cells,
    metadata: Mapping[str, str],
    distortion: Distortion = UNDISTORTED,
    seed: int = 0,
) -> tuple[float, Trust]:
    """Write `network` as ONNX for pictures uint8 (batch, height, width, 3), any batch and any size.

    cells: what trained it, split; their calibration rows say when it should be believed, and their pictures have its
    size. Returns the largest difference in probability from the network itself, at batches of 1, 7 and 64, and what was
    fitted. Raises InputError, and leaves no file, when the difference is over TOLERANCE.
    """
    pictures = np.asarray(cells.in_split("calibration").images[:64])
    body = Body(network, pictures.shape[1]).eval()
    whole = assemble(to_onnx(body), cells, pictures.shape[1], metadata, distortion, seed=seed)

    def logits(images: Images) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = body(torch.from_numpy(images))[0].numpy()
        return found

    return whole.write(path, logits, pictures, TOLERANCE), whole.trust


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
