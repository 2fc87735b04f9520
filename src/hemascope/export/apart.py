"""Ask an unpacked submission in a process of its own, where hemascope and torch cannot be imported.

python -I apart.py FOLDER PICTURES.npy ANSWERS.npz: FOLDER holds model.py; PICTURES is uint8 (n, 96, 96, 3). The
answers are what predict gives for the pictures as uint8, as floats with fractions, as a list, one alone and none at
all; beside them stand the probabilities, the seconds, the MiB that the process took at most, and the versions.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

ABSENT = ("hemascope", "torch", "timm", "onnx")


def main(folder: Path, pictures_path: Path, answers_path: Path) -> None:
    """Load FOLDER/model.py as who judges submissions might, ask it, and write what it answers."""
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment]
    # Where the weights lie must not depend on where the process stands.
    os.chdir(answers_path.parent)

    import numpy as np

    pictures = np.load(pictures_path, allow_pickle=False)
    start = time.perf_counter()
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Model()
    loaded = time.perf_counter()
    labels = model.predict(pictures)
    asked = time.perf_counter()
    # Less than half a grey level, which rounding takes away again.
    fractions = pictures.astype(np.float32)
    fractions += np.where(fractions < 255, 0.3, -0.3)
    answers = {
        "uint8": labels,
        "float": model.predict(fractions),
        "list": model.predict(pictures[:3].tolist()),
        "one": model.predict(pictures[:1]),
        "none": model.predict(pictures[:0]),
        "probabilities": model.probabilities(pictures),
    }
    # A first answer may compile; another tells what an answer costs.
    again = time.perf_counter()
    model.predict(pictures)
    took = time.perf_counter() - again
    runtimes = ("numpy", "onnxruntime", "tensorflow", "keras")
    facts = {
        "python": sys.version.split()[0],
        "versions": {name: sys.modules[name].__version__ for name in runtimes if name in sys.modules},
        "seconds_to_load": round(loaded - start, 2),
        "seconds_for_the_first_answers": round(asked - loaded, 2),
        "milliseconds_a_picture": round(took / len(pictures) * 1000, 3),
        "most_memory_mib": most_memory_mib(),
    }
    np.savez(answers_path, facts=np.array(json.dumps(facts)), **answers)


def most_memory_mib() -> int:
    """The most memory that this process had; in ru_maxrss Linux lets a new one inherit what its maker had."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 2**10)
    import resource

    # macOS counts in bytes, others in KiB.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


if __name__ == "__main__":
    main(*(Path(path).resolve() for path in sys.argv[1:4]))
