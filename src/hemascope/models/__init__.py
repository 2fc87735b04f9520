"""Trained models that come with the package, each one file, NAME.onnx, that is told by its name.

Beside it the folder NAME is the run that made it, less what only its making needed: recipe and command, split, history,
scores, weights, model card. They were trained on the public pictures of healthy people from one laboratory (Acevedo et
al., 2020), by the recipe of the same name. Research only, not a medical device.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(file.stem for file in _HERE.glob("*.onnx"))


def model_folder(name: str | Path) -> Path:
    """The run of a model that comes with the package, or the path as it is: what stands on the disk goes first."""
    path = Path(name)
    return _HERE / path.name if not path.exists() and str(name) in shipped_models() else path


def model_file(name: str | Path) -> Path:
    """The file of a model: of a run folder, of one that comes with the package, or the path as it is."""
    folder = model_folder(name)
    if folder.parent == _HERE and folder.name in shipped_models():
        return _HERE / f"{folder.name}.onnx"
    return folder / "model" / "model.onnx" if folder.is_dir() else folder


def folder_of(file: Path) -> Path:
    """The run folder that a model's file belongs to, whether or not it is there."""
    file = file.resolve()
    return _HERE / file.stem if file.parent == _HERE else file.parent.parent
