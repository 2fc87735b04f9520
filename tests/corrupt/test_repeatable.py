"""The same draws on every machine, and the same pixels within a grey level: run this file to write what is expected.

Raise `hemascope.corrupt.families.VERSION` whenever that changes what stands in expected.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hemascope.corrupt
from hemascope.corrupt import COMPOSITES, FAMILIES, SEVERITIES, chain, corrupt
from hemascope.data.cells import Images, Rows
from hemascope.draws import Draw

EXPECTED = Path(__file__).with_name("expected.json")
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
SAMPLES = 40
ROWS = np.array([0, 1, 77], np.int64)
SEED = 2024


class RecordedDraw(Draw):
    """Notes everything that is drawn, as exact bytes."""

    drawn = blake2b(digest_size=16)

    def uniform(self, rows: Rows, purpose: str, count: int = 1) -> NDArray[np.float64]:
        values = super().uniform(rows, purpose, count)
        RecordedDraw.drawn.update(purpose.encode() + np.asarray(values, "<f8").tobytes())
        return values


def cells() -> Images:
    """Three pictures of 56 pixels, made of whole numbers alone, so that no library has a part in them."""
    y, x = np.mgrid[0:56, 0:56]
    pictures = []
    for number in range(3):
        apart = (x - 26 - 3 * number) ** 2 + (y - 29 + 2 * number) ** 2
        texture = (x * 7 + y * 13 + number * 5) % 11
        cell, nucleus = apart < 17**2, apart < (9 + number) ** 2
        picture = np.stack([np.where(nucleus, 70, np.where(cell, 190, 236)) + 0 * x for _ in range(3)], axis=-1)
        picture[..., 1] -= np.where(cell, 30 + texture, 6)
        picture[..., 2] += np.where(nucleus, 60, 0) - texture
        pictures.append(picture)
    return np.stack(pictures).astype(np.uint8)


def observed_draws(name: str, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(hemascope.corrupt, "Draw", RecordedDraw)
    RecordedDraw.drawn = blake2b(digest_size=16)
    for severity in SEVERITIES:
        corrupt(cells(), name, severity, seed=SEED, rows=ROWS)
    return RecordedDraw.drawn.hexdigest()


def observed_chain(name: str) -> str:
    drawn = chain(name, SEED, np.arange(1000))
    told = [[f"{name} {severity}" for name, severity in zip(*row, strict=True)] for row in zip(*drawn, strict=True)]
    return blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def observed_pixels(name: str) -> tuple[str, list[int]]:
    seen = np.stack([corrupt(cells(), name, severity, seed=SEED, rows=ROWS) for severity in SEVERITIES])
    places = np.linspace(0, seen.size - 1, SAMPLES).astype(np.int64)
    return blake2b(seen.tobytes(), digest_size=16).hexdigest(), seen.reshape(-1)[places].tolist()


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_the_draws_are_those_of_every_machine(
    name: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert observed_draws(name, monkeypatch) == expected["draws"][name]


@pytest.mark.parametrize("name", COMPOSITES)
def test_the_chains_are_those_of_every_machine(name: str, expected: dict[str, Any]) -> None:
    assert observed_chain(name) == expected["chains"][name]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pixels_are_those_of_every_machine(name: str, expected: dict[str, Any]) -> None:
    pinned = dict(
        line.strip().split("==") for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if "==" in line
    )
    for package in ("numpy", "opencv-python-headless", "pillow"):
        if version(package) != pinned[package]:
            pytest.skip(f"pixels are compared under {package} {pinned[package]}, and this is {version(package)}")
    digest, samples = observed_pixels(name)
    if digest != expected["pixels"][name]["digest"]:
        # Another processor may add up in another order, which moves what lies between two levels to the other one:
        # the pixels then still agree within one grey level.
        far = np.abs(np.array(samples) - np.array(expected["pixels"][name]["samples"]))
        assert far.max() <= 1


def test_version_counts_the_pixels(expected: dict[str, Any]) -> None:
    assert expected["version"] == hemascope.corrupt.families.VERSION


def _everything() -> Iterator[tuple[str, Any]]:
    yield "version", hemascope.corrupt.families.VERSION
    with pytest.MonkeyPatch.context() as patch:
        yield "draws", {name: observed_draws(name, patch) for name in FAMILIES}
    yield "chains", {name: observed_chain(name) for name in COMPOSITES}
    pixels = {}
    for name in FAMILIES:
        digest, samples = observed_pixels(name)
        pixels[name] = {"digest": digest, "samples": samples}
    yield "pixels", pixels


if __name__ == "__main__":
    lines = json.dumps(dict(_everything()), indent=1)
    EXPECTED.write_text(lines + "\n", encoding="utf-8")
