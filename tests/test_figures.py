from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemascope import figures
from hemascope.figures.explained import Neighbour

HOSTILE = [
    "$\\frac{",
    "<script>alert('x')</script>",
    "骨髄球",
    "a name that goes on and on and on without an end",
    "% \\n {0}",
]
ORANGE = (217, 96, 26)


def history(epochs: int) -> list[dict[str, object]]:
    return [
        {
            "stage": "head" if epoch <= 2 else "whole network",
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "train_accuracy": 1 - 0.5 / epoch,
            "validation_loss": 2.2 / epoch,
            "validation_accuracy": 1 - 0.6 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)


def counts(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (size, size)) + 60 * np.eye(size, dtype=np.int64)


def labels(size: int) -> np.ndarray:
    return np.arange(3 * size, dtype=np.int64) % size


def conditions(names: list[str]) -> pd.DataFrame:
    rows = [("clean", "clean", 0), *(("medmnist-c", "jpeg", at) for at in (1, 2)), ("mixes", HOSTILE[1], 0)]
    return pd.DataFrame(
        [
            {"group": group, "corruption": corruption, "severity": severity}
            | {f"recall_{name}": (row + at) % 7 / 6 for at, name in enumerate(names)}
            for row, (group, corruption, severity) in enumerate(rows)
        ]
    )


DRAWINGS: dict[str, Callable[[Path, list[str]], Path]] = {
    "class_distribution": lambda path, names: figures.class_distribution(
        path, {name: 50 + 7 * at for at, name in enumerate(names)}, dict.fromkeys(names[:-1], 50)
    ),
    "mean_pixel_histogram": lambda path, names: figures.mean_pixel_histogram(
        path, np.linspace(0.2, 0.9, 200), np.linspace(0.3, 0.8, 120)
    ),
    "cell_grid": lambda path, names: figures.cell_grid(path, pictures(3 * len(names)), labels(len(names)), names, 4),
    "augmentation_grid": lambda path, names: figures.augmentation_grid(
        path, pictures(len(names)), np.stack([pictures(3, at) for at in range(len(names))]), names
    ),
    "mistakes": lambda path, names: figures.mistakes(
        path,
        pictures(len(names)),
        [{"id": f"x{name}", "label": name, "predicted": names[0], "confidence": 0.9} for name in names],
    ),
    "corrupted_mistakes": lambda path, names: figures.corrupted_mistakes(
        path,
        pictures(len(names)),
        pictures(len(names), 1),
        [
            {"corruption": name, "severity": 5, "label": name, "predicted": names[0], "confidence": 0.9}
            for name in names
        ],
    ),
    "explanation": lambda path, names: figures.explanation(
        path,
        pictures(1)[0],
        np.linspace(0, 1, 576).reshape(24, 24),
        title=f"{names[0]}, 90% sure",
        label=names[-1],
        fall=np.linspace(-0.2, 0.4, 576).reshape(24, 24),
        covered=np.eye(24) > 0,
        neighbours=[
            Neighbour(name, 0.9, f"x#{name}", pictures(1, at)[0] if at % 2 else None) for at, name in enumerate(names)
        ],
        told_of_neighbours=f"All are {names[0]}.",
        sentences=[f"The answer is {name}." for name in names],
    ),
    "heat_maps": lambda path, names: figures.heat_maps(
        path,
        pictures(len(names)),
        np.broadcast_to(np.linspace(0, 1, 64).reshape(8, 8), (len(names), 8, 8)),
        [{"id": f"x{name}", "label": name, "predicted": names[0], "confidence": 0.9} for name in names],
    ),
    "recall_heat_map": lambda path, names: figures.recall_heat_map(
        path, conditions(names), names, near_training=["jpeg"]
    ),
    "severity_curves": lambda path, names: figures.severity_curves(
        path,
        {name: np.linspace(0.05, 0.9, 5).tolist() for name in names},
        0.03,
        published={names[0]: 0.2},
        near_training=names[1:2],
    ),
    "corruption_sheet": lambda path, names: figures.corruption_sheet(path, pictures(3)),
    "training_curves": lambda path, names: figures.training_curves(path, history(6), {"head": 2, "whole network": 5}),
    "confusion_matrix": lambda path, names: figures.confusion_matrix(path, counts(len(names)), names),
    "reliability_diagram": lambda path, names: figures.reliability_diagram(
        path, np.linspace(0.3, 1.0, 80), np.arange(80) % 3 > 0
    ),
    "reliability_by_corruption": lambda path, names: figures.reliability_by_corruption(
        path,
        {
            name: [{"confidence": 0.4, "accuracy": 0.3, "rows": 9}, {"confidence": 1, "accuracy": 0.9, "rows": 90}]
            for name in names
        },
    ),
    "data_learning_curve": lambda path, names: figures.data_learning_curve(
        path, [100, 50, 25], [0.9, 0.8, 0.7], [(0.88, 0.92), (0.77, 0.83), (0.66, 0.74)]
    ),
    "leaderboard": lambda path, names: figures.leaderboard(
        path,
        names,
        np.linspace(0.1, 0.9, len(names)).tolist(),
        [(0.1, 0.9)] * (len(names) - 1) + [None],
        names,
        clean=[0.95] * len(names),
    ),
}


def test_every_figure_is_tried_here() -> None:
    assert set(DRAWINGS) == set(figures.__all__)


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_a_figure_is_one_whole_png_that_says_what_it_shows(tmp_path: Path, name: str) -> None:
    path = DRAWINGS[name](tmp_path / "figures" / f"{name}.png", HOSTILE)
    assert [file.name for file in path.parent.iterdir()] == [f"{name}.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert 800 <= image.width <= 2400
        assert 300 <= image.height <= 2400
        assert image.info["Description"].endswith(".")
        assert image.convert("RGB").getcolors(20) is None


def test_two_classes_and_sixteen_are_drawn_at_a_sane_size(tmp_path: Path) -> None:
    for size in (2, 16):
        names = [f"class {at}" for at in range(size)]
        for name in ("class_distribution", "confusion_matrix"):
            with Image.open(DRAWINGS[name](tmp_path / f"{name}{size}.png", names)) as image:
                assert min(image.size) >= 300
                assert max(image.size) <= 3000


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("class_distribution", "mistakes"):
        first, second = (DRAWINGS[name](tmp_path / f"{turn}.png", ["a", "b"]).read_bytes() for turn in (1, 2))
        assert first == second


def test_repeated_pictures_stand_out_in_the_histogram_before_cleaning_and_are_counted(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).normal(0.7, 0.05, 3000)
    before = np.concatenate([cells, np.full(1600, 0.432), np.full(200, 0.652)])
    path = figures.mean_pixel_histogram(tmp_path / "h.png", before, cells)
    with Image.open(path) as image:
        said = image.info["Description"]
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert "4,800 pictures: 1,600 share the mean 0.432; 200 share the mean 0.652." in said
    assert "3,000 pictures: no mean repeats." in said
    marked = np.flatnonzero((np.abs(pixels - ORANGE).sum(-1) < 6).any(axis=1))
    assert len(marked) > 100
    assert marked.max() < 0.55 * len(pixels)


def test_each_row_of_the_grid_shows_its_own_class(tmp_path: Path) -> None:
    colours = np.array([[200, 30, 30], [30, 160, 30], [30, 30, 200]], np.uint8)
    own = labels(3)
    images = np.broadcast_to(colours[own][:, None, None, :], (len(own), 16, 16, 3))
    path = figures.cell_grid(tmp_path / "g.png", images, own, ["red", "green", "blue"], per_class=3)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    height = len(pixels) // 3
    for row, colour in enumerate(colours):
        middle = pixels[row * height + height // 2, pixels.shape[1] // 2 :]
        assert (np.abs(middle.astype(int) - colour).sum(-1) < 12).mean() > 0.6


def test_a_run_without_mistakes_has_its_figure_too(tmp_path: Path) -> None:
    with Image.open(figures.mistakes(tmp_path / "m.png", pictures(0), [])) as image:
        assert image.height < 400


def test_missing_columns_and_numbers_of_a_history_are_left_out(tmp_path: Path) -> None:
    rows = [{"stage": "head", "epoch": 1, "train_loss": 1.0, "validation_accuracy": float("nan")}]
    with Image.open(figures.training_curves(tmp_path / "t.png", rows)) as image:
        assert image.info["Description"] == "Loss and accuracy over 1 epoch."


def test_a_figure_that_fails_leaves_the_old_one_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "c.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="broadcast"):
        figures.confusion_matrix(path, counts(3), ["only", "two"])
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    DRAWINGS["leaderboard"](tmp_path / "l.png", ["a", "b"])
    assert dict(mpl.rcParams) == before


def test_importing_the_figures_imports_no_heavy_library() -> None:
    program = "import sys, hemascope.figures; print({'matplotlib', 'pandas', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_curves_name_what_is_trained_on_and_where_they_end(tmp_path: Path) -> None:
    errors = {"fog": [0.1, 0.2, 0.3, 0.4, 0.75], "film_grain": [0.05] * 5}
    with Image.open(figures.severity_curves(tmp_path / "s.png", errors, 0.04, near_training=["fog"])) as image:
        said = image.info["Description"]
    assert "0.96 on clean pictures" in said
    assert "fog 0.25 (near training), film grain 0.95." in said


def test_the_heat_map_names_the_lowest_recall_and_bears_an_absent_class(tmp_path: Path) -> None:
    table = conditions(["a", "b"])
    table["recall_b"] = [0.9, 0.4, 0.2, 0.8]
    table["recall_a"] = float("nan")
    with Image.open(figures.recall_heat_map(tmp_path / "r.png", table, ["a", "b"])) as image:
        assert "the lowest is 30, b under jpeg" in image.info["Description"]


def test_nothing_broken_is_said(tmp_path: Path) -> None:
    with Image.open(figures.corrupted_mistakes(tmp_path / "m.png", pictures(0), pictures(0), [])) as image:
        assert image.height < 400
