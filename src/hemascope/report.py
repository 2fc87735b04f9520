"""The page of a run: one HTML file that holds its figures, loads nothing and can be mailed or printed."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hemascope.belief import constant_answer, reasons_to_believe
from hemascope.errors import InputError
from hemascope.files import write_text
from hemascope.version import __version__
from hemascope.wording import many

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

FIGURES: Mapping[str, str] = {
    "class_distribution": "Pictures of each class",
    "mean_pixel_histogram": "How bright the pictures are",
    "cells": "Cells by class",
    "augmentation": "What augmentation did",
    "training_curves": "Loss and accuracy, epoch by epoch",
    "confusion_matrix": "What was taken for what",
    "mistakes": "Mistakes, the most confident first",
    "heat_maps_right": "A right cell of each class",
    "heat_maps_wrong": "Where it looked when it was wrong",
    "reliability": "Confidence against accuracy",
    "reliability_by_corruption": "Confidence against accuracy, under corruption too",
    "learning_curve": "Would more pictures help?",
    "leaderboard": "Models side by side",
    "stress_medmnist_c": "How the corruptions of MedMNIST-C cost recall",
    "stress_held_out": "How the held-out families cost recall",
    "stress_recall": "Which class suffers from what",
    "stress_mistakes": "What corruption broke",
}
VERDICTS: Mapping[str, str] = {
    "not_a_cell": "No cell: one picture under many labels",
    "copy": "Exact copy of a picture that stays",
    "copy_other_label": "The same picture under different labels",
    "unreadable": "Could not be read",
}
MOST_MISTAKES = 200
MOST_COLOURS = 8192  # drawings stay far below, photographs far above


@dataclass(frozen=True)
class Picture:
    """A figure as a page embeds it: a data address, its size in CSS pixels, and what it shows, in words."""

    title: str
    source: str
    alt: str
    width: int
    height: int
    photo: bool

    @property
    def broad(self) -> bool:
        """Whether a telephone should scroll it rather than shrink it."""
        return self.width > 700


def write_report(run: Path) -> Path:
    """Write `report.html` into the folder of a run or of an evaluation, from what it holds; returns its path.

    metrics.json is needed; a section whose file or figure is missing is left out. The page opens from disk without a
    network and works without JavaScript. Raises InputError when a file is missing or cannot be read.
    """
    run = Path(run)
    metrics, scored_on = _scored(run)
    scores = metrics[scored_on]
    config = _mapping(run / "config.yaml", yaml.safe_load) or {}
    recipe = config.get("recipe") or {}
    split = _split(run)
    removed = _table(run / "removed.csv", "id", "label", "verdict", "reason")
    kept = None if split is None else len(split)
    lost = None if removed is None else len(removed)
    data = config.get("data") or ({"source": scores.get("source")} if metrics.get("evaluated") else {})
    rows = kept + lost if kept is not None and lost is not None else data.get("rows")
    command = config.get("command") or ""
    context = {
        "title": f"{scores.get('model') or recipe.get('name', run.name)} on {data.get('source', 'cells')}",
        "version": config.get("version") or __version__,
        "config": config,
        "command": command if isinstance(command, str) else shlex.join(map(str, command)),
        "data": data,
        "recipe": recipe,
        "recipe_text": yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else "",
        "environment": read_json(run / "environment.json") or {},
        "metrics": metrics,
        "scored_on": scored_on,
        "scores": scores,
        "weights": str(metrics.get("weights") or "unknown"),
        "baseline": metrics.get("baseline") or constant_answer(scores),
        "wrong": round(scores.get("n", 0) * (1 - scores["accuracy"])),
        "recall_start": _range_start(scores),
        "stages": metrics.get("stages") or [],
        "files": metrics.get("files") or {},
        "rows": rows,
        "kept": kept,
        "lost": lost,
        "removals": _removals(removed),
        "splits": _splits(split),
        "weak": [line for line in (scores.get("trust") or {}).get("slices") or () if line["worse"]][:3],
        "slices": (scores.get("trust") or {}).get("slices") or [],
        "checks": reasons_to_believe(metrics, scored_on, split),
        "training": _training(_table(run / "history.csv", "epoch")),
        "mistakes": _mistakes(
            _table(run / "predictions.parquet", "id", "label", "predicted", "confidence", "correct"), split, scored_on
        ),
        "stress": read_json(run / "stress.json") if scored_on == "test" else None,
        "quick_stress": (metrics.get("stress") or {}).get(scored_on) or {},
        "figures": embedded_figures(run / "figures"),
        "known_figures": FIGURES,
    }
    page = run / "report.html"
    write_text(page, render("report.html.j2", context))
    return page


def doubts(run: Path) -> list[str]:
    """What the report asks to be careful about, in its words. Raises InputError as `write_report` does."""
    metrics, scored_on = _scored(run)
    checks = reasons_to_believe(metrics, scored_on, _split(run))
    return [check["title"] for check in checks if check["kind"] == "care"]


def _scored(run: Path) -> tuple[Mapping[str, Any], str]:
    """What metrics.json holds, and under which name the scores stand that the report is about."""
    metrics = read_json(run / "metrics.json")
    if metrics is None:
        raise InputError(f"{run}: has no metrics.json to report on; give a folder that `hemascope train` has written.")
    if "accuracy" in metrics:
        # What `hemascope evaluate` writes: scores alone, of pictures that need not be those of a run.
        metrics = {"test": metrics, "warnings": metrics.get("warnings"), "evaluated": True}
    scored_on = "test" if metrics.get("test") else "validation"
    scores = metrics.get(scored_on)
    if not isinstance(scores, Mapping) or scores.get("accuracy") is None:
        raise InputError(
            f"{run / 'metrics.json'}: holds no scores under 'test' or 'validation'; let `hemascope train` end, then "
            "report again."
        )
    return metrics, scored_on


def _split(run: Path) -> pd.DataFrame | None:
    return _table(run / "split.csv", "id", "label", "split")


def render(template_name: str, context: Mapping[str, Any]) -> str:
    """Fill a template of `hemascope/templates`; every value is escaped.

    Pages extend base.html.j2, which wants `title` and `version`, and take their pieces from parts.html.j2.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hemascope"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= FILTERS
    return environment.get_template(template_name).render(context)


