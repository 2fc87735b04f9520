"""A trained model on ONNX Runtime: pictures in, probabilities out, without torch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemascope.colour import Colours
from hemascope.data import Cells, Images
from hemascope.errors import InputError
from hemascope.features import feature_set
from hemascope.field import FieldOfView
from hemascope.machine import cores
from hemascope.models import folder_of, model_file, model_folder, shipped_models
from hemascope.preparation.views import poses
from hemascope.progress import Progress

if TYPE_CHECKING:
    from hemascope.trust.fitted import Trust

BATCH = 64
READ = 256
HEATMAP = "heatmap"
"""The output that is empty unless it is asked for."""
WANTED = "heatmap_wanted"
"""The input that asks for it: bool, no axes, false where nothing is given."""
PURPOSE = "Research only, not a medical device."
ONE_ANSWER = "one answer for all"
"""Where the weights of the baseline come from, as its file says it: it has none, and names all pictures alike."""


class Answers(NamedTuple):
    """What a model says of n pictures.

    probabilities: float32 (n, classes), calibrated. outlier_score: float32 (n,), the higher the stranger. embedding:
    float32 (n, d). heatmap: float32 (n, h, w), in [0, 1], where in the picture the answer comes from; None unless it
    was asked for. excluded: float32 (n,), the part of the probability that stood on classes which the differential
    count has none of; None without one (`Model.expecting`).
    """

    probabilities: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    embedding: NDArray[np.float32]
    heatmap: NDArray[np.float32] | None = None
    excluded: NDArray[np.float32] | None = None


class Model:
    """An exported classifier.

    class_names: the classes, in the order of the probabilities. image_size: the side of the pictures that trained it;
    pictures of any other size are brought to it within the file. colours: how those pictures are coloured, where the
    file says it. field: how wide they are on the slide, where the file says it. metadata: all that it says of itself.
    explains: whether the file gives heat maps. shares: float64 (classes,), the differential count for which it answers;
    None for that of its training pictures. views: over how many poses of a picture an answer is averaged. threads: how
    many compute one batch; 0 for one a core.
    """

    views: int = 1

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Several batches may be asked for at a time."""
        self._session = _session(path, threads)
        self.path, self.threads = path, threads
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if "class_names" not in self.metadata:
            raise InputError(
                f"{path}: names no classes, so hemascope did not export it; give a run folder or its model.onnx."
            )
        self.class_names: tuple[str, ...] = tuple(json.loads(self.metadata["class_names"]))
        self.image_size = int(self.metadata["picture_size"])
        self.colours = Colours.from_json(json.loads(self.metadata["colours"])) if "colours" in self.metadata else None
        told = self.metadata.get("field_of_view")
        self.field = None if told is None else FieldOfView.from_json(json.loads(told))
        self.explains = any(value.name == WANTED for value in self._session.get_overridable_initializers())
        self.shares: NDArray[np.float64] | None = None
        self._describe = _features_of(self.metadata)

    @property
    def one_answer(self) -> bool:
        """Whether it is the baseline, which gives one answer for all pictures by intention."""
        return self.metadata.get("weights") == ONE_ANSWER

    @cached_property
    def trust(self) -> Trust | None:
        """When its answers should be believed; None where the file does not say."""
        from hemascope.trust.fitted import Trust

        return Trust.from_json(json.loads(self.metadata["trust"])) if "trust" in self.metadata else None

    def with_views(self, views: int) -> Model:
        """The same model with answers that are the mean over 1, 2, 4 or 8 poses; heat maps are of the first."""
        other = copy(self)
        other.views = views
        return other

    def expecting(self, prior: Mapping[str, float]) -> Model:
        """The same model where the classes are as frequent as `prior` says: shares or counts by class.

        Its probabilities are restated by Bayes' rule, and with them whatever is judged by them; outlier scores,
        embeddings and heat maps stay. A class that is not named is never answered. Raises InputError for a class that
        the model does not know, and when its file does not say for which shares its probabilities hold.
        """
        from hemascope.trust.prior import prior_shares, trained_shares

        shares = prior_shares(self.class_names, prior)
        if self.trust is None:
            raise InputError(
                f"{self.path}: does not say for which shares of the classes its probabilities hold; leave --prior out, "
                "or export its run again."
            )
        trained_shares(self.trust.calibration, self.class_names, shares)
        other = copy(self)
        other.shares = shares
        return other

    def predict(self, images: Images) -> NDArray[np.float32]:
        """The probabilities of uint8 (n, height, width, 3), of any size: float32 (n, classes)."""
        return self.answers(images).probabilities

    def answers(self, images: Images, heatmap: bool = False) -> Answers:
        """What the model says of uint8 (n, height, width, 3), of any size; heatmap: whether to give it, too.

        Raises InputError when a heat map is asked of a file that gives none.
        """
        if heatmap and not self.explains:
            raise InputError(
                f"{self.path}: gives no heat maps; the runs of networks do, but for those that were fitted again or "
                "cut to 8 bits."
            )
        told = [self._answers(pose, heatmap and not number) for number, pose in enumerate(poses(images, self.views))]
        if len(told) == 1:
            return told[0]
        mean, strange, seen = (np.mean(column, axis=0) for column in zip(*(one[:3] for one in told), strict=True))
        excluded = [one.excluded for one in told if one.excluded is not None]
        return Answers(mean, strange, seen, told[0].heatmap, np.mean(excluded, axis=0) if excluded else None)

    def _answers(self, images: Images, heatmap: bool) -> Answers:
        inputs = images if self._describe is None else self._describe(images)
        # Without pictures, one that is black tells the shapes.
        rows, inputs = len(inputs), inputs if len(inputs) else np.zeros((1, *inputs.shape[1:]), inputs.dtype)
        answers = self.run(inputs, heatmap)
        told, strange, seen = (column[:rows] for column in answers[:3])
        heat = None if answers.heatmap is None else answers.heatmap[:rows]
        excluded = None
        if self.shares is not None and self.trust is not None:
            from hemascope.trust.prior import restate

            told, excluded = restate(self.trust.calibration, told, self.shares)
        return Answers(told, strange, seen, heat, excluded)

    def run(self, inputs: NDArray[Any], heatmap: bool = False) -> Answers:
        """What the file itself says of what it takes: pictures, or the features of a classical model; one or more."""
        names, given = ["probabilities", "outlier_score", "embedding"], {}
        if heatmap:
            names, given = [*names, HEATMAP], {WANTED: np.array(True)}
        entry, parts = self._session.get_inputs()[0].name, []
        for start in range(0, len(inputs), BATCH):
            part = np.ascontiguousarray(inputs[start : start + BATCH])
            parts.append(self._session.run(names, {entry: part, **given}))
        return Answers(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _session(path: Path, threads: int = 0) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or cores()
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime has no one type for "this is no model".
        raise InputError(
            f"{path}: is not an ONNX model that can be read; give a run folder or its model.onnx."
        ) from error


def _features_of(metadata: Mapping[str, str]) -> Callable[[Images], NDArray[np.float32]] | None:
    """What makes the inputs of a classical model out of pictures; None for a network, which takes them as they are."""
    return feature_set(metadata["features"]) if "features" in metadata else None


def load_model(path: str | Path | Model, threads: int = 0) -> Model:
    """The model of a run folder, of an ONNX file, or that comes with the package under a name.

    threads: how many compute one batch, 0 for one a core; a model that is loaded already stays as it is.
    Raises InputError when there is none.
    """
    if isinstance(path, Model):
        return path
    file, path = model_file(path), model_folder(path)
    if not file.is_file():
        found = "the run has no finished model" if path.is_dir() else "there is no such file"
        near = difflib.get_close_matches(str(path).casefold(), shipped_models(), n=1)
        if near:
            raise InputError(f"{path}: {found}; did you mean {near[0]}? It comes with hemascope.")
        shipped = " or ".join(shipped_models())
        raise InputError(
            f"{path}: {found}; give the folder of a finished run, a model.onnx, or {shipped}, which comes with it."
        )
    return Model(file, threads)


def answers_of(model: Model, cells: Cells, doing: str = "predicting") -> Answers:
    """What a model says of cells, in their order, without heat maps; doing: what the line of progress calls it."""
    parts = [model.answers(np.asarray(cells.images[:0]))]
    with Progress(doing, len(cells), "images") as progress:
        for _, images in cells.batches(READ):
            parts.append(model.answers(images))
            progress.advance(len(images))
    columns = list(zip(*parts, strict=True))
    told, strange, seen = (np.concatenate(column) for column in columns[:3])
    return Answers(told, strange, seen, excluded=None if model.shares is None else np.concatenate(columns[4]))


def training_hashes(path: str | Path | Model) -> frozenset[int] | None:
    """The pixel hashes of the pictures that made a run's model, or None when the model's folder does not say.

    Those are the rows that trained it, that stopped and selected it, and that its confidence is fitted on.
    """
    table = folder_of(path.path if isinstance(path, Model) else model_file(path)) / "split.csv"
    if not table.is_file():
        return None
    import pandas as pd

    rows: Any = pd.read_csv(table, dtype={"pixel_hash": np.uint64}, keep_default_na=False)
    return frozenset(rows.loc[rows["split"].isin(("train", "validation", "calibration")), "pixel_hash"].tolist())
