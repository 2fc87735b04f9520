"""The run folder: what was done to which data, and everything needed to repeat it."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.files import new_folder, replacing, write_json, write_text
from hemascope.recipe import Recipe, recipe_from
from hemascope.version import __version__

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = (
    "numpy", "scipy", "pillow", "opencv-python-headless", "numba", "pandas", "pyarrow", "scikit-learn", "matplotlib",
    "onnxruntime", "torch", "torchvision", "timm", "lightning-fabric", "safetensors", "onnx", "onnxscript", "skl2onnx",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder by its parts."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.folder / "environment.json"

    @property
    def removed(self) -> Path:
        return self.folder / "removed.csv"

    @property
    def split(self) -> Path:
        return self.folder / "split.csv"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.parquet"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def card(self) -> Path:
        return self.folder / "MODEL_CARD.md"

    @property
    def trained(self) -> bool:
        """Whether the training has ended and its model stands in the folder."""
        return (self.model / "model.json").is_file()


def open_run(out: str | Path, resume: bool) -> Run:
    """The run folder at `out`: a new one, or with `resume` one that is there already.

    Raises InputError when a folder that is not empty stands there and it is not to be resumed.
    """
    run = Run(Path(out))
    if not resume:
        new_folder(run.folder)
    elif run.folder.exists() and not run.config.is_file() and any(run.folder.iterdir()):
        raise InputError(f"{run.folder}: holds no config.yaml, so there is no run to resume; name the run's folder.")
    return run


def write_config(run: Run, config: Mapping[str, Any]) -> None:
    """Write what decides the run; when it is there already, check that it is the same.

    Raises InputError naming the first part that differs.
    """
    if run.config.is_file():
        before = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        # A field that is younger than the run has its default there.
        before["recipe"] = recipe_from(before["recipe"], str(run.config)).model_dump(mode="json")
        before.setdefault("split_seed", before.get("seed"))
        for part in ("data", "seed", "split_seed", "recipe"):
            if before.get(part) != config[part]:
                named = "other data" if part == "data" else f"another {part.replace('_', ' ')}"
                raise InputError(
                    f"{run.folder}: was begun with {named}; resume it with the same data, seed and recipe, or "
                    "name another folder with --out."
                )
        return
    write_text(run.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def config_of(
    recipe: Recipe, cells: Cells, hashes: NDArray[np.uint64], seed: int, split_seed: int, command: str
) -> dict[str, Any]:
    """What decides a run: data by their fingerprint, seeds and recipe; and the command that began it.

    seed decides first weights, draws and order; split_seed, the same unless runs are compared, decides the split.
    """
    return {
        "version": __version__,
        "command": command,
        "data": {
            "source": cells.source,
            "rows": len(cells),
            "fingerprint": fingerprint(cells, hashes),
            **({} if cells.field is None else {"field_of_view": cells.field.as_json()}),
        },
        "seed": seed,
        "split_seed": split_seed,
        "recipe": recipe.model_dump(mode="json"),
    }


def recipe_of(run: Run) -> Recipe:
    """The recipe that a run folder names. Raises InputError when there is none or this version cannot read it."""
    if not run.config.is_file():
        raise InputError(f"{run.folder}: holds no config.yaml, which names the recipe; give the folder of a run.")
    content = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    if "recipe" not in content:
        raise InputError(f"{run.config}: names no recipe, as its model was fitted again from a file alone.")
    return recipe_from(content["recipe"], str(run.config))


def fingerprint(cells: Cells, hashes: NDArray[np.uint64]) -> str:
    """A short digest of all pixels and labels, in order."""
    digest = hashlib.blake2b(np.ascontiguousarray(hashes).tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(cells.labels).tobytes())
    return digest.hexdigest()


def write_environment(run: Run, device: str) -> None:
    """Write what the run was made with: versions, machine, device, threads."""
    write_json(
        run.environment,
        {
            "hemascope": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": device,
            "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "packages": versions(),
        },
    )


def versions() -> dict[str, str]:
    """The installed versions of the packages that a result may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_split(run: Run, cells: Cells, hashes: NDArray[np.uint64]) -> None:
    """Write where each row stands: id, label, split, group, pixel_hash."""
    import pandas as pd

    assert cells.split is not None
    table = pd.DataFrame(
        {
            "id": cells.ids,
            "label": np.array(cells.class_names)[cells.labels],
            "split": cells.split,
            "group": "" if cells.groups is None else cells.groups,
            "pixel_hash": hashes,
        }
    )
    write_table(run.split, table)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, at once."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def command_line() -> str:
    """The command that a person would type to do this again."""
    called = Path(sys.argv[0])
    import shlex

    # The second is `python -m hemascope`, which launchers such as torchrun call.
    if called.name == "hemascope" or called.parts[-2:] == ("hemascope", "__main__.py"):
        return shlex.join(["hemascope", *sys.argv[1:]])
    return ""
