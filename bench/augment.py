"""What augmentation costs: RandAugment, then AugMix, on 96 x 96 cells, by hemascope and by others, side by side.

`augment.py` measures images per second at batches of 35 and 256 with what two cores give: hemascope's arrays by two
threads, torchvision v2 picture by picture in two worker processes. The best of several rounds counts, in which they
take turns; CPU time is told as well, which other work on the machine disturbs less. Then the sixteen families of the
recipe `small`, 256 pictures at a time, by compiled loops and by OpenCV, in processes that take turns. With a GPU, also
hemascope's tensors at a batch of 512, and what share of a training step of DenseNet121 at 256 they take.

HEMASCOPE_BENCH_PEERS may name the Python of an environment that has kornia, to be timed on the same operations. The
last line printed is one line of JSON with every figure.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from hemascope.augment import augment, compiled
from hemascope.machine import freed_memory_kept
from hemascope.recipe import Augmentation, load_recipe
from hemascope.synthetic import draw_cells

Figures = dict[str, Any]

CELLS, ROUNDS, CORES, EPOCHS = 512, 3, 2, 20
BATCHES = (35, 256)
PEER = "kornia, best of one and two threads"
STEPS = [Augmentation(name="randaugment", magnitude=0.3), Augmentation(name="augmix", magnitude=0.3)]
# The same in torchvision: level 9 of 30, severity 3 of 10.
TRANSFORM = v2.Compose([v2.RandAugment(num_ops=2, magnitude=9), v2.AugMix(severity=3)])

KORNIA = """
import json, sys, time
import numpy as np, torch
import kornia.enhance as enhance
from kornia.geometry.transform import warp_affine
pictures = torch.from_numpy(np.load(sys.argv[1])[:256]).permute(0, 3, 1, 2)
size = int(sys.argv[2])
random = np.random.default_rng(0)
side = pictures.shape[-1]

def matrices(kind, level):
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    middle = (side - 1) / 2
    if kind < 2:
        lean = 0.3 * level
        right, down = (lean, zero) if kind == 0 else (zero, lean)
        rows = ([one, right, 0.5 * right], [down, one, 0.5 * down])
    elif kind < 4:
        move = torch.trunc(level * side * 0.4)
        rows = ([one, zero, move if kind == 2 else zero], [zero, one, move if kind == 3 else zero])
    else:
        turn = level * np.pi / 6
        c, s = torch.cos(turn), torch.sin(turn)
        rows = ([c, -s, middle - c * middle + s * middle], [s, c, middle - s * middle - c * middle])
    return torch.stack([torch.stack(row, 1) for row in rows], 1)

def one_each(images, kinds, levels, mode):
    for kind in np.unique(kinds):
        own = torch.from_numpy(np.flatnonzero(kinds == kind))
        part, level = images[own], levels[own]
        size = tuple(part.shape[2:])
        if kind < 5: part = warp_affine(part, matrices(kind, level), size, mode=mode, align_corners=False)
        elif kind == 5: part = enhance.posterize(part, (8 - 4 * level.abs()).round().int())
        elif kind == 6: part = enhance.solarize(part, 1 - level.abs())
        elif kind == 7: part = enhance.normalize_min_max(part)
        elif kind == 8: part = enhance.equalize(part)
        elif kind == 9: part = enhance.adjust_brightness(part, 0.9 * level)
        elif kind == 10: part = enhance.adjust_saturation_with_gray_subtraction(part, 1 + 0.9 * level)
        elif kind == 11: part = enhance.adjust_contrast_with_mean_subtraction(part, 1 + 0.9 * level)
        elif kind == 12: part = enhance.sharpness(part, 1 + 0.9 * level)
        images[own] = part.clamp(0, 1)

def signs(count): return torch.from_numpy(random.choice([-1.0, 1.0], count).astype(np.float32))