def decimal(value: float | None, places: int = 4) -> str:
    """A score as 0.9731, never as -0.0000; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:z.{places}f}"


def percent(value: float | None, places: int = 1) -> str:
    """A share as 97.3%; a dash where there is none. A share below one never reads as 100%."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:z.{places}%}"
    return f">{1 - 10 ** -(places + 2):.{places}%}" if value < 1 and text == f"{1:.{places}%}" else text


def count(value: float | None) -> str:
    """A number of things as 1,712; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def sentence(text: object) -> Markup:
    """A sentence for people, escaped, with `commands` and --options set as code."""
    from markupsafe import Markup, escape

    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][a-z-]*)", str(text))  # code stands at the odd places
    return Markup("").join(
        Markup("<code>{}</code>").format(part.strip("`")) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def place(value: float) -> str:
    """A share as a CSS length, kept within the bar."""
    return f"{100 * min(max(value, 0.0), 1.0):.2f}%"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "decimal": decimal,
    "percent": percent,
    "count": count,
    "many": many,
    "place": place,
    "sentence": sentence,
}
"""How pages say numbers and sentences."""


def read_json(path: Path) -> dict[str, Any] | None:
    """What a JSON file holds; None when there is no such file. Raises InputError when it cannot be read."""
    return _mapping(path, json.loads)


def embedded_figures(folder: Path) -> dict[str, Picture]:
    """The PNG figures of a folder, by name. Raises InputError when one is no picture."""
    return {path.stem: _picture(path) for path in sorted(folder.glob("*.png"))}


def _mapping(path: Path, parse: Any) -> dict[str, Any] | None:
    """What a JSON or YAML file holds; None when there is no such file."""
    if not path.exists():
        return None
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)}); run the training again.") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: holds a {type(content).__name__}, expected names and values; run the training again."
        )
    return content


def _table(path: Path, *columns: str) -> pd.DataFrame | None:
    """A CSV or Parquet table that has these columns; None when there is no such file or it is empty."""
    import pandas as pd

    if not path.exists() or path.stat().st_size <= 1:
        return None
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            words = dict.fromkeys(("id", "label", "split", "group", "pixel_hash", "reason", "verdict", "stage"), str)
            # A class may be called NA or null: only an empty field is missing.
            table = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)}); run the training again.") from error
    if missing := [column for column in columns if column not in table]:
        raise InputError(
            f"{path}: has no column {', '.join(missing)} among {', '.join(map(str, table.columns))}; run the training "
            "again."
        )
    return table


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _picture(path: Path) -> Picture:
    """A figure, embedded. Photographs are packed as WebP for the page; the PNG in the folder stays the exact one."""
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            density = float(image.info.get("dpi", (200, 200))[0])
            colours = image.convert("RGB")
            text = str(image.info.get("Description", ""))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not a picture that can be read; remove it or run the training again.") from error
    photo = colours.getcolors(MOST_COLOURS) is None
    kind = "png"
    if photo:
        packed = io.BytesIO()
        colours.save(packed, "WEBP", quality=90)
        if packed.tell() < len(content):
            content, kind = packed.getvalue(), "webp"
    title = FIGURES.get(path.stem, path.stem.replace("_", " ").capitalize())
    width, height = (round(side * 100 / density) for side in colours.size)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(title, source, text or title, width, height, photo)


def _range_start(scores: Mapping[str, Any]) -> float:
    """Where the scale of the recalls begins: the tenth below the lowest interval, so that the intervals can be seen."""
    ends = [(row.get("recall_interval") or [row.get("recall") or 0.0])[0] for row in scores.get("per_class") or ()]
    return min(math.floor(10 * min(ends, default=0.0)) / 10, 0.9)


def _removals(removed: pd.DataFrame | None) -> list[dict[str, Any]]:
    """One line for each reason to remove, the most frequent first; reasons that name single rows are taken together."""
    if removed is None or removed.empty:
        return []
    lines = []
    for verdict, rows in removed.groupby("verdict", sort=False):
        reasons = rows["reason"].value_counts()
        together = len(reasons) > 3
        for reason, number in [(str(reasons.index[0]), len(rows))] if together else reasons.items():
            own = rows[rows["reason"] == reason]
            lines.append(
                {
                    "what": VERDICTS.get(str(verdict), str(verdict).replace("_", " ").capitalize()),
                    "count": int(number),
                    "labels": int((rows if together else own)["label"].nunique()),
                    "reason": f"such as: {reason}" if together else str(reason),
                    "example": str(own["id"].iloc[0]),
                }
            )
    return sorted(lines, key=lambda line: -int(line["count"]))


def _splits(split: pd.DataFrame | None) -> dict[str, Any]:
    """How many pictures of each class stand in each split: names, rows of counts, totals."""
    if split is None or split.empty:
        return {}
    usual = [name for name in ("train", "validation", "calibration", "test") if (split["split"] == name).any()]
    names = usual + sorted(set(split["split"].dropna()) - set(usual))
    counts = split.groupby(["label", "split"]).size().unstack(fill_value=0)[names]
    return {
        "names": names,
        "rows": [(str(label), [int(n) for n in row], int(row.sum())) for label, row in counts.iterrows()],
        "totals": [int(n) for n in counts.sum()],
    }


def _training(history: pd.DataFrame | None) -> dict[str, Any]:
    """How long training took, and how fast it was."""
    if history is None or history.empty:
        return {}
    found: dict[str, Any] = {"epochs": len(history)}
    if "seconds" in history and (seconds := float(history["seconds"].sum())) > 0:
        found["time"] = f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
    if "images_per_second" in history and history["images_per_second"].notna().any():
        found["speed"] = float(history["images_per_second"].median())
    return found


def _mistakes(table: pd.DataFrame | None, split: pd.DataFrame | None, scored_on: str) -> list[dict[str, Any]]:
    """The pictures named wrongly, the most confident first."""
    if table is None:
        return []
    wrong = table[~table["correct"].astype(bool)]
    if "left_out" in wrong:
        wrong = wrong[~wrong["left_out"].astype(bool)]
    if split is not None:
        elsewhere = set(split.loc[split["split"] != scored_on, "id"])
        wrong = wrong[~wrong["id"].astype(str).isin(elsewhere)]
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable").head(MOST_MISTAKES)
    return [
        {
            "id": row["id"],
            "label": row["label"],
            "predicted": row["predicted"],
            "confidence": row["confidence"],
            "label_probability": row.get(f"p_{row['label']}"),
        }
        for row in wrong.to_dict("records")
    ]
