"""An exported file against the run that it came from, both asked about the same picture files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from hemascope.data import Images, load
from hemascope.export.graph import tail_of
from hemascope.runtime import Model
from hemascope.synthetic import draw_cells

Probabilities = NDArray[np.float32]
Answering = Callable[[Images], Probabilities]

BATCHES = (1, 7, 64)
COUNT = 64
LARGE = (363, 360)
"""Height and width in pixels of the pictures of a common analyser, which are not square."""
SEED = 4919
JPEG_QUALITY = 95
TIE = 1e-3
"""By how much the expected answer must be ahead of another for the other to be a different answer."""


@dataclass(frozen=True)
class Difference:
    """How far two models are from each other on the same pictures.

    probability: the largest difference in one. labels: how many of the answers name another class, but for ties.
    """

    probability: float
    labels: int
    answers: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def difference(found: Probabilities, expected: Probabilities) -> Difference:
    """Of two tables of probabilities, float (n, classes)."""
    rows, named = np.arange(len(found)), found.argmax(1)
    # Which of two classes comes first that are as likely to the last digits is no answer of a model.
    lead = expected.max(1, initial=0.0) - expected[rows, named]
    return Difference(
        float(np.abs(found - expected).max(initial=0.0)),
        int((lead > TIE).sum()),
        len(found),
    )


@dataclass(frozen=True)
class Files:
    """Pictures as they lie on a disk, and as the run gets them.

    as_stored: size in words -> uint8 (n, height, width, 3), decoded and no more. as_loaded: the same through `load`, at
    the size that trained the run, uint8 (n, size, size, 3).
    """

    as_stored: dict[str, Images]
    as_loaded: dict[str, Images]


def picture_files(size: int) -> Files:
    """Drawn cells, written as JPEG at a model's own size and at that of an analyser, and read again in both ways."""
    stored, loaded = {}, {}
    drawn = [Image.fromarray(picture) for picture in np.asarray(draw_cells(COUNT, seed=SEED, size=size).images)]
    for height, width in ((size, size), LARGE):
        with tempfile.TemporaryDirectory() as folder:
            # A folder of classes is what `load` reads; here only the pictures matter.
            for place, name in enumerate(("basophil", "monocyte")):
                (Path(folder) / name).mkdir()
                for row in range(place, COUNT, 2):
                    path = Path(folder) / name / f"{row:03}.jpg"
                    drawn[row].resize((width, height), Image.Resampling.BICUBIC).save(path, quality=JPEG_QUALITY)
            cells = load(folder, size=size)
            words = f"{width} x {height}"
            stored[words] = np.stack([np.asarray(Image.open(Path(folder) / name)) for name in cells.ids.tolist()])
            loaded[words] = np.asarray(cells.images)
    return Files(stored, loaded)


def compare_files(exported: Model, expected: Answering, files: Files) -> dict[str, Difference]:
    """How far an exported file, which gets the pictures as they are stored, is from what gets them as loaded.

    Returns the difference for each size of pictures, the largest over batches of 1, 7 and 64.
    """
    found = {}
    for words, pictures in files.as_stored.items():
        wanted = expected(files.as_loaded[words])
        parts = [difference(_in_batches(exported, pictures, batch), wanted) for batch in BATCHES]
        found[words] = Difference(
            max(part.probability for part in parts),
            sum(part.labels for part in parts),
            sum(part.answers for part in parts),
        )
    return found


def trained_network(folder: Path, model: onnx.ModelProto, size: int) -> Answering | None:
    """What the torch weights of a run say, behind them the tail of its file; None where there are none, or no torch."""
    if not (folder / "model" / "weights.safetensors").is_file():
        return None
    try:
        import torch

        from hemascope.ensemble import load_network
        from hemascope.model import Body
    except ImportError:
        return None
    import onnxruntime

    from hemascope.run import Run

    body = Body(load_network(Run(folder))[0], size).eval()
    tail = onnxruntime.InferenceSession(tail_of(model).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in tail.get_inputs()]

    def answer(images: Images) -> Probabilities:
        with torch.inference_mode():
            logits, embedding = body(torch.from_numpy(np.ascontiguousarray(images)))[:2]
        given = {"logits": logits.numpy(), "embedding": embedding.numpy()}
        return np.asarray(tail.run(["probabilities"], {name: given[name] for name in names})[0])

    return answer


def milliseconds(model: Model, pictures: Images) -> dict[str, float]:
    """How long a model takes for each picture, asked one by one and 64 at a time; the best of some repetitions."""
    found = {}
    for batch, repeats in ((1, 30), (64, 5)):
        images = pictures[np.arange(batch) % len(pictures)]
        model.predict(images)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            model.predict(images)
            times.append(time.perf_counter() - start)
        found[f"batch of {batch}"] = round(min(times) / batch * 1000, 3)
    return found


def _in_batches(model: Model, pictures: Images, batch: int) -> Probabilities:
    return np.concatenate([model.predict(pictures[at : at + batch]) for at in range(0, len(pictures), batch)])
