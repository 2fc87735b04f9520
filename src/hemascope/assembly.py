"""From a body to a model's file: what it says of its training cells is fitted, and put behind it and into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hemascope.colour import Colours
from hemascope.data import Cells, Images
from hemascope.errors import InputError
from hemascope.files import replacing
from hemascope.run import versions
from hemascope.runtime import PURPOSE, Model
from hemascope.tail import with_tail
from hemascope.trust.fitted import UNDISTORTED, Distortion, Trust, fit_trust
from hemascope.trust.outliers import OutlierScore

MOST_COLOURED = 2000
"""Of so many training pictures the colours are measured."""


@dataclass(frozen=True)
class Assembled:
    """A whole model, what was fitted for it, and the body's own answers to compare it with.

    asked: the body, inputs -> logits and embeddings.
    """

    model: onnx.ModelProto
    trust: Trust
    outliers: OutlierScore
    asked: Callable[[NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]]

    def write(
        self, path: Path, expected: Callable[[Images], NDArray[Any]], pictures: Images, tolerance: float
    ) -> float:
        """Write the file, and return the largest difference in a probability from what was exported.

        expected: the logits (n, classes) that the network, and not its file, gives for uint8 (n, h, w, 3). pictures:
        n >= 1 of them, asked at batches of 1, 7 and 64. Raises InputError, and leaves no file, when the difference is
        over the tolerance.
        """
        with replacing(path) as temporary:
            onnx.save(self.model, temporary)
            exported = Model(temporary)
            difference = 0.0
            for batch in (1, 7, 64):
                images = pictures[np.arange(batch) % len(pictures)]
                wanted = self.trust.calibration.probabilities(expected(images))
                difference = max(difference, float(np.abs(exported.predict(images) - wanted).max()))
            if not difference <= tolerance:
                raise InputError(
                    f"{path.name}: differs from the network by {difference:.2g} in a probability, expected at most "
                    f"{tolerance:g}; no file was kept: report this with the recipe."
                )
        return difference


def assemble(
    body: onnx.ModelProto,
    cells: Cells,
    picture_size: int,
    metadata: Mapping[str, str],
    distortion: Distortion = UNDISTORTED,
    describe: Callable[[Images], NDArray[np.float32]] | None = None,
    seed: int = 0,
) -> Assembled:
    """The whole model of a body that was trained on cells that are split.

    body: a graph from pictures uint8 (batch, height, width, 3), or from what `describe` makes of them, to "logits" and
    "embedding". picture_size: the side of the pictures that trained it. metadata: what the file says beside classes,
    versions, colours and trust. distortion: what training did to its probabilities.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(body.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name

    def asked(inputs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, embeddings = session.run(["logits", "embedding"], {entry: np.ascontiguousarray(inputs)})
        return logits, embeddings

    trust, outliers = fit_trust(
        asked if describe is None else lambda images: asked(describe(images)), cells, distortion, seed
    )
    stated = {
        "class_names": json.dumps(list(cells.class_names)),
        "picture_size": str(picture_size),
        "purpose": PURPOSE,
        "versions": json.dumps(versions()),
        "colours": json.dumps(Colours.of(np.asarray(cells.in_split("train").images[:MOST_COLOURED])).as_json()),
        "trust": json.dumps(trust.as_json()),
        **({} if cells.field is None else {"field_of_view": json.dumps(cells.field.as_json())}),
        **metadata,
    }
    return Assembled(with_tail(body, trust.calibration, outliers, stated), trust, outliers, asked)
