"""A finished run -> what is handed on: one ONNX file of a chosen precision, or the zip of a submission.

Its functions are looked up when they are first used: those that start from a run's model.onnx need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hemascope.export.file import export_file as export_file
    from hemascope.export.network import TOLERANCE as TOLERANCE
    from hemascope.export.network import export_onnx as export_onnx
    from hemascope.export.network import to_onnx as to_onnx
    from hemascope.export.submission import export_submission as export_submission

_HOMES = {
    "TOLERANCE": "network",
    "export_file": "file",
    "export_onnx": "network",
    "export_submission": "submission",
    "to_onnx": "network",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hemascope.export' has no attribute '{name}'")
    return getattr(import_module(f"hemascope.export.{_HOMES[name]}"), name)
