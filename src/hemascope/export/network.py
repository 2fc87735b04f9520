"""A trained network -> one ONNX file that takes uint8 pictures and gives answers, checked before it is kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from functools import cache
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
from hemascope.export.graph import forget_sources
from hemascope.export.on_request import on_request
from hemascope.folded import folded
from hemascope.heatmap import Explained, has_heatmap
from hemascope.heatmap_graph import EXAMPLES, traced
from hemascope.model import Body, Network, fitted
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
    heatmap: bool = True,
) -> tuple[float, Trust]:
    """Write `network` as ONNX for pictures uint8 (batch, height, width, 3), any batch and any size.

    cells: what trained it, split; their calibration rows say when it should be believed, and their pictures have its
    size. heatmap: whether the file gives heat maps too, where the network has any. Returns the largest difference in
    probability from the network itself, at batches of 1, 7 and 64, and what was fitted. Raises InputError, and leaves
    no file, when the difference is over TOLERANCE.
    """
    pictures = np.asarray(cells.in_split("calibration").images[:64])
    body = Body(network, pictures.shape[1]).eval()
    graph = _with_heatmap(body) if heatmap else to_onnx(body)
    whole = assemble(graph, cells, pictures.shape[1], metadata, distortion, seed=seed)

    def logits(images: Images) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = body(torch.from_numpy(images))[0].numpy()
        return found

    return whole.write(path, logits, pictures, TOLERANCE), whole.trust


def _with_heatmap(body: Body) -> onnx.ModelProto:
    if not has_heatmap(body.network):
        return to_onnx(body)
    try:
        return to_onnx(body, heatmap=True)
    except Exception as error:
        # Whatever the tracer meets in a network of any make: without heat maps a run is still a run.
        logging.getLogger(__name__).warning("no heat maps: %s", " ".join(str(error).split())[:200])
        return to_onnx(body)


class Fit(nn.Module):
    """uint8 images (n, height, width, 3) of any size -> pictures float32 (n, 3, size, size), 0 to 255."""

    def __init__(self, picture_size: int) -> None:
        super().__init__()
        self.picture_size = picture_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return fitted(images, self.picture_size)


def to_onnx(body: Body, heatmap: bool = False) -> onnx.ModelProto:
    """A network as a graph from "images" to "logits" and "embedding", for a tail.

    heatmap: whether it gives heat maps too, see `hemascope.export.on_request`. Raises InputError when the network
    cannot be exported, or has no heat map.
    """
    size = body.picture_size
    if not heatmap:
        return _exported(body, _odd(size), "images", ["logits", "embedding"], _ANY_SIZE)
    fit = onnx.ModelProto.FromString(_fit(size))
    # The gradients are traced for one size, so that resizing stands before them as a graph of its own.
    pictures = torch.zeros(EXAMPLES, 3, size, size)
    network = _exported(
        traced(Explained(folded(body.network, pictures[:2])), size, size),
        pictures,
        "pictures",
        ["logits", "embedding", "heatmap"],
        {0: torch.export.Dim("batch", min=1)},
    )
    merged = onnx.compose.merge_models(
        onnx.compose.add_prefix(fit, "fit_", rename_inputs=False, rename_outputs=False),
        onnx.compose.add_prefix(network, "network_", rename_inputs=False, rename_outputs=False),
        io_map=[("pictures", "pictures")],
    )
    # Merging names the operators' version once for each part.
    versions = {one.domain: one.version for one in merged.opset_import}
    del merged.opset_import[:]
    merged.opset_import.extend(onnx.helper.make_opsetid(*one) for one in versions.items())
    return on_request(merged)


_ANY_SIZE = {place: torch.export.Dim(name, min=1) for place, name in enumerate(("batch", "height", "width"))}


def _odd(size: int) -> torch.Tensor:
    """An example with sides unlike each other and unlike the network's own, so that none is taken for a constant."""
    return torch.zeros(2, size + 3, size + 5, 3, dtype=torch.uint8)


@cache
def _fit(size: int) -> bytes:
    written: bytes = _exported(Fit(size), _odd(size), "images", ["pictures"], _ANY_SIZE).SerializeToString()
    return written


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
    model: onnx.ModelProto = program.model_proto
    forget_sources(model)
    return model
