"""A network in an ONNX file, on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Network:
    """The probabilities that the file beside this one gives."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """float32 (n, classes) of uint8 (n, 96, 96, 3)."""
        given = {self._input: np.ascontiguousarray(pictures)}
        return np.asarray(self._session.run(["probabilities"], given)[0])
