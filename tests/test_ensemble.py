from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hemascope.data import Cells
from hemascope.ensemble import Ensemble, Views, load_network
from hemascope.errors import InputError
from hemascope.export import export_onnx
from hemascope.model import Body, Network, build_model
from hemascope.pipeline import train
from hemascope.recipe import Recipe
from hemascope.run import Run
from hemascope.runtime import Model, load_model
from hemascope.split import split

Tiny = Callable[..., Recipe]
CLASSES = ("basophil", "eosinophil", "monocyte")
POSES: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda images: images[:, :, ::-1],
    4: lambda images: images[:, ::-1],
    8: lambda images: images.transpose(0, 2, 1, 3),
}
"""The pose that joins at each number of views, of pictures (n, h, w, 3)."""
ONE_EPOCH = [{"name": "whole", "epochs": 1, "learning_rate": 0.003}]


def quiet(sentence: str) -> None:
    pass


def network_of(recipe: Recipe, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_model(recipe, CLASSES)[0].eval()


def answers(network: Network, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = Body(network, 32)(torch.from_numpy(np.ascontiguousarray(images)))[0].softmax(1).numpy()
    return found


def calibrated(run: Run, probabilities: np.ndarray) -> np.ndarray:
    trust = load_model(run.folder).trust
    assert trust is not None
    return trust.calibration.probabilities(np.log(probabilities))


@pytest.mark.parametrize("views", [2, 4, 8])
def test_views_average_probabilities_and_no_pose_of_theirs_changes_the_answer(
    views: int, tiny: Tiny, drawn: Cells
) -> None:
    network, images = network_of(tiny()), np.asarray(drawn.images[:6])
    averaged = answers(Views(network, views), images)
    poses = [images]
    for count, pose in POSES.items():
        if count <= views:
            poses += [pose(each) for each in poses]
    assert len(poses) == views
    expected = np.mean([answers(network, pose) for pose in poses], axis=0)
    assert np.abs(averaged - expected).max() < 1e-6
    assert np.abs(averaged - answers(network, images)).max() > 1e-6
    for count, pose in POSES.items():
        if count <= views:
            assert np.abs(answers(Views(network, views), pose(images)) - averaged).max() < 1e-5


def test_views_stand_in_the_exported_graph(tiny: Tiny, drawn: Cells, tmp_path: Path) -> None:
    cells = split(drawn.take(drawn.labels < 3).with_classes(drawn.class_names[:3]), seed=0)
    network, images = network_of(tiny()), np.asarray(drawn.images[:9])
    _, trust = export_onnx(Views(network, 8), tmp_path / "model.onnx", cells, {})
    exported = Model(tmp_path / "model.onnx")
    turned = np.ascontiguousarray(images[:, ::-1].transpose(0, 2, 1, 3))
    assert np.abs(exported.predict(images) - exported.predict(turned)).max() < 1e-5
    told = trust.calibration.probabilities(np.log(answers(Views(network, 8), images)))
    assert np.abs(exported.predict(images) - told).max() < 1e-5


def test_an_ensemble_averages_probabilities_even_of_the_surest(drawn: Cells) -> None:
    class Sure(Network):
        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

        def described(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = torch.full((len(pictures), 3), -500.0)
            logits[:, self.place] = 500.0
            return logits, torch.zeros(len(pictures), 1)

    found = answers(Ensemble([Sure(0), Sure(0), Sure(2)]), np.asarray(drawn.images[:2]))
    assert np.allclose(found, [[2 / 3, 0, 1 / 3]] * 2)


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory: pytest.TempPathFactory, dirty: Cells, tiny: Tiny) -> dict[str, Run]:
    """One ensemble of two seeds, and one of two runs that stand in their folders, with the same split."""
    out = tmp_path_factory.mktemp("ensembles")
    single = tiny(stages=ONE_EPOCH)
    seeded = single.model_copy(update={"members": 2})
    found = {"seeds": train(dirty, seeded, out / "seeds", seed=0, score_test=False, say=quiet)}
    for seed in (0, 1):
        run = train(dirty, single, out / f"run-{seed}", seed=seed, split_seed=0, score_test=False, say=quiet)
        found[f"run-{seed}"] = run
    folders = (str(out / "run-0"), str(out / "run-1"))
    named = tiny(backbone="none", stages=[], members=folders, views=2)
    found["runs"] = train(dirty, named, out / "runs", seed=0, score_test=False, say=quiet)
    return found


def test_what_training_did_to_all_members_is_divided_out_of_their_average(ensembles: dict[str, Run]) -> None:
    told = {name: load_model(run.folder).trust for name, run in ensembles.items()}
    for name in ("seeds", "runs"):
        trust, single = told[name], told["run-0"]
        assert trust is not None
        assert single is not None
        assert single.calibration.class_weights is not None
        assert trust.calibration.smoothing == single.calibration.smoothing
        assert trust.calibration.class_weights == single.calibration.class_weights


def test_members_are_the_runs_of_their_seeds_averaged_in_one_file(ensembles: dict[str, Run], dirty: Cells) -> None:
    images = np.asarray(dirty.images[:20])
    whole, *parts = (answers(load_network(ensembles[name])[0], images) for name in ("seeds", "run-0", "run-1"))
    assert np.abs(whole - np.mean(parts, axis=0)).max() < 1e-5
    assert (
        np.abs(calibrated(ensembles["seeds"], whole) - load_model(ensembles["seeds"].folder).predict(images)).max()
        < 1e-5
    )
    described = [json.loads((ensembles[name].model / "model.json").read_text()) for name in ("seeds", "run-0")]
    assert described[0]["parameters"] == 2 * described[1]["parameters"]
    history = pd.read_csv(ensembles["seeds"].history)
    assert history["stage"].tolist() == ["seed 0: whole", "seed 1: whole"]
    assert not list(ensembles["seeds"].folder.rglob("checkpoint"))


def test_finished_runs_are_averaged_as_members_and_read_back(ensembles: dict[str, Run], dirty: Cells) -> None:
    images = np.asarray(dirty.images[:20])
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    models = [load_network(ensembles[f"run-{seed}"])[0] for seed in (0, 1)]
    expected = np.mean([answers(model, pose) for model in models for pose in (images, mirrored)], axis=0)
    exported = load_model(ensembles["runs"].folder)
    assert np.abs(exported.predict(images) - calibrated(ensembles["runs"], expected)).max() < 1e-5
    network, names, origin = load_network(ensembles["runs"])
    assert (names, origin) == (exported.class_names, "random")
    assert np.abs(answers(network, images) - expected).max() < 1e-5


def test_papers_of_an_average_say_what_it_is(ensembles: dict[str, Run]) -> None:
    card, report = (path.read_text(encoding="utf-8") for path in (ensembles["runs"].card, ensembles["runs"].report))
    assert "Network: the average of the finished runs run-0 and run-1" in card
    assert "one answer for all</span>" not in report.partition("Weights at the start")[2][:200]
    assert "nothing learnt before" in report.partition("Weights at the start")[2][:200]


def test_members_that_may_know_the_test_rows_are_refused(
    ensembles: dict[str, Run], dirty: Cells, tiny: Tiny, tmp_path: Path
) -> None:
    folders = tuple(str(ensembles[f"run-{seed}"].folder) for seed in (0, 1))
    named = tiny(backbone="none", stages=[], members=folders)
    with pytest.raises(InputError, match=r"run-0: was trained on another split .* --split-seed"):
        train(dirty, named, tmp_path / "other", seed=0, split_seed=1, say=quiet)
    with pytest.raises(InputError, match="nowhere: holds no finished training"):
        train(dirty, tiny(members=(folders[0], str(tmp_path / "nowhere"))), tmp_path / "missing", say=quiet)
    with pytest.raises(InputError, match="and these data hold"):
        train(dirty.take(dirty.labels < 3), named, tmp_path / "classes", seed=0, say=quiet)
