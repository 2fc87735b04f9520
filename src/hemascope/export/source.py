"""What an export starts from and what is told beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from hemascope.errors import InputError
from hemascope.files import check_writable
from hemascope.models import model_folder
from hemascope.precision import has_half_weights, with_half_weights, with_whole_weights
from hemascope.run import versions
from hemascope.runtime import PURPOSE, Model, load_model
from hemascope.version import __version__

Precision = Literal["float32", "float16", "int8"]

TOLERANCES = {"float32": 1e-4, "float16": 1e-2}
"""The largest difference in a probability that a precision may make; int8 is bounded by its loss in accuracy."""


@dataclass(frozen=True)
class Source:
    """What is exported: a run's file, the folder that it stands in (None for a file alone), and their hash."""

    model: Model
    proto: onnx.ModelProto
    folder: Path | None
    digest: str

    @property
    def tolerance_of_weights(self) -> float:
        """How far the file may be from the weights that it was made of: its own rounding is not the export's."""
        return TOLERANCES["float16" if has_half_weights(self.proto) else "float32"]

    def in_precision(self, precision: Precision) -> onnx.ModelProto:
        """A copy of the model with its weights in 32 or in 16 bits; int8 starts from the first."""
        return with_half_weights(self.proto) if precision == "float16" else with_whole_weights(self.proto)

    def told(self, precision: Precision) -> dict[str, str]:
        """What the exported file says of its making, besides what the run's file says already."""
        return {"run_hash": self.digest, "precision": precision, "exported_by": f"hemascope {__version__}"}


def open_source(run: str | Path) -> Source:
    """The model of a run folder, of a model.onnx, or that comes with the package under a name.

    Raises InputError when there is none.
    """
    model = load_model(run)
    folder = model_folder(run)
    kept = folder if folder.is_dir() else None
    return Source(model, onnx.load(model.path), kept, run_hash(model.path, kept))


def run_hash(file: Path, folder: Path | None) -> str:
    """BLAKE2b (RFC 7693) of a run's weights and config.yaml, 32 digits; of the model's file where there are none."""
    digest = hashlib.blake2b(digest_size=16)
    weights = file if folder is None else folder / "model" / "weights.safetensors"
    digest.update((weights if weights.is_file() else file).read_bytes())
    if folder is not None and (folder / "config.yaml").is_file():
        digest.update((folder / "config.yaml").read_bytes())
    return digest.hexdigest()


def check_new(out: Path, suffix: str) -> None:
    """Raise InputError unless a new file of that suffix can be written there, and its figures beside it."""
    if out.suffix != suffix:
        raise InputError(f"{out}: ends in '{out.suffix}', expected {suffix}.")
    for path in (out, beside(out)):
        if path.exists():
            raise InputError(f"{path}: exists already; name another file with --out, or remove it first.")
    check_writable(out)


def beside(out: Path) -> Path:
    """Where the figures of an export stand."""
    return out.with_name(f"{out.name}.json")


def facts_of(source: Source, out: Path, precision: Precision) -> dict[str, Any]:
    """What is known of an export before it is checked."""
    return {
        "file": out.name,
        "run": str(source.model.path if source.folder is None else source.folder),
        "run_hash": source.digest,
        "precision": precision,
        "class_names": list(source.model.class_names),
        "picture_size": source.model.image_size,
        "versions": {"hemascope": __version__, **versions()},
        "purpose": PURPOSE,
    }
