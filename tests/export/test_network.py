from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hemascope
from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.export.network import TOLERANCE, export_onnx
from hemascope.model import Network
from hemascope.runtime import Model
from hemascope.split import split


class Counting(Network):
    """Right in the graph that is exported, wrong when it is called again: an export that must be refused."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        means = pictures.mean(dim=(2, 3))
        return (means if torch.compiler.is_exporting() else means.flip(1)), means


class Means(Network):
    def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        means = pictures.mean(dim=(2, 3))
        return means / 8, means


def three_classes(drawn: Cells) -> Cells:
    some = drawn.take(drawn.labels < 3).with_classes(drawn.class_names[:3])
    return split(some, seed=0)


def test_the_file_gives_what_the_network_gives_at_any_batch(drawn: Cells, tmp_path: Path) -> None:
    path, cells = tmp_path / "model.onnx", three_classes(drawn)
    pictures = np.asarray(drawn.images[:20])
    difference, trust = export_onnx(Means(), path, cells, {"recipe": "means"})
    assert difference <= TOLERANCE
    model = Model(path)
    assert model.class_names == cells.class_names
    assert model.metadata["recipe"] == "means"
    assert "not a medical device" in model.metadata["purpose"]
    # Nothing of the machine that wrote it.
    assert str(Path(hemascope.__file__).parent).encode() not in path.read_bytes()
    assert b"stack_trace" not in path.read_bytes()
    logits = torch.from_numpy(pictures).float().mean(dim=(1, 2)).numpy() / 8
    answers = model.answers(pictures)
    assert np.abs(answers.probabilities - trust.calibration.probabilities(logits)).max() < 1e-5
    assert np.abs(answers.embedding - 8 * logits).max() < 1e-3
    assert model.trust is not None
    assert model.trust.as_json() == trust.as_json()


def test_a_file_that_differs_is_not_kept(drawn: Cells, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="differs from the network"):
        export_onnx(Counting(), path, three_classes(drawn), {})
    assert list(tmp_path.iterdir()) == []
