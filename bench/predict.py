"""What prediction costs beside other ways to the same table, from a cold start, and whether kills lose a row.

    python bench/predict.py [rates] [cold] [killed] [--pictures 20000] [--rounds 3] [--large 200000]

It names JPEG files of 96 x 96 pixels, made once under runs/bench-predict from the real cells beside the checkout, or
from drawn ones where those are not there. All ways have two cores.

rates: images/s from the files to the table, ours beside the same network in torch (eager), in ONNX Runtime by hand,
and, where HEMASCOPE_KERAS_PYTHON names the Python of an environment with TensorFlow and pandas, and
HEMASCOPE_ULTRALYTICS_PYTHON one with ultralytics and hemascope, beside those; each in a process of its own, in turns,
so that a busy machine slows them alike. What Keras and ultralytics run is exported to a model file of ours, so that the
network is the same there, too.
cold: one picture, from the start of the process to the table.
killed: a job of --large pictures (hard links) is killed five times and goes on; its table must have the very bytes of
one that nothing stopped; and the peak memory of jobs of that many, a tenth and a hundredth.

The last line printed is one line of JSON with every figure. MISSED lines before it tell what is not as wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemascope.bulk.journal import parts_folder
from hemascope.bulk.plan import PART_ROWS
from hemascope.data import load
from hemascope.synthetic import draw_cells

HERE = Path(__file__).resolve().parent
ROOM = HERE.parent / "runs" / "bench-predict"
REAL = HERE.parent.parent / "shared" / "data" / "pbc96"
PEERS = HERE / "predict_peers.py"
QUALITY = 90
HEAVY = 10
"""DenseNet121 takes some ten times as long for a picture, so it gets one in so many."""
COLD_SECONDS = 1.2
COLD_TIMES = 9
KILLS = 5
MOST_GROWTH_MIB = 64
Figures = dict[str, Any]


def make_pictures(count: int) -> Path:
    """A folder of so many JPEG files; made once."""
    folder = ROOM / f"jpeg-{count}"
    if folder.is_dir():
        return folder
    images = load(REAL).images if REAL.is_dir() else draw_cells(2_000, seed=0).images
    making = ROOM / f"jpeg-{count}.making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for row in range(count):
        Image.fromarray(images[row % len(images)]).save(making / f"{row:06}.jpg", quality=QUALITY)
    making.rename(folder)
    return folder


def one_run(python: str, way: str, folder: Path, count: int, model: str) -> float:
    """Images per second of one way, in a process of its own."""
    out = ROOM / f"{way}.csv"
    out.unlink(missing_ok=True)
    words = [python, str(PEERS), way, str(folder), str(count), str(out), model]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=plain())
    if done.returncode:
        raise SystemExit(f"{way} did not run: {done.stderr.strip().splitlines()[-1]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return float(told["pictures"]) / float(told["seconds"])


def plain() -> dict[str, str]:
    """The environment, less what would bind the ways to other than two threads."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return kept | {"PYTHONPATH": str(HERE.parent / "src"), "TF_CPP_MIN_LOG_LEVEL": "3", "YOLO_VERBOSE": "false"}


def exported(way: str, python: str) -> str:
    """A model file of ours with a peer's network; made once."""
    path = ROOM / f"{way}.onnx"
    if not path.is_file():
        subprocess.run([python, PEERS, way, "-", "0", path, "-"], check=True, env=plain(), stdout=subprocess.DEVNULL)
    return str(path)


def rates(pictures: int, rounds: int) -> Figures:
    """Images per second of every way that is there, and how many times ours is each."""
    folder = make_pictures(pictures)
    here = sys.executable
    # (the way, its Python, how many pictures, the model file of ours that has its network)
    plans: list[tuple[str, str, int, str]] = [
        (way, here, pictures, "small") for way in ("torch_eager", "onnxruntime_loop")
    ]
    for way, variable, export, count in (
        ("keras", "HEMASCOPE_KERAS_PYTHON", "export_densenet", pictures // HEAVY),
        ("ultralytics", "HEMASCOPE_ULTRALYTICS_PYTHON", "export_yolo", pictures),
    ):
        python = os.environ.get(variable)
        if python is None:
            print(f"  {way}: {variable} names no Python that has it; left out")
            continue
        plans.append((way, python, count, exported(export, here if way == "keras" else python)))
    found: Figures = {}
    for way, python, count, model in plans:
        pairs = [
            (one_run(here, "hemascope", folder, count, model), one_run(python, way, folder, count, model))
            for _ in range(rounds)
        ]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        times = statistics.median(mine / other for mine, other in pairs)
        found[way] = {"ours": round(ours), "theirs": round(theirs), "times": round(times, 2), "pictures": count}
        print(f"  {way}: {theirs:,.0f} images/s, ours {ours:,.0f} with the same network: {times:.2f} times", flush=True)
    return found | {"missed": [f"{way} is ahead of ours" for way, one in found.items() if one["times"] <= 1]}


def command(*words: str | Path) -> list[str]:
    """The command `hemascope predict ...`."""
    return [sys.executable, "-m", "hemascope", "predict", *map(str, words)]


def cold() -> Figures:
    """One picture from the start of the process to the table: seconds by the clock, and of a processor."""
    picture = next(iter(sorted(make_pictures(100).iterdir())))
    clock, processor = [], []
    for _ in range(COLD_TIMES):
        out = ROOM / "cold.csv"
        out.unlink(missing_ok=True)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command(picture, "--out", out), check=True, stdout=subprocess.DEVNULL, env=plain())
        clock.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    found = {"seconds": round(statistics.median(clock), 2), "least": round(min(clock), 2)}
    found["cpu_seconds"] = round(statistics.median(processor), 2)
    print(f"  {found['seconds']} s (least {found['least']}), of which {found['cpu_seconds']} s of a processor")
    missed = (
        [] if found["seconds"] < COLD_SECONDS else [f"{found['seconds']} s from a cold start, wanted {COLD_SECONDS}"]
    )
    return found | {"missed": missed}


