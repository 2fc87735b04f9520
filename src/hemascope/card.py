"""The card of a model: what it was made from, what it reaches, and what it must not be used for, in Markdown.

After Mitchell et al., Model Cards for Model Reporting, 2019. Every number stands in the run folder already; what was
not measured is not on the card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from hemascope.belief import promises
from hemascope.data import SPLITS
from hemascope.errors import InputError
from hemascope.field import FieldOfView
from hemascope.files import write_text
from hemascope.models import model_folder
from hemascope.report import VERDICTS, read_json
from hemascope.run import Run
from hemascope.wording import listed, many

if TYPE_CHECKING:
    import pandas as pd

SHIPPED_WORDS = (
    "research only, not a medical device; healthy people, one laboratory; blasts are not among its answers and may be "
    "called lymphocyte or monocyte with high confidence"
)
"""What must be said of every model that was made from the pictures behind those that come with the package."""
SHIPPED_ORIGIN = (
    "Peripheral blood cells of healthy people, photographed with a CellaVision DM96 at the Hospital Clinic of "
    "Barcelona: Acevedo et al., A dataset of microscopic peripheral blood cell images for development of automatic "
    "recognition systems, Data in Brief 30, 2020 (CC BY 4.0)."
)
WEAK_CLASSES = 3

_SHIPPED_SHARE = 0.5
_VERDICTS_OF_TRUST = {
    "calibration": "Calibration",
    "conformal": "Sets of classes (conformal)",
    "rejection": "When it declines to answer",
    "outliers": "Pictures unlike those it learnt from",
}
_MOST_ITEMS = 24


def write_model_card(run: Run, population: str = "") -> Path:
    """Write MODEL_CARD.md into a run folder, from what the folder holds; returns its path.

    population: who and what was photographed, and where, if somebody knows. Raises InputError when the run was not
    scored yet.
    """
    metrics = read_json(run.metrics)
    if metrics is None or not run.config.is_file():
        raise InputError(f"{run.folder}: was not scored yet, so there is nothing to put on a card; let training end.")
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    split, removed = _table_of(run.split), _table_of(run.removed)
    write_text(
        run.card,
        model_card(config, metrics, split, removed, environment=read_json(run.environment), population=population),
    )
    return run.card


def model_card(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    split: pd.DataFrame | None = None,
    removed: pd.DataFrame | None = None,
    *,
    environment: Mapping[str, Any] | None = None,
    population: str = "",
) -> str:
    """The card as Markdown, from the facts of a run.

    config, metrics, environment: what config.yaml, metrics.json and environment.json hold. split: id, label, split,
    group and pixel_hash of each row that stayed. removed: id, label and verdict of each that went. Parts that are not
    at hand are left off. config["refits"]: how the model was fitted again since, in turn. metrics["trust"], where it is
    there: part -> its figures; a key 'sentence' or 'sentences' is told as it stands.
    """
    data, recipe = config.get("data") or {}, config.get("recipe") or {}
    refits = config.get("refits") or []
    title = f"{recipe.get('name', metrics.get('recipe', 'model'))} on {data.get('source', 'cells')}"
    shipped = split is not None and made_from_shipped_pictures(split)
    parts = [
        f"# {', fitted again to '.join([title, *(refit['data']['source'] for refit in refits)])}",
        "Research only, not a medical device.",
        *_uses(metrics, shipped, population, bool(refits)),
        *_data(data, metrics, split, removed, shipped, refits),
        *_recipe(metrics, recipe),
        *_scores(metrics),
        *_corruption(metrics),
        *_confidence(metrics),
        *_weak_classes(metrics),
        *_repeat(config, environment),
    ]
    return "\n\n".join(parts) + "\n"


def _table_of(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    return pd.read_csv(path, dtype={"pixel_hash": np.uint64}, keep_default_na=False) if path.is_file() else None


def made_from_shipped_pictures(split: pd.DataFrame) -> bool:
    """Whether most rows of a run show the pixels of the public pictures that the shipped models were made from.

    split: with a column pixel_hash, uint64. The same pictures at another size are not recognised.
    """
    table = model_folder("small") / "split.csv"
    if "pixel_hash" not in split or not len(split) or not table.is_file():
        return False
    import pandas as pd

    known: Any = pd.read_csv(table, usecols=["pixel_hash"], dtype={"pixel_hash": np.uint64})
    return bool(split["pixel_hash"].isin(known["pixel_hash"]).mean() >= _SHIPPED_SHARE)


def _uses(metrics: Mapping[str, Any], shipped: bool, population: str, refitted: bool) -> Iterator[str]:
    names = _main_scores(metrics).get("class_names") or []
    yield "## Intended use"
    yield (
        "Research on the classification of single blood cells: comparing models, data and stains, and teaching. Each "
        f"picture shows one cell, which is named one of {len(names)} classes: {listed(names)}."
    )
    yield "## Not to be used for"
    yield (
        "Diagnosis, screening or any decision about a person. It names every picture one of its classes, whatever the "
        "picture shows: a cell of another kind gets a wrong name."
    )
    if shipped:
        yield f"{'The model that it began from' if refitted else 'This model'} in particular: {SHIPPED_WORDS}."
    if shipped and not refitted:
        return
    if population:
        yield f"It knows this population alone: {population.rstrip('.')}. Of any other its scores say nothing."
    else:
        whose = (
            "The population of the pictures that it was fitted to is unknown"
            if refitted
            else "The population is unknown"
        )
        yield (
            f"{whose}: nobody told who the people were, whether healthy or ill, and how many laboratories made the "
            "pictures. Its scores say nothing about another population."
        )


def _data(
    data: Mapping[str, Any],
    metrics: Mapping[str, Any],
    split: pd.DataFrame | None,
    removed: pd.DataFrame | None,
    shipped: bool,
    refits: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    yield "## Data"
    if shipped:
        yield SHIPPED_ORIGIN
    lines = [f"Source: {data.get('source', 'unknown')}"]
    if data.get("rows") is not None:
        lines.append(f"Rows{', before it was fitted again' if refits else ''}: {data['rows']:,}")
    if data.get("field_of_view"):
        lines.append(FieldOfView.from_json(data["field_of_view"]).sentence().capitalize())
    if removed is not None:
        counts = removed["verdict"].value_counts().to_dict()
        reasons = [f"{VERDICTS.get(str(verdict), str(verdict))}: {count:,}" for verdict, count in counts.items()]
        lines.append(f"Removed in cleaning: {len(removed):,}" + (f" ({'; '.join(reasons)})" if reasons else ""))
    lines.append(
        "A patient or slide stands on one side of the split"
        if metrics.get("grouped")
        else "Patients are unknown, so that one may stand on both sides of the split"
    )
    for refit in refits:
        classes = ", ".join(f"{name} {count:,}" for name, count in refit["data"]["classes"].items())
        lines.append(
            f"Fitted again to: {refit['data']['source']}, {many(refit['data']['rows'], 'picture')} ({classes})"
        )
    lines += [str(note).rstrip(".") for note in metrics.get("notes") or []]
    yield _bullets(lines)
    if split is not None and len(split):
        if refits:
            yield "The rows that stayed; those that it was fitted again to stand under train:"
        table = split.groupby(["label", "split"]).size().unstack(fill_value=0)
        parts = [name for name in (*SPLITS, "unused") if name in table]
        rows = [[str(label), *(f"{int(line[part]):,}" for part in parts)] for label, line in table.iterrows()]
        yield _table(["class", *parts], [*rows, ["all", *(f"{int(table[part].sum()):,}" for part in parts)]])


def _recipe(metrics: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[str]:
    yield "## Recipe"
    lines = [f"{recipe['description']}".rstrip(".")] if recipe.get("description") else []
    # Runs of before tell the recipe's side alone, at which a training that ended early may not have arrived.
    sides = [str(side) for side in sorted(set(metrics.get("image_sizes") or [recipe.get("image_size")])) if side]
    network, members = recipe.get("backbone"), recipe.get("members")
    if isinstance(members, list):
        network = f"the average of the finished runs {listed([Path(str(folder)).name for folder in members])}"
    for title, value in (
        ("Network", network),
        ("Parameters", f"{metrics['parameters']:,}" if metrics.get("parameters") else None),
        ("First weights", metrics.get("weights")),
        ("Side of the pictures", f"{listed(sides)} pixels" if sides else None),
        ("Augmentation", listed([str(step["name"]) for step in recipe.get("augmentation") or []])),
    ):
        lines += [f"{title}: {value}"] if value else []
    if refit := metrics.get("refit"):
        before = [f"{refit['field']:g} of the field of view"] if refit["field"] != 1 else []
        before += ["colours matched to those of training"] if refit["colours_matched"] else []
        lines.append(f"Before the network: {listed(before) or 'nothing changed'}")
        lines.append(f"Behind it: a logistic regression on its embedding and answers, penalty {refit['penalty']:g}")
    yield _bullets(lines)
    stages = [stage for stage in metrics.get("stages") or [] if "epochs" in stage]
    if stages:
        told = [
            [
                str(stage.get("name", "")),
                str(stage["epochs"]),
                str(stage.get("best_epoch", "")),
                _number(stage.get("validation_accuracy")),
            ]
            for stage in stages
        ]
        yield _table(["stage", "epochs", "best epoch", "validation accuracy"], told)
        yield "So the network was scored while it trained; the scores below are the finished model's, with calibration."


def _scores(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield "## Scores"
    named = {"validation (chose the epoch)": metrics.get("validation"), "test": metrics.get("test")}
    named |= {"cross-validated": metrics.get("cross_validated")}
    named |= dict(metrics.get("files") or {})
    columns = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1", "auc": "AUC"}
    rows = [
        [name, f"{scores['n']:,}", *(_estimate(scores, key) for key in columns)]
        for name, scores in named.items()
        if scores
    ]
    yield _table(["pictures", "n", *columns.values()], rows)
    yield "In brackets: 95% intervals over pictures, which say nothing about another laboratory."
    if refit := metrics.get("refit"):
        yield f"The refit, {refit['sentence']}."
    left_out = {name: (scores.get("left_out") or {}).get("count") for name, scores in named.items() if scores}
    told = [
        f"{many(count, 'picture')} of {name} trained this model and {'is' if count == 1 else 'are'} left out"
        for name, count in left_out.items()
        if count
    ]
    if told:
        yield f"{listed(told)}."


def _corruption(metrics: Mapping[str, Any]) -> Iterator[str]:
    stress = {part: found for part, found in (metrics.get("stress") or {}).items() if found}
    if not stress:
        return
    yield "## Under simulated corruption"
    mixes = list(dict.fromkeys(name for found in stress.values() for name in found.get("mixes") or {}))
    rows = [
        [
            part,
            f"{found['n']:,}",
            *(_estimate(found["mixes"].get(name) or {}, "accuracy") for name in mixes),
            _estimate(found, "stress_score"),
        ]
        for part, found in stress.items()
    ]
    yield _table(["pictures", "n", *mixes, "stress score"], rows)
    yield "The stress score ranks models; it does not forecast the score on pictures from elsewhere."


def _confidence(metrics: Mapping[str, Any]) -> Iterator[str]:
    calibration = _main_scores(metrics).get("calibration") or {}
    trust, measured = metrics.get("trust") or {}, _main_scores(metrics).get("trust") or {}
    if not calibration and not trust and not measured:
        return
    yield "## How far to trust its confidence"
    plain = [f"{_words(name)}: {_number(value)}" for name, value in calibration.items() if isinstance(value, float)]
    plain += [str(check["text"]) for check in promises(_main_scores(metrics))]
    if "accuracy_at_95_percent_answered" in measured:
        answered = _number(measured["accuracy_at_95_percent_answered"])
        plain.append(f"Accuracy where the surest 95% are answered: {answered}")
    if "strange" in measured:
        plain.append(
            f"Called unlike its training pictures: {measured['strange']:.1%} of these cells, by a threshold that keeps "
            f"{measured['usual_kept']:.0%} of the calibration rows"
        )
    plain += [
        f"Weak: {line['slice']}, {line['accuracy']:.1%} of {line['rows']:,} ({line['low']:.1%} to {line['high']:.1%})"
        for line in (measured.get("slices") or [])
        if line["worse"]
    ][:WEAK_CLASSES]
    if plain:
        yield _bullets(plain)
    for part, found in trust.items():
        lines = list(_facts(found))
        if lines:
            yield f"### {_VERDICTS_OF_TRUST.get(part, _words(part))}"
            yield _bullets(lines)


def _weak_classes(metrics: Mapping[str, Any]) -> Iterator[str]:
    scores = _main_scores(metrics)
    classes = [row for row in scores.get("per_class") or [] if row.get("support") and row.get("recall") is not None]
    weak = [row for row in sorted(classes, key=lambda row: float(row["recall"])) if row["recall"] < 1][:WEAK_CLASSES]
    if not weak:
        return
    yield "## Weak classes"
    yield _table(
        ["class", "pictures", "recall", "precision"],
        [[row["class"], f"{row['support']:,}", _estimate(row, "recall"), _estimate(row, "precision")] for row in weak],
    )
    pairs = [
        f"{pair['true']} called {pair['predicted']}: {pair['count']:,} of {many(scores['n'], 'picture')}"
        for pair in (scores.get("most_confused") or [])[:WEAK_CLASSES]
    ]
    if pairs:
        yield "Most confused:"
        yield _bullets(pairs)


def _repeat(config: Mapping[str, Any], environment: Mapping[str, Any] | None) -> Iterator[str]:
    yield "## How to repeat it"
    refits = config.get("refits") or []
    commands = [made["command"] for made in (config, *refits) if made.get("command")]
    if commands:
        yield "\n".join(["```text", *commands, "```"])
    lines = [f"hemascope: {config.get('version', 'unknown')}"]
    lines += [f"Seed: {config['seed']}"] if config.get("seed") is not None else []
    lines += [f"Seed of the split: {config['split_seed']}"] if config.get("split_seed") is not None else []
    fingerprint = (config.get("data") or {}).get("fingerprint")
    lines += [f"Fingerprint of the data: {fingerprint}"] if fingerprint else []
    lines += [
        f"Fitted again to {refit['data']['source']}: hemascope {refit['version']}, seed {refit['seed']}, fingerprint "
        f"{refit['data']['fingerprint']}"
        for refit in refits
    ]
    if environment:
        lines.append(f"Python: {environment.get('python')}, on {environment.get('device')}")
        packages = environment.get("packages") or {}
        lines += (
            [f"Versions: {', '.join(f'{name} {version}' for name, version in packages.items())}"] if packages else []
        )
    yield _bullets(lines)


def _main_scores(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    return metrics.get("test") or metrics.get("validation") or metrics.get("cross_validated") or {}


def _facts(found: Any, name: str = "") -> Iterator[str]:
    """The figures of a part of `trust` in lines: sentences as they stand, numbers by their names, no long lists."""
    if isinstance(found, Mapping):
        for key, value in list(found.items())[:_MOST_ITEMS]:
            if key in ("sentence", "sentences"):
                yield from ([value] if isinstance(value, str) else [str(one) for one in value])
            else:
                yield from _facts(value, f"{name}, {_words(str(key)).lower()}" if name else _words(str(key)))
    elif isinstance(found, bool) or (isinstance(found, str) and found):
        yield f"{name}: {found}" if name else str(found)
    elif isinstance(found, int | float):
        yield f"{name}: {_number(found)}"
    elif isinstance(found, Sequence) and len(found) == 2 and all(isinstance(one, int | float) for one in found):
        yield f"{name}: {_number(found[0])} to {_number(found[1])}"


def _estimate(scores: Mapping[str, Any], name: str) -> str:
    """A score with its interval, where it has one."""
    interval = scores.get(f"{name}_interval")
    between = f" ({_number(interval[0])} to {_number(interval[1])})" if interval else ""
    return f"{_number(scores.get(name))}{between}"


def _number(value: Any) -> str:
    if value is None:
        return "undefined"
    return f"{value:,}" if isinstance(value, int) else f"{float(value):.4f}"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
