"""hemascope: audit, train, stress and trust classifiers of single blood cells.

The main job in a notebook: `hemascope.train("cells.npz", "small", "run")`, or step by step with `load`, `clean`,
`split`, `train`, `evaluate`, `stress` and `predict`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hemascope.version import __version__

if TYPE_CHECKING:
    from hemascope.audit import audit as audit
    from hemascope.clean import clean as clean
    from hemascope.data import Cells as Cells
    from hemascope.data import load as load
    from hemascope.data import save_npz as save_npz
    from hemascope.errors import InputError as InputError
    from hemascope.evaluate import evaluate as evaluate
    from hemascope.pipeline import train as train
    from hemascope.predict import predict as predict
    from hemascope.refit import refit as refit
    from hemascope.runtime import load_model as load_model
    from hemascope.split import split as split
    from hemascope.stress import stress as stress
    from hemascope.synthetic import draw_cells as draw_cells

_HOMES = {
    "Cells": "data",
    "InputError": "errors",
    "audit": "audit",
    "clean": "clean",
    "draw_cells": "synthetic",
    "evaluate": "evaluate",
    "load": "data",
    "load_model": "runtime",
    "predict": "predict",
    "refit": "refit",
    "save_npz": "data",
    "split": "split",
    "stress": "stress",
    "train": "pipeline",
}

__all__ = [
    "Cells",
    "InputError",
    "__version__",
    "audit",
    "clean",
    "draw_cells",
    "evaluate",
    "load",
    "load_model",
    "predict",
    "save_npz",
]
__all__ += ["refit", "split", "stress", "train"]


class _Package(ModuleType):
    """Looks functions up when they are first used, so that `import hemascope` and `hemascope --help` are instant.

    A submodule that is imported sets its name on the package: where a function has the same name, it must not hide it.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'hemascope' has no attribute '{name}'")
        value = getattr(import_module(f"hemascope.{_HOMES[name]}"), name)
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted(__all__)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
