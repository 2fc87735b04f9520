"""What an answer costs: the time that exported models take for a picture, side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping

from hemascope.data import Images
from hemascope.runtime import Model

ROUNDS = 4


def milliseconds_a_picture(models: Mapping[str, Model], images: Images) -> dict[str, float]:
    """The time of each model on ONNX Runtime for a picture, in milliseconds.

    images: uint8 (n, h, w, 3), given at once. The models take turns, and the fastest of their rounds counts, so that
    what else the machine does burdens all alike, and as little as can be.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    # One round more than is counted: a first call allocates what later ones use again.
    for _ in range(ROUNDS + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.predict(images)
            times[name].append(time.perf_counter() - start)
    return {name: 1000 * min(seconds[1:]) / len(images) for name, seconds in times.items()}
