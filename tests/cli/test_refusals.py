"""Bad input, wrong options and a machine that lacks something: one sentence, status 2, and nothing lost or left."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemascope.data import Cells, save_npz
from hemascope.recipe import Recipe
from hemascope.run import Run

Tiny = Callable[..., Recipe]
Command = Callable[..., int]


def write_npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


IMAGES = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
LABELS = np.repeat(np.arange(8, dtype=np.uint8), 8)


def one_class(path: Path) -> Path:
    (path / "basophil").mkdir(parents=True)
    for row in range(5):
        Image.fromarray(IMAGES[row]).save(path / "basophil" / f"{row}.png")
    return path


def pictures_of(path: Path, sizes: list[int], class_name: str) -> None:
    (path / class_name).mkdir(parents=True)
    rng = np.random.default_rng(sum(map(ord, class_name)))
    for place, size in enumerate(sizes):
        picture = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(picture).save(path / class_name / f"{place}.png")


def huge(path: Path) -> Path:
    for name in ("basophil", "monocyte"):
        (path / name).mkdir(parents=True)
        Image.new("1", (20_000, 20_000)).save(path / name / "huge.png")
    return path


def single_pixel(path: Path) -> Path:
    pictures_of(path, [1], "basophil")
    pictures_of(path, [1], "monocyte")
    return path


def single_image_of_a_class(path: Path) -> Path:
    pictures_of(path, [32] * 10, "basophil")
    pictures_of(path, [32], "monocyte")
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a missing file": (lambda p: p / "none.npz", "no such file"),
    "an empty npz": (lambda p: write_npz(p / "a.npz"), "images"),
    "lengths that differ": (lambda p: write_npz(p / "a.npz", images=IMAGES, labels=LABELS[:-1]), "63"),
    "a label out of range": (lambda p: write_npz(p / "a.npz", images=IMAGES, labels=LABELS + 3), "row 40 is 8"),
    "NaN in floats": (lambda p: write_npz(p / "a.npz", images=IMAGES * np.float32(np.nan), labels=LABELS), "NaN"),
    "an unclear range": (lambda p: write_npz(p / "a.npz", images=IMAGES * 40.0, labels=LABELS), "0..255"),
    "an object array": (lambda p: write_npz(p / "a.npz", images=IMAGES.astype(object), labels=LABELS), "object"),
    "a folder with one class": (lambda p: one_class(p / "cells"), "one class"),
    "a class with one image": (lambda p: single_image_of_a_class(p / "cells"), "1 picture"),
    "pictures of one pixel": (lambda p: single_pixel(p / "cells"), "1 x 1"),
    "pictures of 20,000 pixels": (lambda p: huge(p / "cells"), "400,000,000 pixels"),
    "a text file": (lambda p: Path(p / "notes.txt"), "no such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence_and_status_2_and_nothing_is_written(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, sentence = BAD[name]
    data = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert command("train", data, "--recipe", "small", "--out", "run") == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("hemascope: ")
    assert sentence in told[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_empty_is_refused_before_reading(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert command("train", "none.npz", "--recipe", "small", "--out", "run") == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    one_class(tmp_path / "cells")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: mine\n")
    before = sorted(tmp_path.rglob("*"))
    for words, sentence in [
        (["audit", "cells", "--out", "file/x"], "file is no folder"),
        (["audit", "cells", "--out", "cells/x"], "cells/x: lies inside cells"),
        (["audit", "none.npz", "--against", "cells", "--out", "cells/x"], "cells/x: lies inside cells"),
        (["audit", "cells", "--apply", "cells/x"], "cells/x: lies inside cells"),
        (["audit", "cells", "--apply", "file/x.npz"], "file is no folder"),
        (["evaluate", "none", "cells", "--out", "/proc/x"], "/proc/x: cannot be written"),
        (["evaluate", "none", "cells", "--out", "run"], "run: the folder exists and is not empty"),
        (["train", "cells", "--recipe", "quick", "--out", "cells/run"], "cells/run: lies inside cells"),
    ]:
        assert command(*words) == 2
        told = capsys.readouterr()
        assert told.err.startswith("hemascope: ")
        assert sentence in told.err
        assert not told.out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_misspelt_key_is_refused_with_the_right_one(
    command: Command, recipe_file: Path, drawn: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    save_npz(drawn, "drawn.npz")
    recipe_file.write_text(recipe_file.read_text().replace("batch_size", "batchsize"))
    assert command("train", "drawn.npz", "--recipe", recipe_file, "--out", "run") == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err


def test_outputs_are_never_overwritten(command: Command, finished: Run, drawn: Cells) -> None:
    save_npz(drawn, "drawn.npz")
    Path("predictions.csv").write_text("mine")
    assert command("predict", "drawn.npz", "--model", finished.folder) == 2
    assert command("sample", "drawn.npz") == 2
    assert Path("predictions.csv").read_text() == "mine"


def test_one_bad_picture_among_good_ones_is_listed_and_the_job_succeeds(
    command: Command, recipe_file: Path, drawn: Cells, tmp_path: Path
) -> None:
    for row in range(len(drawn)):
        folder = tmp_path / "cells" / drawn.class_names[drawn.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images[row]).save(folder / f"{row}.png")
    (tmp_path / "cells" / "basophil" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    assert command("train", "cells", "--recipe", recipe_file, "--out", "run", "--epochs", "1") == 0
    removed = pd.read_csv("run/removed.csv")
    assert removed[removed["verdict"] == "unreadable"]["id"].tolist() == ["basophil/broken.png"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "memory does not suffice"),
        (OSError(errno.ENOSPC, "No space left on device", "run/x"), "run/x: there is no room left on the disk"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(
    command: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    sentence: str,
) -> None:
    def lacking(*given: object, **further: object) -> Cells:
        raise error

    monkeypatch.setattr("hemascope.synthetic.draw_cells", lacking)
    assert command("sample", "cells.npz") == 2
    told = capsys.readouterr().err
    assert told.startswith("hemascope: ")
    assert sentence in told
    assert told.count("\n") == 1


def test_an_unknown_class_name_is_mapped_by_hand(command: Command, tmp_path: Path, finished: Run) -> None:
    pictures_of(tmp_path / "cells", [32] * 4, "mystery")
    pictures_of(tmp_path / "cells", [32] * 4, "BA")
    assert command("evaluate", finished.folder, "cells") == 2
    assert command("evaluate", finished.folder, "cells", "--map", "mystery=neutrophil") == 0
    assert command("evaluate", finished.folder, "cells", "--map", "mystery") == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--device", "tpu"), "expected auto, cpu or cuda"),
        (("--recipe", "bad.yaml"), "timm has no backbone"),
        (("--recipe", "quick,quick"), "more than once"),
        (("--recipe", ","), "expected the name of a recipe"),
        (("--recipe", "drawn.npz"), "ends in .yaml or .yml"),
        (("--recipe", "taught.yaml"), "comes with hemascope as the file that answers"),
        (("--recipe", "averaged.yaml"), "holds no finished training"),
        (("--pretrained", "none.safetensors"), "no such weights file"),
        (("--precision", "half"), "expected auto, float32"),
        (("--seed", "0,x"), "expected a whole number"),
        (("--seed", "2,2"), "each once"),
    ],
)
def test_a_wrong_option_leaves_nothing_behind(
    command: Command,
    recipe_file: Path,
    drawn: Cells,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    sentence: str,
) -> None:
    save_npz(drawn, "drawn.npz")
    Path("bad.yaml").write_text(recipe_file.read_text().replace("test_resnet", "tast_resnet"))
    Path("taught.yaml").write_text(recipe_file.read_text() + "\nteacher: small\n")
    Path("averaged.yaml").write_text(recipe_file.read_text() + "\nmembers: [one, other]\n")
    # Pictures that cannot be read would be told first, if they were looked at.
    Path("drawn.npz").write_bytes(b"nothing")
    words = {"--recipe": str(recipe_file), "--out": "run", change[0]: change[1]}
    assert command("train", "drawn.npz", *(word for pair in words.items() for word in pair)) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("run").exists()
