"""A trained network -> one ONNX file that takes uint8 pictures and gives answers, checked before it is kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import torch
from numpy.typing import NDArray
from torch import nn

from hemascope.assembly import assemble
from hemascope.data import Cells, Images
from hemascope.errors import InputError
from hemascope.files import replacing
from hemascope.heatmap import Explained
from hemascope.heatmap_graph import traced
from hemascope.model import Body, Network, fitted
from hemascope.precision import with_half_weights
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
    heatmap: bool = False,
) -> tuple[float, Trust]:
    """Write `network` as ONNX for pictures uint8 (batch, height, width, 3), any batch and any size.

    cells: what trained it, split; their calibration rows say when it should be believed, and their pictures have its
    size. heatmap: whether the file gives heat maps too. Returns the largest difference in probability from the network
    itself, at batches of 1, 7 and 64, and what was fitted. Raises InputError, and leaves no file, when the difference
    is over TOLERANCE.
    """
    pictures = np.asarray(cells.in_split("calibration").images[:64])
    body = Body(network, pictures.shape[1]).eval()
    whole = assemble(to_onnx(body, heatmap), cells, pictures.shape[1], metadata, distortion, seed=seed)

    def logits(images: Images) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = body(torch.from_numpy(images))[0].numpy()
        return found

    return whole.write(path, logits, pictures, TOLERANCE), whole.trust


def export_heatmap(network: Network, path: Path, picture_size: int) -> None:
    """Write what gives the heat maps of a network alone: "images" of any size -> "heatmap", weights in 16 bits.

    Raises InputError when the network has no heat map.
    """
    whole = to_onnx(Body(network, picture_size).eval(), heatmap=True)
    (heat,) = (value for value in whole.graph.output if value.name == "heatmap")
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(heat)
    del whole.graph.output[:]
    whole.graph.output.append(kept)
    with replacing(path) as temporary:
        onnx.save(with_half_weights(whole), temporary)


class Fit(nn.Module):
    """uint8 images (n, height, width, 3) of any size -> pictures uint8 (n, 3, size, size)."""

    def __init__(self, picture_size: int) -> None:
        super().__init__()
        self.picture_size = picture_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return fitted(images, self.picture_size).to(torch.uint8)


def to_onnx(body: Body, heatmap: bool = False) -> onnx.ModelProto:
    """A network as a graph from "images" to "logits", "embedding" and, if asked for, "heatmap", for a tail.

    Raises InputError when the network cannot be exported, or has no heat map.
    """
    size = body.picture_size
    dimensions = {place: torch.export.Dim(name, min=1) for place, name in enumerate(("batch", "height", "width"))}
    # Sides that differ from each other and from the network's own, so that none of them is taken for a constant.
    images = torch.zeros(2, size + 3, size + 5, 3, dtype=torch.uint8)
    if not heatmap:
        return _exported(body, images, "images", ["logits", "embedding"], dimensions)
    fit = _exported(Fit(size), images, "images", ["pictures"], dimensions)
    # The gradients are traced for one size, so that resizing stands before them as a graph of its own.
    network = _exported(
        traced(Explained(body.network), size, size),
        torch.zeros(2, 3, size, size, dtype=torch.uint8),
        "pictures",
        ["logits", "embedding", "heatmap"],
        {0: torch.export.Dim("batch", min=1)},
    )
    return onnx.compose.merge_models(
        onnx.compose.add_prefix(fit, "fit_", rename_inputs=False, rename_outputs=False),
        onnx.compose.add_prefix(network, "network_", rename_inputs=False, rename_outputs=False),
        io_map=[("pictures", "pictures")],
    )


def _exported(
    module: nn.Module, example: torch.Tensor, entry: str, outputs: list[str], dimensions: dict[int, Any]
) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations; nothing in them is the user's.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[entry],
            output_names=outputs,
            dynamic_shapes=(dimensions,),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise InputError("the network could not be exported to ONNX; use a backbone that timm marks as exportable.")
    return program.model_proto