def large_folder(files: list[Path], count: int) -> Path:
    """A folder of hard links to some files, as many as wanted, in folders of 20,000."""
    folder = ROOM / f"links-{count}"
    if not folder.is_dir():
        making = folder.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        for row in range(count):
            inner = making / f"{row // 20_000:03}"
            if row % 20_000 == 0:
                inner.mkdir(parents=True)
            os.link(files[row % len(files)], inner / f"{row:06}.jpg")
        making.rename(folder)
    return folder


def peak_of(folder: Path, out: Path) -> float:
    """The peak memory of a whole job in MiB, as the kernel counts it for the process alone."""
    process = subprocess.Popen(command(folder, "--out", out), stdout=subprocess.DEVNULL, env=plain())
    # What wait4 tells would hold the peak of this process, too, from which that one was forked.
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        told = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        peak = int(told[0][1]) if told else peak
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the job on {folder} ended with {process.returncode}")
    return peak / 1024


def killed(large: int) -> Figures:
    """Kill a large job five times, go on each time, and compare its table with that of a job that nothing stopped."""
    files = sorted(make_pictures(2_000).iterdir())
    peaks: dict[str, float] = {}
    few = large // 100
    for count in (few, large // 10, large):
        out = ROOM / f"whole-{count}.csv"
        out.unlink(missing_ok=True)
        shutil.rmtree(parts_folder(out), ignore_errors=True)
        began = time.perf_counter()
        peaks[f"{count}"] = round(peak_of(large_folder(files, count), out), 1)
        rate = count / (time.perf_counter() - began)
        print(f"  {count:,} pictures: at most {peaks[f'{count}']} MiB, {rate:,.0f} images/s", flush=True)
    folder, out = large_folder(files, large), ROOM / "killed.csv"
    out.unlink(missing_ok=True)
    shutil.rmtree(parts_folder(out), ignore_errors=True)
    rng, parts = np.random.default_rng(0), -(-large // PART_ROWS)
    done: list[int] = []
    for number in range(KILLS):
        process = subprocess.Popen(command(folder, "--out", out, "--resume"), stdout=subprocess.DEVNULL, env=plain())
        while (
            len(list(parts_folder(out).glob("part-*.parquet"))) < (number + 1) * parts // (KILLS + 1)
            and process.poll() is None
        ):
            time.sleep(0.05)
        # At any moment of the part that is being made.
        time.sleep(rng.uniform(0, 4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done.append(len(list(parts_folder(out).glob("part-*.parquet"))))
        print(f"  killed with {done[-1]} parts done", flush=True)
    subprocess.run(command(folder, "--out", out, "--resume"), check=True, stdout=subprocess.DEVNULL, env=plain())
    same = out.read_bytes() == (ROOM / f"whole-{large}.csv").read_bytes()
    rows = sum(1 for _ in out.open(encoding="utf-8")) - 1
    print(f"  {rows:,} rows, {'the same bytes as' if same else 'NOT the bytes of'} the job that nothing stopped")
    missed = [] if same and rows == large else ["the table of the killed job differs"]
    if peaks[f"{large}"] > peaks[f"{few}"] + MOST_GROWTH_MIB:
        missed.append(f"memory grows: {peaks}")
    return {"peak_mib": peaks, "parts_at_each_kill": done, "same_bytes": same, "rows": rows, "missed": missed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help="rates, cold, killed; all when left out")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=200_000)
    asked = parser.parse_args()
    sections: dict[str, tuple[Callable[..., Figures], tuple[int, ...]]] = {
        "rates": (rates, (asked.pictures, asked.rounds)),
        "cold": (cold, ()),
        "killed": (killed, (asked.large,)),
    }
    if asked.large < (least := (KILLS + 3) * PART_ROWS):
        parser.error(f"--large is {asked.large:,}; {KILLS} kills need {least:,} pictures or more.")
    if unknown := [name for name in asked.sections if name not in sections]:
        parser.error(f"there is no section '{unknown[0]}'; the sections are {', '.join(sections)}.")
    ROOM.mkdir(parents=True, exist_ok=True)
    figures: Figures = {"load_average": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    print(f"{'real' if REAL.is_dir() else 'drawn'} cells; load average {figures['load_average']} before the start")
    for name in asked.sections or sections:
        work, given = sections[name]
        print(f"{name}: {(work.__doc__ or '').splitlines()[0]}", flush=True)
        figures[name] = work(*given)
        for sentence in figures[name]["missed"]:
            print(f"  MISSED {sentence}")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
