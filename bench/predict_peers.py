"""Ways from a folder of JPEG files to a table of probabilities: ours, and those that people write or install.

    python bench/predict_peers.py WAY FOLDER COUNT OUT MODEL

lets one way name the first COUNT pictures of a folder on two threads and prints a line of JSON: pictures and seconds,
from the list of files to the written table. What a way imports and builds first is not counted; what ours loads is.
Nothing here imports hemascope but what needs it, as the others may have an environment of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
BATCH = 64
SIDE = 96
DENSENET_WIDTH = 1024


def files_of(folder: Path, count: int) -> list[Path]:
    """The first files of a folder, sorted."""
    return sorted(folder.iterdir())[:count]


def write(files: list[Path], probabilities: Any, out: Path) -> None:
    """A table as one writes it: pandas to CSV."""
    import pandas as pd

    table = pd.DataFrame(probabilities)
    table.insert(0, "id", [str(file) for file in files])
    table["label"] = np.asarray(probabilities).argmax(1)
    table.to_csv(out, index=False, float_format="%.6f")


def hemascope(files: list[Path], out: Path, model: str) -> Callable[[], None]:
    """Ours, as the command `predict` does it."""
    from hemascope.bulk.job import predict_to_table

    def work() -> None:
        predict_to_table(files, out, model=model, workers=THREADS)

    return work


def torch_eager(files: list[Path], out: Path, model: str) -> Callable[[], None]:
    """The same network in torch, with a DataLoader of two workers that decode by Pillow."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from hemascope.ensemble import load_network
    from hemascope.models import model_folder
    from hemascope.run import Run

    torch.set_num_threads(THREADS)
    network = load_network(Run(model_folder(model)))[0].eval()

    class Pictures(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, row: int) -> torch.Tensor:
            with Image.open(files[row]) as picture:
                return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    def work() -> None:
        loader = DataLoader(Pictures(), BATCH, num_workers=2)
        with torch.inference_mode():
            parts = [network(batch).softmax(1).numpy() for batch in loader]
        write(files, np.concatenate(parts), out)

    return work


def onnxruntime_loop(files: list[Path], out: Path, model: str) -> Callable[[], None]:
    """ONNX Runtime as its pages show it: decode a batch by Pillow, run the session, on two threads."""
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(model_file(model), options, providers=["CPUExecutionProvider"])

    def work() -> None:
        parts = []
        for start in range(0, len(files), BATCH):
            batch = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files[start : start + BATCH]])
            parts.append(session.run(["probabilities"], {"images": batch})[0])
        write(files, np.concatenate(parts), out)

    return work


def keras(files: list[Path], out: Path, model: str) -> Callable[[], None]:
    """Keras: DenseNet121 with random weights, `predict` over a tf.data pipeline that decodes in parallel."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    network = tf.keras.applications.DenseNet121(weights=None, classes=8, input_shape=(SIDE, SIDE, 3))

    def read(name: Any) -> Any:
        picture = tf.io.decode_jpeg(tf.io.read_file(name), channels=3)
        return tf.keras.applications.densenet.preprocess_input(tf.cast(picture, tf.float32))

    def pictures(some: list[Path]) -> Any:
        names = tf.data.Dataset.from_tensor_slices([str(file) for file in some])
        return names.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)

    # The first call compiles, which belongs to what a way builds.
    network.predict(pictures(files[:BATCH]), verbose=0)

    def work() -> None:
        write(files, network.predict(pictures(files), verbose=0), out)

    return work


def ultralytics(files: list[Path], out: Path, model: str) -> Callable[[], None]:
    """Ultralytics: its smallest classifier with random weights, `predict` over the files, as a stream."""
    import torch

    torch.set_num_threads(THREADS)
    network = yolo()

    def work() -> None:
        listed = out.with_suffix(".txt")
        listed.write_text("\n".join(map(str, files)))
        found = network.predict(str(listed), imgsz=SIDE, batch=BATCH, stream=True, verbose=False, device="cpu")
        write(files, np.stack([one.probs.data.numpy() for one in found]), out)

    return work


def yolo() -> Any:
    """Ultralytics' smallest classifier for eight classes, random weights."""
    from ultralytics import YOLO
    from ultralytics.nn.tasks import ClassificationModel

    network = YOLO("yolo11n-cls.yaml")
    network.model = ClassificationModel("yolo11n-cls.yaml", ch=3, nc=8, verbose=False)
    return network


def export_yolo(path: Path) -> None:
    """The same classifier as a model file of ours."""
    import onnx
    import torch

    from hemascope.export import to_onnx
    from hemascope.model import fitted

    width = yolo().model.model[-1].linear.in_features

    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.picture_size = SIDE
            *body, self.head = yolo().model.model
            self.body = torch.nn.Sequential(*body)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.head.conv(self.body(fitted(images, SIDE) / 255))
            embedding = self.head.pool(found).flatten(1)
            return self.head.linear(embedding), embedding

    onnx.save(whole(to_onnx(Body().eval()), width), path)  # type: ignore[arg-type]


def export_densenet(path: Path) -> None:
    """Torchvision's kind of DenseNet121, as Keras has it, as a model file of ours; random weights."""
    import onnx

    from hemascope.export import to_onnx
    from hemascope.model import Body, build_model
    from hemascope.recipe import load_recipe

    changes = {"image_size": SIDE, "pretrained": "none"}
    recipe = load_recipe("densenet121").model_copy(update=changes)
    network, _ = build_model(recipe, [str(label) for label in range(8)])
    onnx.save(whole(to_onnx(Body(network, SIDE).eval()), DENSENET_WIDTH), path)


def whole(body: Any, width: Any) -> Any:
    """A body of 8 classes and so wide an embedding with a tail that costs what ours costs; nothing was fitted."""
    from hemascope.tail import with_tail
    from hemascope.trust import Calibration
    from hemascope.trust.outliers import OutlierScore

    rng = np.random.default_rng(0)
    outliers = OutlierScore.fit(rng.normal(size=(400, width)), rng.normal(size=(400, 8)), np.arange(400) % 8)
    return with_tail(body, Calibration(0.0, None, 1.0, (1 / 8,) * 8), outliers, stated())


def stated() -> dict[str, str]:
    """What a model file has to say of itself."""
    return {"class_names": json.dumps([str(label) for label in range(8)]), "picture_size": str(SIDE)}


def model_file(model: str) -> Path:
    """The ONNX file of a model that is told by its name or path."""
    from hemascope.runtime import load_model

    return load_model(model).path


WAYS: dict[str, Callable[[list[Path], Path, str], Callable[[], None]]] = {
    way.__name__: way for way in (hemascope, torch_eager, onnxruntime_loop, keras, ultralytics)
}


def main() -> None:
    way, folder, count, out, model = sys.argv[1:]
    if way.startswith("export_"):
        {"export_yolo": export_yolo, "export_densenet": export_densenet}[way](Path(out))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    files = files_of(Path(folder), int(count))
    work = WAYS[way](files, Path(out), model)
    began = time.perf_counter()
    work()
    print(json.dumps({"pictures": len(files), "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