@torch.no_grad()
def both(batch):
    images = batch.float() / 255
    count = len(images)
    for _ in range(2):
        one_each(images, random.integers(0, 14, count), 0.3 * signs(count), "nearest")
    copies, depths = images.repeat(3, 1, 1, 1), random.integers(1, 4, 3 * count)
    for layer in range(3):
        kinds = np.where(depths > layer, random.integers(0, 13, 3 * count), 13)
        levels = torch.from_numpy(random.integers(0, 3, 3 * count).astype(np.float32)) / 9
        one_each(copies, kinds, levels * signs(3 * count), "bilinear")
    weights = torch.from_numpy(random.dirichlet([1.0] * 3, count).astype(np.float32)).T[:, :, None, None, None]
    own = torch.from_numpy(random.random(count).astype(np.float32))[:, None, None, None]
    mixed = own * images + (1 - own) * (weights * copies.unflatten(0, (3, count))).sum(0)
    return (mixed * 255).to(torch.uint8)

both(pictures[:size])
best = [1e9, 1e9]
for number in range(2):
    torch.set_num_threads(1 + number % 2)
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(pictures) - size + 1, size):
        both(pictures[start : start + size])
    seen = len(pictures) // size * size
    best = [min(best[0], (time.perf_counter() - wall) / seen), min(best[1], (time.process_time() - cpu) / seen)]
