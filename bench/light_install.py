"""What an installation without torch takes, and that it audits, names and serves.

    python bench/light_install.py

Builds the wheel of this checkout, makes a virtual environment in a temporary folder, and installs the wheel there
without extras, at the versions of constraints.txt. Then it uses that environment alone: the very first table of 100
drawn JPEG crops, the same and a single crop again, an audit of 300 drawn cells, one picture sent to the service, and
what `train` says without torch. Times are by the clock and, as a busy machine slows that, of a processor. A "cold
start" is a new process; what the kernel keeps of files is not dropped. The time of the installation is that of the
network, too. Takes some minutes and 1 GB of room. Wants pip to reach a package index.

The last line printed is one line of JSON with every figure. MISSED lines before it tell what is not as wanted; there
the exit status is 1.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CROPS = 100
CELLS = 300
TIMES = 5
LARGEST = 6
"""So many distributions are named with their size."""

DRAW_CROPS = """
import sys
from pathlib import Path
from PIL import Image
from hemascope import draw_cells, save_npz
folder = Path(sys.argv[1])
folder.mkdir()
for row, pixels in enumerate(draw_cells(int(sys.argv[2]), seed=1).images):
    Image.fromarray(pixels).save(folder / f"{row:03}.jpg", quality=90)
save_npz(draw_cells(int(sys.argv[3]), seed=2, dirty=True), sys.argv[4])
"""
SIZES = """
import json
from importlib import metadata
def size(one):
    return sum(path.stat().st_size for path in map(one.locate_file, one.files or ()) if path.is_file())
print(json.dumps({one.name: size(one) for one in metadata.distributions()}))
"""
HAS = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]) is not None)"


def environment() -> dict[str, str]:
    """The environment without anything that would let the checkout be seen, or bind threads."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OMP_NUM_THREADS")
    return {name: value for name, value in os.environ.items() if name not in hidden}


class Timed(NamedTuple):
    """What a command took in seconds, by the clock and of a processor, and what it said."""

    clock: float
    processor: float
    said: str


def timed(words: list[str | Path], folder: Path, status: int = 0) -> Timed:
    """Run a command in a folder; ends the bench where its exit status is another."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise SystemExit(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr.strip()[-2_000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timed(clock, processor, done.stdout + done.stderr)


def seconds_of(several: list[Timed]) -> dict[str, float]:
    """The medians of several runs of a command, in seconds."""
    return {
        "clock": round(statistics.median(one.clock for one in several), 2),
        "processor": round(statistics.median(one.processor for one in several), 2),
    }


def bytes_of(folder: Path) -> int:
    """All files under a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def serve_one(hemascope: Path, folder: Path, picture: Path) -> dict[str, Any]:
    """Start the service, send one picture, stop it: seconds to the first answer, the answer, the exit status."""
    began = time.perf_counter()
    with subprocess.Popen(
        [str(hemascope), "serve", "small", "--port", "0"],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            told = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
            assert told is not None, "the service did not say its address"
            request = urllib.request.Request(
                f"{told[0]}v1/predict", data=picture.read_bytes(), headers={"content-type": "image/jpeg"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                [named] = json.loads(answer.read())["pictures"]
            seconds = time.perf_counter() - began
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=60)
        finally:
            process.kill()
    return {"seconds_to_first_answer": round(seconds, 2), "label": named["label"], "exit_status": status}


def install(room: Path) -> tuple[Path, dict[str, Any]]:
    """Build the wheel, make the environment, install: its folder of programs, and what that took."""
    print("building the wheel", flush=True)
    timed([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", room / "wheel", ROOT], room)
    [wheel] = (room / "wheel").glob("*.whl")
    timed([sys.executable, "-m", "venv", room / "venv"], room)
    programs = room / "venv" / "bin"
    before = bytes_of(room / "venv")
    print(f"installing {wheel.name} without extras", flush=True)
    python = programs / "python"
    took = timed([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel], room)
    sizes: dict[str, int] = json.loads(timed([python, "-c", SIZES], room).said)
    largest = sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]
    return programs, {
        "wheel_mib": round(wheel.stat().st_size / 2**20, 1),
        "install_seconds": {"clock": round(took.clock, 1), "processor": round(took.processor, 1)},
        "installed_mib": round((bytes_of(room / "venv") - before) / 2**20),
        "distributions": len(sizes),
        "largest_mib": {name: round(sizes[name] / 2**20) for name in largest},
    }


def used(programs: Path, room: Path) -> dict[str, Any]:
    """What the installed package does, and in what time."""
    hemascope, python = programs / "hemascope", programs / "python"
    timed([python, "-c", DRAW_CROPS, room / "crops", str(CROPS), str(CELLS), room / "cells.npz"], room)
    plans: list[tuple[str, int, list[str | Path]]] = [
        ("first_table_of_100", 1, ["predict", "crops"]),
        ("table_of_100", TIMES, ["predict", "crops"]),
        ("table_of_1", TIMES, ["predict", "crops/000.jpg"]),
    ]
    found: dict[str, Any] = {}
    for name, times, words in plans:
        outs = [f"{name}-{number}.csv" for number in range(times)]
        found[f"{name}_seconds"] = seconds_of([timed([hemascope, *words, "--out", out], room) for out in outs])
    found["rows"] = len((room / "first_table_of_100-0.csv").read_text(encoding="utf-8").splitlines()) - 1
    found["help_seconds"] = seconds_of([timed([hemascope, "--help"], room) for _ in range(TIMES)])
    audited = timed([hemascope, "audit", "cells.npz", "--out", "findings", "--apply", "clean.npz"], room)
    found["audit_of_300_seconds"] = seconds_of([audited])
    found["audit_page"] = (room / "findings" / "audit.html").is_file() and "no cells, drop them" in audited.said
    found["serve"] = serve_one(hemascope, room, room / "crops" / "000.jpg")
    refused = timed([hemascope, "train", "cells.npz", "--recipe", "quick", "--out", "run"], room, status=2)
    found["train_says"] = refused.said.strip()
    found["torch"] = timed([python, "-c", HAS, "torch"], room).said.strip() == "True"
    return found


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="hemascope-light-") as name:
        room = Path(name)
        programs, figures = install(room)
        print("using it", flush=True)
        figures |= used(programs, room) | {"load_average": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    wanted = {
        "torch is not installed": not figures["torch"],
        "every crop has its row": figures["rows"] == CROPS,
        "the audit found the pictures that are no cells and wrote its page": figures["audit_page"],
        "the service named the picture and stopped with status 0": bool(figures["serve"]["label"])
        and figures["serve"]["exit_status"] == 0,
        "train says in one sentence what to install": "hemascope[train]" in figures["train_says"]
        and "\n" not in figures["train_says"],
    }
    missed = [sentence for sentence, holds in wanted.items() if not holds]
    for sentence in missed:
        print(f"MISSED {sentence}")
    print(json.dumps(figures))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
