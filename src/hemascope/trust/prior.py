"""The differential count where a model is used: how it is given, and what it makes of probabilities and precision."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemascope.data import class_of
from hemascope.errors import InputError
from hemascope.trust.calibration import Calibration, precision_at, restated

MOST_BYTES = 2**20
"""A file that is larger is no differential count."""
_EXAMPLE = "neutrophil=60,lymphocyte=30"


def read_prior(text: str, class_names: Collection[str] = ()) -> dict[str, float]:
    """The shares or counts by class of CLASS=SHARE,CLASS=SHARE, or of a file with a class and a number in each line.

    In a file a comma, semicolon, tab or = stands between them, and the first line may be a header. class_names: those
    of the model; other usual names of the eight cells are understood too, and counts of the same cell add up (bands and
    segmented neutrophils). Raises InputError for what is neither.
    """
    path = Path(text)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if is_file:
        return _of_file(path, class_names)
    if "=" not in text:
        raise InputError(f"--prior is '{text}': there is no such file; give one, or CLASS=SHARE such as {_EXAMPLE}.")
    shares: dict[str, float] = {}
    for entry in text.split(","):
        name, sign, number = entry.partition("=")
        share = _number(number)
        if not (name.strip() and sign) or share is None:
            raise InputError(f"--prior has '{entry}', expected CLASS=SHARE such as {_EXAMPLE}.")
        _add(shares, name, share, class_names)
    return shares


def _of_file(path: Path, class_names: Collection[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: is too large for a differential count; give a class and a number in each line.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as text ({error}); give a class and a number in each line."
        ) from error
    filled = [(at, line) for at, line in enumerate(lines, 1) if line.strip()]
    for order, (at, line) in enumerate(filled):
        sign = next((sign for sign in "\t;,=" if sign in line), "")
        name, _, number = line.rpartition(sign) if sign else (line, "", "")
        share = _number(number)
        if share is None and not order and sign:
            continue  # a header
        if share is None or not name.strip():
            raise InputError(f"{path}, line {at}: is '{line.strip()[:60]}', expected a class and a number; correct it.")
        _add(shares, name, share, class_names)
    if not shares:
        raise InputError(f"{path}: names no class; give a class and a number in each line.")
    return shares


def _number(text: str) -> float | None:
    try:
        return float(text.strip().strip('"').removesuffix("%"))
    except ValueError:
        return None


def _add(shares: dict[str, float], name: str, share: float, class_names: Collection[str]) -> None:
    plain = name.strip().strip('"')
    known = plain if plain in class_names else class_of(plain) or plain
    shares[known] = shares.get(known, 0.0) + share


def prior_shares(class_names: Sequence[str], prior: Mapping[str, float]) -> NDArray[np.float64]:
    """The shares (classes,) of a differential count, which may name some classes only; the others have none of it.

    Raises InputError for a class that the model does not know, a negative number, or no number above 0.
    """
    if unknown := [name for name in prior if name not in class_names]:
        raise InputError(f"--prior names '{unknown[0]}', and the model knows {', '.join(class_names)}; name those.")
    shares = np.array([float(prior.get(name, 0)) for name in class_names])
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise InputError("--prior has a number below 0, or none above it; give a count or a share for each class.")
    return np.asarray(shares / shares.sum())


def trained_shares(calibration: Calibration, class_names: Sequence[str], shares: NDArray[np.float64]) -> None:
    """Raise InputError where a class is expected that the model had no training picture of."""
    for name, before, after in zip(class_names, calibration.class_prior, shares, strict=True):
        if after > 0 and not before:
            raise InputError(f"--prior expects {name}, of which the model had no training picture; leave it out.")


def restate(
    calibration: Calibration, probabilities: NDArray[Any], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Calibrated probabilities (n, classes) where the classes have other shares (classes,), as `prior_shares` gives.

    Returns them, float32, and the part of each row's probability, float32 (n,), that stood on classes without a share.
    """
    excluded = np.asarray(probabilities)[:, shares == 0].sum(1)
    return restated(probabilities, calibration.class_prior, shares).astype(np.float32), excluded.astype(np.float32)


def precision_by_class(
    confusion: ArrayLike, class_names: Sequence[str], prior: Mapping[str, float]
) -> dict[str, float | None]:
    """The precision of each class where the classes are as frequent as `prior` says, from a confusion matrix.

    confusion: (classes, classes), as for `precision_at`. None for a class that is not expected or never answered.
    Raises InputError as `prior_shares`, and where a class is expected that the matrix has no picture of.
    """
    shares = prior_shares(class_names, prior)
    support = np.asarray(confusion).sum(1)
    if missing := [name for name, share, rows in zip(class_names, shares, support, strict=True) if share and not rows]:
        raise InputError(
            f"--prior expects {missing[0]}, and no scored picture shows one, so that its mistakes are unknown; leave "
            "it out, or score labelled pictures of it."
        )
    values = precision_at(confusion, shares)
    return {
        name: None if np.isnan(value) or not share else float(value)
        for name, value, share in zip(class_names, values, shares, strict=True)
    }


def prior_in_words(class_names: Sequence[str], prior: Mapping[str, float], digits: int = 3) -> str:
    """A differential count in words, the commonest class first: "neutrophil 60%, lymphocyte 40%; no monocyte"."""
    shares = prior_shares(class_names, prior)
    order = np.argsort(-shares, kind="stable")
    named = ", ".join(f"{class_names[at]} {100 * shares[at]:.{digits}g}%" for at in order if shares[at])
    without = [name for name, share in zip(class_names, shares, strict=True) if not share]
    return named + (f"; no {', no '.join(without)}" if without else "")
