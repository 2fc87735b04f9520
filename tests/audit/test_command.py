"""`hemascope audit` as it is typed: what hostile files do to it, and what its options write."""

from __future__ import annotations

import csv
import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemascope.data import CLASS_NAMES, load, save_npz
from hemascope.synthetic import draw_cells


def run(*words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "hemascope", "audit", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def coded(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], kind: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, kind)
    return stream.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A file of some hundred bytes that announces so many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, dict[str, str], set[str]]:
    """A folder of good and bad files; name -> what the reason must say for the bad ones, and names of good ones."""
    cells = draw_cells(32, seed=3)
    pictures = np.asarray(cells.images)
    root = tmp_path / "cells"
    for row in range(24):
        path = root / CLASS_NAMES[cells.labels[row]] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(coded(pictures[row]))
    here = root / "basophil"
    jpeg = coded(pictures[24], "JPEG")
    contents = {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut in its header.jpg": (jpeg[:20], "not a picture of a known format"),
        "empty.png": (b"", "empty"),
        "words.jpg": (b"this is no picture\n", "not a picture of a known format"),
        "program.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\nshowpage\n", "not a picture"),
        "bomb.png": (png_of_size(50_000, 50_000), "50,000 x 50,000 pixels"),
        "large bomb.png": (png_of_size(2**31 - 1, 2**31 - 1), "pixels, more than"),
        "field of view.png": (png_of_size(10_000, 8_000), "10,000 x 8,000 pixels"),
        "tiny.png": (coded(np.zeros((3, 3, 3), np.uint8)), "3 x 3 pixels"),
        'two\nlines, "quoted".png': (coded(pictures[25])[:400], "truncated"),
        "=1+1.png": (coded(pictures[25])[:400], "truncated"),
    }
    reasons = {}
    for name, (content, reason) in contents.items():
        (here / name).write_bytes(content)
        reasons[f"basophil/{name}".replace("\n", "\\n")] = reason
    for name, target, reason in [
        ("loop.png", "loop.png", "symbolic links"),
        ("there.png", "back.png", "symbolic links"),
        ("back.png", "there.png", "symbolic links"),
        ("broken.png", "nowhere.png", "does not exist"),
    ]:
        (here / name).symlink_to(target)
        reasons[f"basophil/{name}"] = reason
    (here / "all over again").symlink_to(root)
    (root / "monocyte" / "directory.png").mkdir()
    os.mkfifo(here / "queue.png")
    reasons["basophil/queue.png"] = "not a file"
    (here / "locked.png").write_bytes(coded(pictures[26]))
    (here / "locked.png").chmod(0)
    if not os.access(here / "locked.png", os.R_OK):
        reasons["basophil/locked.png"] = "Permission denied"
    good = {"basophil/png inside.jpg", "basophil/moving.gif", "basophil/sp ace, ümläut 細胞.png"}
    (here / "png inside.jpg").write_bytes(coded(pictures[27]))
    frames = [Image.fromarray(picture) for picture in pictures[28:31]]
    frames[0].save(here / "moving.gif", save_all=True, append_images=frames[1:])
    (here / "sp ace, ümläut 細胞.png").write_bytes(coded(pictures[31]))
    for spelt, content in ((b"no \xff text.png", coded(pictures[25])), (b"no \xfe text either.jpg", b"nor a picture")):
        try:
            (here / os.fsdecode(spelt)).write_bytes(content)
        except OSError:  # some file systems take UTF-8 alone
            continue
        if spelt.endswith(b"png"):
            good.add("basophil/no \\xff text.png")
        else:
            reasons["basophil/no \\xfe text either.jpg"] = "not a picture of a known format"
    return root, reasons, good


def told(out: Path, reasons: dict[str, str], good: set[str]) -> None:
    table = pd.read_csv(out / "findings.csv", keep_default_na=False)
    assert table["id"].is_unique
    unreadable = table[table["is_unreadable"]].set_index("id")
    assert set(unreadable.index) == set(reasons)
    for name, reason in reasons.items():
        assert reason in str(unreadable.loc[name, "reason"]), name
    assert (unreadable["unreadable_score"] == 0).all()
    assert (unreadable["advice"] == "drop").all()
    assert good <= set(table.loc[~table["is_unreadable"], "id"])
    assert pd.read_parquet(out / "findings.parquet")["id"].tolist() == table["id"].tolist()
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "large bomb.png" in page


