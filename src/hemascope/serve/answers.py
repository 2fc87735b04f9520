"""What the service says of each picture, as it stands in JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from hemascope.runtime import Answers


class PictureAnswer(BaseModel):
    """One picture. Where it could not be read, `error` says why and everything but the name is null."""

    name: str = Field(description="The name that the sender gave it.")
    label: str | None = Field(description="The class with the highest probability.")
    confidence: float | None = Field(description="That probability.")
    probabilities: dict[str, float] | None = Field(description="Of each class; they sum to 1.")
    outlier_score: float | None = Field(description="The higher, the stranger. Null too where it is no finite number.")
    trust: bool | None = Field(description="Whether the answer should be believed.")
    why: list[str] | None = Field(description="Why not, each as 'KIND: a sentence'.")
    heatmap: str | None = Field(
        description="Where in the picture's central square the answer comes from: a grey PNG as a data address. Null "
        "unless it was asked for."
    )
    error: str | None = Field(description="Why the picture could not be read.")


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    sha256: str = Field(description="Of the model's file.")


class Predictions(BaseModel):
    """The pictures of one request, in its order."""

    model: ModelName
    purpose: str
    pictures: list[PictureAnswer]


class ModelAbout(BaseModel):
    """The model that answers, and what a request may hold."""

    name: str
    sha256: str
    purpose: str
    classes: list[str]
    picture_size: int = Field(description="The side in pixels that pictures are brought to.")
    crop: int | None = Field(description="The side in pixels of the central square that is used; null for the largest.")
    heatmap: bool = Field(description="Whether it gives heat maps.")
    thresholds: dict[str, Any] = Field(description="When its answers should be believed.")
    metadata: dict[str, str] = Field(description="What its file says of itself.")
    limits: dict[str, int] = Field(description="Files, bytes and pixels of a request.")
    version: str = Field(description="Of hemascope.")


class Problem(BaseModel):
    """Why a request was not answered, in one sentence; where its pictures were looked at, why each could not be."""

    error: str
    pictures: list[PictureAnswer] | None = None


_EMPTY: dict[str, Any] = dict.fromkeys(PictureAnswer.model_fields)


def unread(name: str, error: str) -> dict[str, Any]:
    """What is said of a picture that could not be read."""
    return {**_EMPTY, "name": name, "error": error}


def answered(
    names: Sequence[str], classes: Sequence[str], answers: Answers, why_not: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """What is said of pictures that a model answered. names: (n,). why_not: for each, why not to trust it."""
    told = []
    probabilities = answers.probabilities.tolist()
    for row, (name, reasons) in enumerate(zip(names, why_not, strict=True)):
        of_class = {known: round(value, 6) for known, value in zip(classes, probabilities[row], strict=True)}
        label = classes[int(answers.probabilities[row].argmax())]
        score = float(answers.outlier_score[row])
        told.append(
            {
                "name": name,
                "label": label,
                "confidence": of_class[label],
                "probabilities": of_class,
                "outlier_score": round(score, 6) if math.isfinite(score) else None,
                "trust": not reasons,
                "why": list(reasons),
                "heatmap": None if answers.heatmap is None else _as_png(answers.heatmap[row]),
                "error": None,
            }
        )
    return told


def _as_png(heatmap: NDArray[np.float32]) -> str:
    import cv2

    grey = np.round(np.clip(np.nan_to_num(heatmap), 0, 1) * 255).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", grey)[1].tobytes()).decode("ascii")
