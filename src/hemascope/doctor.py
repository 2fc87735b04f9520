"""What is installed, on what machine, with which models, and how to get what is missing."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from hemascope.augment import compiled
from hemascope.field import FieldOfView
from hemascope.machine import cores, memory
from hemascope.models import model_folder, shipped_models
from hemascope.recipe import recipe_names
from hemascope.version import __version__
from hemascope.wording import install, many

BASE = (
    "numpy", "scipy", "pillow", "pandas", "pyarrow", "scikit-learn", "matplotlib", "onnxruntime", "typer", "rich",
    "pydantic", "PyYAML", "Jinja2", "fastapi", "uvicorn", "httptools", "python-multipart",
)  # fmt: skip
TRAIN = ("torch", "torchvision", "timm", "lightning-fabric", "safetensors", "onnx", "onnxscript", "skl2onnx")
SEARCH = ("optuna",)
CLUSTER = ("ray",)


@dataclass(frozen=True)
class Finding:
    """One line of the examination: what was looked at, what was found, and what to do when it is not well."""

    subject: str
    found: str
    advice: str = ""

    @property
    def well(self) -> bool:
        """Whether there is nothing to do."""
        return not self.advice


def examine() -> list[Finding]:
    """Look at the installation, the machine, the models and the recipes."""
    return [
        Finding("hemascope", f"{__version__}, Python {platform.python_version()}"),
        _packages("base install", BASE, "pip install . in the folder of hemascope"),
        _packages("training", TRAIN, install("train")),
        _augmentation(),
        _packages("search", SEARCH, install("search")),
        _packages("cluster", CLUSTER, install("cluster")),
        _machine(),
        _device(),
        _weights(),
        Finding("recipes", ", ".join(recipe_names())),
        _models(),
    ]


def _packages(subject: str, names: tuple[str, ...], remedy: str) -> Finding:
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(subject, f"lacks {', '.join(missing)}", remedy)
    return Finding(subject, ", ".join(found))


def _augmentation() -> Finding:
    if compiled():
        return Finding("augmentation", f"compiled loops, numba {metadata.version('numba')}")
    return Finding("augmentation", "OpenCV; on a CPU with several cores Numba takes half of its time")


def _machine() -> Finding:
    allowed = memory()
    told = "" if allowed is None else f", {allowed / 2**30:.0f} GiB of memory"
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    advice = "make room: a run of a large network needs 1 GiB" if free < 1 else ""
    return Finding("machine", f"{many(cores(), 'core')}{told}, {free:.0f} GiB of disk free here", advice)


def _device() -> Finding:
    try:
        import torch
    except ModuleNotFoundError:
        return Finding("device", "CPU for prediction; no torch, so no training")
    if torch.cuda.is_available():
        return Finding("device", f"GPU: {torch.cuda.get_device_name()}")
    return Finding("device", f"CPU, {many(torch.get_num_threads(), 'thread')}; the recipe 'small' is made for that")


def _weights() -> Finding:
    try:
        from hemascope.pretrained import hub_reachable
    except ModuleNotFoundError:
        return Finding("ImageNet weights", "only used in training")
    if hub_reachable():
        return Finding("ImageNet weights", "can be had through timm")
    return Finding(
        "ImageNet weights",
        "the hub does not answer",
        "connect to the network, name a safetensors file with --pretrained PATH, or train from random weights",
    )


def _models() -> Finding:
    told = []
    for name in shipped_models():
        metrics = json.loads((model_folder(name) / "metrics.json").read_text(encoding="utf-8"))
        stress = metrics["stress"]["test"]["stress_score"]
        facts = [
            f"on test rows of its own file {metrics['test']['accuracy']:.3f} clean",
            f"{stress:.3f} under corruption",
        ]
        config = yaml.safe_load((model_folder(name) / "config.yaml").read_text(encoding="utf-8"))
        if field := config["data"].get("field_of_view"):
            facts.append(FieldOfView.from_json(field).sentence())
        told.append(f"{name} ({', '.join(facts)})")
    return Finding("models", ", ".join(told))
