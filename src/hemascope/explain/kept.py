"""What explains a run's answers later and stands beside its model: heat maps, and training cells to compare with."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

from hemascope.data import Cells
from hemascope.errors import InputError
from hemascope.explain.neighbours import FILE, training_cells
from hemascope.models import model_folder
from hemascope.run import Run
from hemascope.runtime import HEATMAP, Model, load_model


def keep_explanations(run: Run, cells: Cells, say: Callable[[str], None] = print) -> Model:
    """Write both into the folder of a trained run, and return its model; what stands there already stays.

    cells: those of the run, split. Heat maps are those of a network alone. What explains is no reason to lose a run:
    where its network has no heat maps, or torch cannot write them as a graph, that is said.
    """
    model = load_model(run.folder)
    if not (run.model / FILE).is_file():
        training_cells(model, cells).save(run.model / FILE)
    if not (run.model / "weights.safetensors").is_file():
        return model
    try:
        return explaining(run.folder)
    except Exception as error:
        # Whatever the exporter meets in a network of any make.
        say(f"no heat maps: {' '.join(str(error).split())[:200]}")
        return model


def explaining(model: str | Path) -> Model:
    """A model that gives heat maps: its run folder is given what makes them, where torch can make it."""
    opened, run = load_model(model), Run(model_folder(model))
    if opened.explains:
        return opened
    described = run.model / "model.json"
    if not (run.model / "weights.safetensors").is_file() or importlib.util.find_spec("torch") is None:
        raise InputError(
            f"{model}: gives no heat maps; they are made for the run folder of a network where torch is installed: pip "
            "install 'hemascope[train]'."
        )
    from hemascope.ensemble import load_network
    from hemascope.export.network import export_heatmap

    network, _, _ = load_network(run)
    export_heatmap(network, run.model / HEATMAP, opened.image_size)
    assert json.loads(described.read_text(encoding="utf-8"))["class_names"] == list(opened.class_names)
    return load_model(model)