def test_hostile_files_are_rows_with_a_reason(hostile: tuple[Path, dict[str, str], set[str]], tmp_path: Path) -> None:
    folder, reasons, good = hostile
    done = run(folder, "--out", tmp_path / "out", "--apply", tmp_path / "clean")
    assert f"{len(reasons)} files could not be read" in done.stdout
    assert "Pictures with several frames gave their first (1: basophil/moving.gif)." in done.stdout
    told(tmp_path / "out", reasons, good)
    again = load(tmp_path / "clean")
    assert not again.unreadable
    assert good <= set(again.ids.tolist())


def test_hostile_files_in_a_table_are_rows_too(hostile: tuple[Path, dict[str, str], set[str]], tmp_path: Path) -> None:
    folder, reasons, good = hostile
    listed = {name: reason for name, reason in reasons.items() if "\\" not in name} | {
        "basophil": "not a file",
        "gone.png": "does not exist",
        "/dev/zero": "not a file",
        f"{'long' * 100}.png": "cannot be opened",
    }
    good = {name for name in good if "\\" not in name}
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([name, "basophil"] for name in [*listed, *sorted(good)])
        writer.writerow(["", "basophil"])
    run(folder / "list.csv", "--out", tmp_path / "out")
    line = len(listed) + len(good) + 2
    told(tmp_path / "out", listed | {f"list.csv#{line}": "names no picture"}, good)


def test_the_first_line_says_what_the_page_says(tmp_path: Path) -> None:
    save_npz(draw_cells(200, seed=2, dirty=True), tmp_path / "cells.npz")
    first = run(tmp_path / "cells.npz", "--out", tmp_path / "out").stdout.splitlines()[0]
    counts = pd.read_csv(tmp_path / "out" / "findings.csv")["advice"].value_counts()
    look = counts.get("look", 0)
    told = f"{counts['drop']} of 200 rows should go, {look} {'needs' if look == 1 else 'need'} a look"
    assert first.startswith(f"! {told}")
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert told in page.replace("<em>", "").replace("</em>", "")


def test_thresholds_can_be_set_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    source = tmp_path / "cells.npz"
    save_npz(draw_cells(64, seed=2, size=32), source)
    outliers = [
        int(pd.read_csv(tmp_path / out / "findings.csv")["is_outlier"].sum())
        for out, words in (("plain", []), ("strict", ["--outlier", "mean=0.5", "--outlier", "sharpness=1"]))
        if run(source, "--out", tmp_path / out, *words)
    ]
    assert outliers[1] > outliers[0] + 10
    wrong = run(source, "--outlier", "blur=5", status=2)
    assert wrong.stderr.startswith("hemascope: --outlier is 'blur=5', but the thresholds are mean, contrast, sharpness")
    assert "expected mean=VALUE" in run(source, "--outlier", "mean=much", status=2).stderr
    assert "above 0" in run(source, "--outlier", "mean=0", status=2).stderr


def test_decisions_without_effect_are_told_and_nothing_is_not_written(tmp_path: Path) -> None:
    source, cells = tmp_path / "cells.npz", draw_cells(16, seed=2, size=32)
    save_npz(cells, source)
    run(source, "--out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "findings.csv")
    (tmp_path / "d.csv").write_text("pixel_hash,decision,label\n1,drop,\n" + f"{table['pixel_hash'][0]},drop,\n")
    done = run(source, "--apply", tmp_path / "clean.npz", "--decisions", tmp_path / "d.csv")
    assert "1 of 2 decisions names pixels that no row of cells.npz has" in done.stdout
    assert len(load(tmp_path / "clean.npz")) == 15

    lines = [f"{value},drop,\n" for value in table["pixel_hash"]]
    (tmp_path / "all.csv").write_text("pixel_hash,decision,label\n" + "".join(lines))
    (tmp_path / "removed.csv").unlink()
    done = run(source, "--apply", tmp_path / "none.npz", "--decisions", tmp_path / "all.csv", status=2)
    assert "no row of cells.npz would be left" in done.stderr
    assert not (tmp_path / "none.npz").exists()
    assert "so name one" in run(source, "--apply", tmp_path / "none.csv", status=2).stderr
