"""A network in whole numbers of 8 bits: scales from held-out pictures, the loss measured on others of them.

Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference, 2018.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hemascope.corrupt import MEDMNIST_C, corrupt
from hemascope.data import Cells, Images, pixel_hashes
from hemascope.data.cells import Rows
from hemascope.errors import InputError
from hemascope.export.graph import followers, nodes_for
from hemascope.export.on_request import without_heatmap
from hemascope.metrics import accuracy
from hemascope.precision import with_whole_weights
from hemascope.runtime import Model
from hemascope.stress import seed_for
from hemascope.wording import many

CALIBRATING = 128
"""How many pictures the scales come from, each clean and once more mildly corrupted."""
LEAST_MEASURING = 100
BATCH = 16


@dataclass(frozen=True)
class Loss:
    """Accuracy of a run's file and of its copy in 8 bits, on the same rows, clean and mildly corrupted."""

    rows: int
    before: float
    after: float
    corrupted_before: float
    corrupted_after: float

    @property
    def worst(self) -> float:
        """The larger loss of the two, negative where both gained."""
        return max(self.before - self.after, self.corrupted_before - self.corrupted_after)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def held_out_rows(cells: Cells, folder: Path) -> tuple[Rows, Rows]:
    """Rows that calibrate and rows that measure: of those that a run kept for validation and calibration, each once.

    folder: the run's, whose split.csv says which those are; neither its training rows nor its test rows are used.
    Raises InputError when there are too few, or some have no label.
    """
    table = folder / "split.csv"
    if not table.is_file():
        raise InputError(f"{folder}: holds no split.csv, which says what was held out; give the whole folder of a run.")
    import pandas as pd

    split: Any = pd.read_csv(table, dtype={"pixel_hash": np.uint64}, keep_default_na=False)
    kept = split.loc[split["split"].isin(("validation", "calibration")), "pixel_hash"].to_numpy()
    hashes = pixel_hashes(cells)
    once = np.zeros(len(cells), bool)
    once[np.unique(hashes, return_index=True)[1]] = True
    rows = np.flatnonzero(once & np.isin(hashes, kept) & (cells.labels >= 0))
    if len(rows) < CALIBRATING + LEAST_MEASURING:
        raise InputError(
            f"{cells.source}: holds {many(len(rows), 'labelled picture')} that the run kept for validation and "
            f"calibration, expected at least {CALIBRATING + LEAST_MEASURING}; name with --data the file that the run "
            "was trained on."
        )
    order = np.random.default_rng(0).permutation(rows)
    return np.sort(order[:CALIBRATING]), np.sort(order[CALIBRATING:])


def mildly_corrupted(images: Images, rows: Rows) -> Images:
    """Pictures, each after one family of MedMNIST-C at severity 1, in turn; rows: the number of each picture."""
    result = images.copy()
    seed = seed_for("calibration")
    for place, name in enumerate(MEDMNIST_C):
        own = np.arange(place, len(images), len(MEDMNIST_C))
        result[own] = corrupt(images[own], name, 1, seed=seed, rows=rows[own])
    return result


def in_8_bits(model: onnx.ModelProto, images: Images) -> onnx.ModelProto:
    """A copy whose network counts in 8 bits; resizing, the embedding's mean and the tail stay as they were.

    It gives no heat map. images: uint8 (n, height, width, 3), which the scales of the activations come from. Weights
    have a scale for each channel and 7 bits, because processors without VNNI would overflow at 8.
    Raises InputError for a model without convolutions.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    # Its gradients are those of the network before it is rounded.
    whole = without_heatmap(with_whole_weights(model))
    first = next((node for node in whole.graph.node if node.op_type == "Conv"), None)
    if first is None:
        raise InputError("the model has no convolution, so that 8 bits gain nothing; export it as float32 or float16.")
    for place, node in enumerate(whole.graph.node):
        node.name = node.name or f"node_{place}"
    after = followers(whole.graph.node, {first.input[0]})
    network = [node.name for node in nodes_for(whole, ["embedding"]) if not after.isdisjoint(node.output)]

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.starts = iter(range(0, len(images), BATCH))

        def get_next(self) -> dict[str, Images] | None:
            start = next(self.starts, None)
            return None if start is None else {whole.graph.input[0].name: images[start : start + BATCH]}

    # It advises a preparation that the exporter of networks has done already.
    quietly = logging.getLogger()
    before, quietly.level = quietly.level, logging.ERROR
    try:
        with tempfile.TemporaryDirectory() as folder:
            given, written = Path(folder) / "given.onnx", Path(folder) / "written.onnx"
            onnx.save(whole, given)
            quantize_static(
                given,
                written,
                Pictures(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=network,
            )
            return onnx.load(written)
    finally:
        quietly.level = before


def loss_of(exported: Model, model: Model, cells: Cells, rows: Rows) -> Loss:
    """What a file in 8 bits loses against the run's own, on some rows of labelled cells."""
    cells = cells.with_classes(model.class_names)
    labels, images = cells.labels[rows], np.asarray(cells.images[rows])
    corrupted = mildly_corrupted(images, rows)
    found = [accuracy(one.predict(pictures), labels) for pictures in (images, corrupted) for one in (model, exported)]
    return Loss(len(rows), *found)
