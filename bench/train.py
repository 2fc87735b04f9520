"""What a training step costs beside the loop that everybody writes, and what a larger set of pictures costs.

    python bench/train.py [--short]

It needs no data: the pictures are drawn by a program and repeated up to the number of rows wanted. On the CPU two
threads compute and the networks are those of the recipes `small` and `robust` at 96 pixels, in float32 and, where the
CPU has instructions for it, in bfloat16; where torch sees a GPU, DenseNet121 follows there, in what "auto" chooses.
Three sections, each measurement in a process of its own:

rate: images/s of our step with the recipe's augmentation, EMA, clipping and class weights, beside the same timm model
in the same precision with a DataLoader of two workers and torchvision's transforms for each picture, at batch 35 and
256, in turns in one process; and the share of our time that the network's own forward, backward and optimiser do not
take, which the same network and optimiser tell on a batch that lies ready.
memory: the peak of a process (on a GPU, of torch's allocations) at batch 35 and 512.
epoch: the time of an epoch at 3,000, 12,000 and 48,000 rows. More than EPOCH_STEPS steps are not run: the time is then
that of those steps times what is left out, and the table says so.

--short takes few steps on pictures of 32 pixels, to see that all of it works. The last line printed is one line of JSON
with every figure.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

THREADS = "2"
DRAWN = 600
WORKERS = 2
EPOCH_STEPS = 60
ROWS = {"cpu": 3_000, "cuda": 12_000}
Figures = dict[str, Any]


def pictures(rows: int) -> tuple[Any, Any]:
    """uint8 (rows, side, side, 3) and int64 (rows,): drawn cells, repeated."""
    path = Path(os.environ["HEMASCOPE_BENCH_CELLS"])
    with np.load(path) as drawn:
        places = np.arange(rows) % len(drawn["labels"])
        return drawn["images"][places], drawn["labels"][places]


def our_steps(
    rows: int, batch: int, backbone: str, device: str, precision: str, compiled: bool
) -> Iterator[tuple[float, Any]]:
    """Endless steps of ours: gives the seconds so far and the parts that a bare step can use."""
    import torch

    from hemascope.average import WeightAverage
    from hemascope.batches import Batches, hold
    from hemascope.compiled import Compiled
    from hemascope.devices import build_fabric
    from hemascope.loss import balanced_weights
    from hemascope.model import build_model
    from hemascope.optimization import build_optimizer
    from hemascope.recipe import load_recipe
    from hemascope.step import Step

    images, labels = pictures(rows)
    changes = {"backbone": backbone, "batch_size": batch, "image_size": images.shape[1]}
    recipe = load_recipe("small").model_copy(update=changes)
    network, _ = build_model(recipe, [str(label) for label in range(8)])
    fabric = build_fabric(device, precision, network)
    network = network.to(fabric.device).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, recipe, 1e-4)
    average = WeightAverage(network, recipe.ema_decay)
    module = Compiled(network, print, graphs=True) if compiled else None
    weights = balanced_weights(labels, 8)
    step = Step(network, optimizer, average, recipe, weights, 0, fabric, batch, print, module)
    step.network.train()
    source = hold(images, fabric.device)
    number = 0
    for epoch in range(1_000_000):
        for made in Batches(source, labels, 8, recipe, 0, epoch, fabric.device):
            step(made, 1e-4, epoch, number)
            number += 1
            yield synchronized(fabric.device), (step, made)


def bare_steps(ours: Iterator[tuple[float, Any]]) -> Iterator[tuple[float, Any]]:
    """The forward, backward and optimiser of our network alone, on a batch that lies ready."""
    from torch.nn.functional import cross_entropy

    _, (step, made) = next(ours)
    targets = made.targets.to(step.fabric.device)
    while True:
        step.fabric.backward(cross_entropy(step.network(made.pictures).float(), targets))
        step.optimizer.step()
        step.optimizer.zero_grad(set_to_none=True)
        yield synchronized(step.fabric.device), None


def usual_steps(rows: int, batch: int, backbone: str, device: str, precision: str) -> Iterator[tuple[float, Any]]:
    """The loop that everybody writes, with what torchvision has of the recipe's families, as often as there."""
    import timm
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    change = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.RandomApply([transforms.RandomRotation((90, 90))]),
            transforms.RandomAffine(
                72, translate=(0.1, 0.1), scale=(0.83, 1.2), interpolation=transforms.InterpolationMode.BILINEAR
            ),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4)], 0.5),
            transforms.RandomApply([transforms.RandAugment()], 0.5),
            transforms.RandomApply([transforms.AugMix()], 0.5),
            transforms.RandomApply([transforms.GaussianBlur(7)], 0.4),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images, labels = pictures(rows)

    class Cells(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return rows

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return change(Image.fromarray(images[row])), int(labels[row])

    on = torch.device(device)
    network = timm.create_model(backbone, pretrained=False, num_classes=8).to(on).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.05)
    loss_of = torch.nn.CrossEntropyLoss()
    loader = DataLoader(
        Cells(), batch, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True,
        pin_memory=device == "cuda",
    )  # fmt: skip
    while True:
        for seen, shown in loader:
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" or precision == "bfloat16"):
                loss = loss_of(network(seen.to(on, non_blocking=True)), shown.to(on, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            yield time.perf_counter(), None


def synchronized(device: Any) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def rate(batch: int, backbone: str, device: str, precision: str, short: bool) -> Figures:
    """Images/s of ours, of the usual loop and of the bare network, in turns; medians of the turns.

    What one has of another is the median of what it has in each turn, as a machine's pace changes between turns. Ours
    and the bare network keep freed memory, as a training does; the usual loop has what Python and torch do by default.
    """
    from hemascope.machine import freed_memory_kept

    rows = max(ROWS[device] // (10 if short else 1), 2 * batch)
    # Many short turns: what else the machine has to do then falls on all of them alike.
    turns = 1 if short else 11
    steps = 2 if short else max(768 // batch, 3) * (8 if device == "cuda" else 1)
    ours = our_steps(rows, batch, backbone, device, precision, compiled=device == "cuda")
    loops = {"ours": ours, "bare": bare_steps(ours), "usual": usual_steps(rows, batch, backbone, device, precision)}
    for loop in loops.values():
        for _ in range(2 if short else 6):
            next(loop)
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(turns):
        for name, loop in loops.items():
            with nullcontext() if name == "usual" else freed_memory_kept():
                # The loader's workers fill their queue while the others compute; its first batches are not timed.
                for _ in range(2 * WORKERS if name == "usual" else 2):
                    next(loop)
                began = time.perf_counter()
                for _ in range(steps):
                    ended = next(loop)[0]
            found[name].append(batch * steps / (ended - began))
    figures: Figures = {name: round(statistics.median(values), 1) for name, values in found.items()}
    to_usual, to_bare = (
        statistics.median(one / other for one, other in zip(found["ours"], found[name], strict=True))
        for name in ("usual", "bare")
    )
    return figures | {"times_the_usual": round(to_usual, 2), "share_outside_the_network": round(1 - to_bare, 3)}


def memory(batch: int, backbone: str, device: str, precision: str, short: bool) -> Figures:
    """The peak after some steps, and what the process took before it trained."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loop = our_steps(max(3_000, batch), batch, backbone, device, precision, compiled=False)
    for _ in range(1 if short else 4):
        next(loop)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"peak_mib": round(peak / 1024), "at_the_start_mib": round(before / 1024)}
    if device == "cuda":
        import torch

        found["gpu_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return found


def epoch(rows: int, backbone: str, device: str, precision: str, short: bool) -> Figures:
    """The time of an epoch at the recipe's batch of 64, and the peak of the process."""
    batch = 64
    loop = our_steps(rows, batch, backbone, device, precision, compiled=False)
    whole = rows // batch
    steps = min(whole, 3 if short else EPOCH_STEPS)
    next(loop)
    began = time.perf_counter()
    for _ in range(steps):
        ended = next(loop)[0]
    return {
        "rows": rows,
        "seconds": round((ended - began) / steps * whole, 1),
        "steps_run": steps,
        "steps_of_an_epoch": whole,
        "extrapolated": steps < whole,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


CHILDREN: dict[str, Callable[..., Figures]] = {"rate": rate, "memory": memory, "epoch": epoch}


def measured(section: str, short: bool, **what: Any) -> Figures:
    """A measurement in a process of its own."""
    asked = json.dumps({"section": section, "short": short, **what})
    done = subprocess.run([sys.executable, __file__, "--child", asked], stdout=subprocess.PIPE, text=True, check=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    print(f"  {section} " + ", ".join(f"{name} {value}" for name, value in {**what, **found}.items()), flush=True)
    return {**what, **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few steps on small pictures, to see that it works")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        from hemascope.machine import freed_memory_kept

        what = json.loads(asked.child)
        section = what.pop("section")
        with nullcontext() if section == "rate" else freed_memory_kept():
            print(json.dumps(CHILDREN[section](**what)))
        return 0
    os.environ["OMP_NUM_THREADS"] = THREADS
    import torch

    from hemascope.devices import cpu_has_bfloat16
    from hemascope.recipe import load_recipe
    from hemascope.synthetic import draw_cells

    small, robust = (load_recipe(name).backbone for name in ("small", "robust"))
    precisions = ["float32"] + (["bfloat16"] if cpu_has_bfloat16() else [])
    cases = [(backbone, "cpu", precision) for precision in precisions for backbone in (small, robust)]
    cases.append(("densenet121", "cuda", "auto"))
    figures: Figures = {"torch": torch.__version__, "rate": [], "memory": [], "epoch": []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HEMASCOPE_BENCH_CELLS"] = str(Path(folder) / "cells.npz")
        drawn = draw_cells(64, size=32) if asked.short else draw_cells(DRAWN)
        np.savez(os.environ["HEMASCOPE_BENCH_CELLS"], images=drawn.images[:], labels=drawn.labels)
        for backbone, device, precision in cases:
            if device == "cuda" and not torch.cuda.is_available():
                print(f"{backbone} on cuda: torch sees no GPU here, nothing is measured", flush=True)
                figures["cuda"] = "torch sees no GPU here"
                continue
            print(f"{backbone} on {device}, {precision}: rate at batch 35 and 256", flush=True)
            on = {"short": asked.short, "backbone": backbone, "device": device, "precision": precision}
            figures["rate"] += [measured("rate", batch=batch, **on) for batch in (35, 256)]
            if backbone == robust or precision == "bfloat16":
                continue
            print("  memory at batch 35 and 512, and the time of an epoch", flush=True)
            figures["memory"] += [measured("memory", batch=batch, **on) for batch in (35, 512)]
            figures["epoch"] += [measured("epoch", rows=rows, **on) for rows in (3_000, 12_000, 48_000)]
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
