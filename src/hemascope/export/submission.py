"""A run -> the zip of a submission: model.py with its weights, proved in a process that knows nothing of hemascope."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from hemascope.data import Cells, Images
from hemascope.errors import InputError
from hemascope.export.check import SEED, difference
from hemascope.export.contract import BATCH, PICTURE
from hemascope.export.graph import add_metadata
from hemascope.export.on_request import without_heatmap
from hemascope.export.operators import plan_of
from hemascope.export.source import TOLERANCES, Precision, Source, beside, check_new, facts_of, open_source
from hemascope.export.specialise import specialise
from hemascope.files import replacing, write_json
from hemascope.synthetic import draw_cells

Runtime = Literal["onnx", "keras"]

MOST_MEMORY = 2048
"""MiB that the process of a submission may take, beside the pictures that it is given."""
DRAWN, REAL = 200, 512
"""How many drawn cells, and at most how many of the data, a submission is asked about."""
SECONDS = 900
IMPORTS, NUMPY = ("import ", "from "), "import numpy as np"


def export_submission(
    run: str | Path,
    out: str | Path,
    runtime: Runtime = "onnx",
    *,
    precision: Precision = "float32",
    python: str | Path | None = None,
    data: Cells | None = None,
) -> dict[str, Any]:
    """Write a run's model as a flat zip of model.py and its weights, and beside it OUT.json: what the proof found.

    run: a run folder, its model.onnx, or the name of a model that comes with the package. runtime: what carries the
    network: ONNX Runtime, or TensorFlow with Keras 3. precision: of the weights, for ONNX Runtime. python: the
    interpreter that the proof runs on, this one if not told; it needs NumPy and the runtime. data: cells that the
    submission is asked about besides drawn ones.

    Returns what OUT.json holds. Raises InputError, and leaves no zip, when the unpacked submission, in a process of its
    own, answers otherwise than the run's file.
    """
    out = Path(out)
    check_new(out, ".zip")
    source = open_source(run)
    _check_kind(source, runtime, precision)
    files = {"model.py": model_source(runtime, source.model.class_names).encode()}
    files |= _onnx_weights(source, precision) if runtime == "onnx" else _keras_weights(source)
    with replacing(out) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                # The same run gives the same zip, whenever it is made.
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
        facts = facts_of(source, out, precision) | {"runtime": runtime, "files": {n: len(c) for n, c in files.items()}}
        facts |= prove(
            temporary, source, runtime, TOLERANCES[precision], sys.executable if python is None else python, data
        )
        facts["bytes"] = {"run": source.model.path.stat().st_size, "exported": temporary.stat().st_size}
        write_json(beside(out), facts)
    return facts


def model_source(runtime: Runtime, class_names: tuple[str, ...]) -> str:
    """The text of model.py: the contract, and within it the network of one runtime."""
    contract, network = (_source(name) for name in ("contract.py", f"{runtime}_network.py"))
    head, future, body = contract.partition("from __future__ import annotations\n")
    lines = [*body.splitlines(), *network.partition(future)[2].splitlines()]
    imports = {line for line in lines if line.startswith(IMPORTS) and "hemascope" not in line}
    classes = "\n".join(f"    {place}  {name}" for place, name in enumerate(class_names))
    head = head.replace("<classes>", classes).replace("<batch>", str(BATCH)).replace("<memory>", str(MOST_MEMORY))
    # Those of the standard library, then NumPy, which is the only other one.
    ordered = sorted(imports - {NUMPY}, key=lambda line: (line.startswith("from "), line))
    parts = [_without_imports(network.partition(future)[2]), _without_imports(body)]
    return "\n".join([head + future.rstrip(), "", *ordered, "", NUMPY, "", "", *"\n\n\n".join(parts).splitlines(), ""])


def _source(name: str) -> str:
    return resources.files("hemascope.export").joinpath(name).read_text(encoding="utf-8")


def _without_imports(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(IMPORTS)).strip()


def _check_kind(source: Source, runtime: Runtime, precision: Precision) -> None:
    if "features" in source.model.metadata:
        raise InputError(
            f"{source.model.path}: is a classical model, whose features are measured by hemascope, and a submission "
            "must do without it; give the run of a network."
        )
    if precision == "int8" or (runtime == "keras" and precision != "float32"):
        raise InputError(
            f"a submission for {runtime} has no precision {precision}; leave --precision out"
            + (", or give float16." if runtime == "onnx" else ".")
        )


def _onnx_weights(source: Source, precision: Precision) -> dict[str, bytes]:
    proto: onnx.ModelProto = without_heatmap(source.in_precision(precision))
    add_metadata(proto, source.told(precision))
    return {"model.onnx": proto.SerializeToString()}


def _keras_weights(source: Source) -> dict[str, bytes]:
    plan = plan_of(specialise(without_heatmap(source.in_precision("float32")), PICTURE[0]))
    told = {
        "class_names": list(source.model.class_names),
        **source.told("float32"),
        "side": PICTURE[0],
        "steps": plan.steps,
    }
    with tempfile.TemporaryFile() as file:
        np.savez_compressed(file, allow_pickle=False, **plan.arrays)
        file.seek(0)
        return {"network.json": json.dumps(told).encode(), "network.npz": file.read()}


def prove(
    archive: Path, source: Source, runtime: Runtime, allowed: float, python: str | Path, data: Cells | None = None
) -> dict[str, Any]:
    """Unpack a submission in an empty folder and ask it in a process of its own; returns what that found.

    Raises InputError when it cannot be asked, answers otherwise than the run's file or takes too much memory.
    """
    pictures = _pictures(data)
    with tempfile.TemporaryDirectory() as folder:
        unpacked, asked = Path(folder) / "unpacked", Path(folder) / "asked"
        asked.mkdir()
        with zipfile.ZipFile(archive) as content:
            content.extractall(unpacked)
        np.save(asked / "pictures.npy", pictures, allow_pickle=False)
        _ask(python, unpacked, asked, runtime)
        with np.load(asked / "answers.npz", allow_pickle=False) as found:
            answers = dict(found)
    expected = source.model.predict(pictures)
    labels = expected.argmax(1)
    told: dict[str, Any] = json.loads(str(answers["facts"]))
    gap = difference(answers["probabilities"], expected)
    wanted = {"uint8": labels, "float": labels, "list": labels[:3], "one": labels[:1], "none": labels[:0]}
    wrong = [name for name, right in wanted.items() if not _same(answers[name], right)]
    if wrong or not gap.probability <= allowed:
        raise InputError(
            f"the unpacked submission differs from the run's model.onnx by {gap.probability:.2g} in a probability, "
            f"expected at most {allowed:g}, and names cells otherwise when given {', '.join(wrong) or 'nothing'}; no "
            "zip was kept: report this with the run's config.yaml."
        )
    if told["most_memory_mib"] > MOST_MEMORY:
        raise InputError(
            f"the unpacked submission took {told['most_memory_mib']:,} MiB, expected at most {MOST_MEMORY:,}; no zip "
            "was kept: use a smaller network."
        )
    return {"pictures": len(pictures), "differences": {"model.onnx": gap.as_json()}, "apart": told}


def _pictures(data: Cells | None) -> Images:
    drawn = np.asarray(draw_cells(DRAWN, seed=SEED, size=PICTURE[0]).images)
    if data is None:
        return drawn
    if data.images.shape[1:] != PICTURE:
        raise InputError(f"{data.source}: holds pictures of {data.images.shape[1:]}, expected {PICTURE}.")
    rows = np.random.default_rng(SEED).permutation(len(data))[:REAL]
    return np.concatenate([drawn, np.asarray(data.images[np.sort(rows)])])


def _same(found: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    return found.dtype == np.int64 and np.array_equal(found, right)


def _ask(python: str | Path, unpacked: Path, asked: Path, runtime: Runtime) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "LANG", "TMPDIR") if name in os.environ}
    with resources.as_file(resources.files("hemascope.export").joinpath("apart.py")) as script:
        command = [
            str(python),
            "-I",
            str(script),
            str(unpacked),
            str(asked / "pictures.npy"),
            str(asked / "answers.npz"),
        ]
        try:
            found = subprocess.run(  # noqa: S603
                command, cwd=asked, env={**kept, "HOME": str(asked)}, capture_output=True, text=True, timeout=SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(
                f"{python}: the submission could not be proved with it ({error}); name a Python with --python."
            ) from error
    if found.returncode:
        last = found.stderr.strip().splitlines()[-1:] or [f"exit status {found.returncode}"]
        needs = "onnxruntime and NumPy" if runtime == "onnx" else "TensorFlow 2.17 with Keras 3 and NumPy"
        raise InputError(
            f"{python}: the unpacked submission could not be asked with it ({last[0]}); no zip was kept: name with "
            f"--python that of an environment with {needs}."
        )