import kornia
print(json.dumps([*best, kornia.__version__]))
"""


class Batches(Dataset[torch.Tensor]):
    """Batches of pictures, augmented by torchvision one after the other or by hemascope together."""

    def __init__(self, pictures: NDArray[np.uint8], size: int, one_by_one: bool) -> None:
        self.pictures, self.size, self.one_by_one = pictures, size, one_by_one

    def __len__(self) -> int:
        return len(self.pictures) // self.size

    def __getitem__(self, number: int) -> torch.Tensor:
        if number >= len(self):
            raise IndexError(number)
        rows = np.arange(number * self.size, (number + 1) * self.size)
        if self.one_by_one:
            tensors = torch.from_numpy(self.pictures[rows]).permute(0, 3, 1, 2).contiguous()
            return torch.stack([TRANSFORM(picture) for picture in tensors])
        return torch.from_numpy(augment(self.pictures[rows], rows, STEPS, seed=0, epoch=0, threads=1))


def by_workers(batches: Batches) -> Callable[[], int]:
    loader = DataLoader(batches, batch_size=None, num_workers=CORES, persistent_workers=True)

    def work() -> int:
        return sum(len(batch) for batch in loader)

    return work


def by_hemascope(pictures: NDArray[np.uint8], size: int, threads: int) -> Callable[[], int]:
    def work() -> int:
        starts = range(0, len(pictures) - size + 1, size)
        for epoch, start in enumerate(starts):
            rows = np.arange(start, start + size)
            augment(pictures[rows], rows, STEPS, seed=0, epoch=epoch, threads=threads)
        return len(starts) * size

    return work


def on_cpu(pictures: NDArray[np.uint8], size: int, peers: str | None, folder: Path) -> Figures:
    works = {
        "torchvision, two workers": by_workers(Batches(pictures, size, one_by_one=True)),
        "hemascope, two workers": by_workers(Batches(pictures, size, one_by_one=False)),
        "hemascope, two threads": by_hemascope(pictures, size, CORES),
        "hemascope, one thread": by_hemascope(pictures, size, 1),
    }
    for work in works.values():
        work()
    best = dict.fromkeys(works, float("inf"))
    cpu = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            began, spent = time.perf_counter(), time.process_time()
            count = work()
            best[name] = min(best[name], (time.perf_counter() - began) / count)
            if "workers" not in name:
                cpu[name] = min(cpu[name], (time.process_time() - spent) / count)
    # The time of workers is not this process's: the same work once more without them.
    for name, one_by_one in (("torchvision, two workers", True), ("hemascope, two workers", False)):
        batches = Batches(pictures, size, one_by_one)
        for number in range(min(len(batches), ROUNDS)):
            spent = time.process_time()
            batches[number]
            cpu[name] = min(cpu[name], (time.process_time() - spent) / size)
    if peers:
        np.save(folder / "cells.npy", pictures)
        command = [peers, "-c", KORNIA, str(folder / "cells.npy"), str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        best[PEER], cpu["kornia, best of one and two threads"], version = json.loads(done.stdout.splitlines()[-1])
        _say(f"  kornia {version}")
    figures: Figures = {"batch": size}
    for name in best:
        figures[name] = {"images_per_second": round(1 / best[name], 1), "cpu_us_per_image": round(1e6 * cpu[name], 1)}
        _say(f"  batch {size:3d}, {name:36s} {1 / best[name]:8,.0f} images/s, {1e6 * cpu[name]:7,.0f} us CPU an image")
    for other in ("torchvision, two workers", *([PEER] if peers else [])):
        times = {
            "by the clock, two threads": best[other] / best["hemascope, two threads"],
            "by the clock, two workers": best[other] / best["hemascope, two workers"],
            "by CPU time": cpu[other] / cpu["hemascope, one thread"],
        }
        figures[f"times {other}"] = {name: round(value, 1) for name, value in times.items()}
        told = ", ".join(f"{value:.1f} {name}" for name, value in times.items())
        _say(f"  batch {size:3d}, hemascope is so many times as fast as {other}: {told}")
    return figures


def families_of_small() -> Figures:
    """Microseconds a picture by one and by two threads, medians of the epochs, in this process."""
    pictures, rows = np.ascontiguousarray(draw_cells(256, seed=0).images[:]), np.arange(256)
    steps = load_recipe("small").augmentation
    found = {}
    with freed_memory_kept():
        for threads in (1, CORES):
            times = []
            for epoch in range(EPOCHS):
                began = time.perf_counter()
                augment(pictures, rows, steps, seed=0, epoch=epoch, threads=threads)
                times.append(time.perf_counter() - began)
            found[f"us_a_picture_by_{threads}"] = round(1e6 * statistics.median(times) / len(rows), 1)
    return {"way": "compiled loops" if compiled() else "OpenCV"} | found


def by_ways() -> dict[str, Figures]:
    """The best of several processes for each way."""
    best: dict[str, Figures] = {}
    for _ in range(ROUNDS):
        for told in ({}, {"NUMBA_DISABLE_JIT": "1"}):
            command, environment = [sys.executable, __file__, "--families"], os.environ | told
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            found = json.loads(done.stdout)
            way = best.setdefault(found.pop("way"), found)
            way.update({name: min(value, way[name]) for name, value in found.items()})
    for name, figures in best.items():
        _say(f"  {name}: {figures}")
    return best


def on_gpu(pictures: NDArray[np.uint8]) -> Figures:
    """Tensors at a batch of 512, and augmentation beside a training step of DenseNet121 at 256."""
    if not torch.cuda.is_available():
        _say("  no GPU")
        return {"device": "no GPU"}
    import timm

    tensors = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().cuda()
    seconds = _cuda_seconds(lambda epoch: augment(tensors, np.arange(len(tensors)), STEPS, seed=0, epoch=epoch))
    half = tensors[:256]
    augmenting = _cuda_seconds(lambda epoch: augment(half, np.arange(256), STEPS, seed=0, epoch=epoch))
    network = timm.create_model("densenet121", num_classes=8).cuda().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters())
    labels = torch.arange(256, device="cuda") % 8

    def step(epoch: int) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(network(half.float() / 255), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    training = _cuda_seconds(step)
    figures = {
        "device": torch.cuda.get_device_name(),
        "images_per_second_at_512": round(len(tensors) / seconds),
        "share_of_a_densenet121_step_at_256": round(augmenting / (augmenting + training), 4),
    }
    _say(f"  {figures}")
    return figures


def _cuda_seconds(work: Callable[[int], object], repeats: int = 20) -> float:
    for epoch in range(3):
        work(epoch)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for epoch in range(repeats):
        work(epoch)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def main() -> int:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--families"]:
        print(json.dumps(families_of_small()))
        return 0
    pictures = np.ascontiguousarray(draw_cells(CELLS, seed=0).images[:])
    peers = os.environ.get("HEMASCOPE_BENCH_PEERS")
    _say("on the CPU: RandAugment (2 of 14 operations, level 9), then AugMix (3 chains, severity 3)")
    if not peers:
        _say("  HEMASCOPE_BENCH_PEERS names no environment with kornia: it is left out")
    with tempfile.TemporaryDirectory() as folder:
        cpu = [on_cpu(pictures, size, peers, Path(folder)) for size in BATCHES]
    _say("on the CPU: the families of the recipe 'small'")
    families = by_ways()
    _say("on the GPU: RandAugment and AugMix by tensors")
    print(json.dumps({"cpu": cpu, "families_of_small": families, "gpu": on_gpu(pictures)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
