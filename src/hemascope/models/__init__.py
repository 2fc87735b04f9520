"""Trained models that come with the package: finished run folders, less what only their making needed.

Each is told by its name wherever a run folder is asked for. They were trained on the public pictures of healthy people
from one laboratory (Acevedo et al., 2020), by the recipe of the same name. Research only, not a medical device.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(folder.name for folder in _HERE.iterdir() if (folder / "model" / "model.onnx").is_file())


def model_folder(name: str | Path) -> Path:
    """The folder of a model that comes with the package, or the path as it is: what stands on the disk goes first."""
    path = Path(name)
    return _HERE / path.name if not path.exists() and str(name) in shipped_models() else path
