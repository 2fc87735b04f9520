"""An ensemble of networks: each trained from a seed of its own, or taken from finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hemascope.data import Cells
from hemascope.ensemble import Ensemble, check_same_rows, load_network
from hemascope.pretrained import Weights
from hemascope.progress import Say
from hemascope.recipe import Recipe
from hemascope.run import Run
from hemascope.train import Options, Trained, train_network


def train_members(cells: Cells, recipe: Recipe, run: Run, options: Options, say: Say = print) -> Trained:
    """The ensemble of a recipe with members: trained here, each from a seed of its own, or taken from their runs.

    The members of seed s are those of seeds s * members and on, so that two ensembles share none. Each trains in
    `members/` of the run folder, and goes on where it stopped; the time given is shared out among them. Raises
    InputError when a run that is named has other classes or another split: the ensemble would be scored on pictures
    that it knows.
    """
    if not isinstance(recipe.members, int):
        return _assembled(recipe.members, cells, run)
    single = recipe.model_copy(update={"members": 1, "views": 1})
    minutes = None if options.max_minutes is None else options.max_minutes / recipe.members
    found: list[Trained] = []
    for place in range(recipe.members):
        seed = options.seed * recipe.members + place
        say(f"member {place + 1} of {recipe.members}, seed {seed}")
        own = replace(options, seed=seed, max_minutes=minutes)
        found.append(train_network(cells, single, run.folder / "members" / f"seed-{seed}", own, say))
        for row in (*found[-1].history, *found[-1].stages):
            key = "stage" if "stage" in row else "name"
            row[key] = f"seed {seed}: {row[key]}"
    return Trained(
        Ensemble([member.network for member in found]).eval(),
        cells.class_names,
        found[0].weights,
        [row for member in found for row in member.history],
        [row for member in found for row in member.stages],
        list(dict.fromkeys(note for member in found for note in member.notes)),
        found[0].precision,
    )


def _assembled(folders: Sequence[str], cells: Cells, run: Run) -> Trained:
    members, origins = [], []
    for folder in folders:
        network, names, origin = load_network(Run(Path(folder)))
        check_same_rows(folder, names, cells.class_names, run)
        members.append(network)
        origins.append(origin)
    note = f"The model averages finished runs: {', '.join(Path(folder).name for folder in folders)}."
    weights = Weights(", ".join(dict.fromkeys(origins)))
    return Trained(Ensemble(members).eval(), cells.class_names, weights, [], [], [note])
