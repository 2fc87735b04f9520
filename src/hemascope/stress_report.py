"""What the stress test shows: its figures, and the section of a page that they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemascope import figures
from hemascope.errors import InputError
from hemascope.files import write_text
from hemascope.report import embedded_figures, read_json, render
from hemascope.robustness import ALEXNET
from hemascope.version import __version__

if TYPE_CHECKING:
    from hemascope.stress import Stress


def draw_stress(found: Stress, folder: Path) -> None:
    """Draw the figures of a stress test into a folder: severity curves, recall by class, what it broke."""
    seen = [name for name, entry in found.scores.get("novelty", {}).get("families", {}).items() if entry["seen"]]
    for key in ("medmnist_c", "held_out"):
        if group := found.scores.get(key):
            figures.severity_curves(
                folder / f"stress_{key}.png",
                {entry["family"]: entry["by_severity"] for entry in group["families"]},
                found.scores["clean"]["balanced_error"],
                published=ALEXNET,
                near_training=seen,
            )
    names = found.scores["class_names"]
    figures.recall_heat_map(folder / "stress_recall.png", found.conditions, names, near_training=seen)
    figures.corrupted_mistakes(
        folder / "stress_mistakes.png", found.originals, found.corrupted, found.scores["mistakes"]
    )


def write_stress_page(folder: Path) -> Path:
    """Write `stress.html` into a folder that `Stress.write` and `draw_stress` have written to; returns its path.

    The page opens from disk without a network and works without JavaScript. Raises InputError when there is no
    stress.json or a part cannot be read.
    """
    folder = Path(folder)
    stress = read_json(folder / "stress.json")
    if stress is None:
        raise InputError(f"{folder}: has no stress.json; `hemascope evaluate RUN DATA --stress --out DIR` writes one.")
    tested = f"of {stress['model']} " if stress.get("model") else ""
    context: Mapping[str, Any] = {
        "title": f"stress test {tested}on {stress.get('source') or 'cells'}",
        "version": __version__,
        "stress": stress,
        "figures": embedded_figures(folder / "figures"),
    }
    page = folder / "stress.html"
    write_text(page, render("stress.html.j2", context))
    return page
