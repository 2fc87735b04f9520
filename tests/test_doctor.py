from __future__ import annotations

from importlib import metadata

import pytest

from hemascope import doctor
from hemascope.recipe import recipe_names


def test_what_is_installed_is_named_with_its_version() -> None:
    found = {finding.subject: finding for finding in doctor.examine()}
    assert f"torch {metadata.version('torch')}" in found["training"].found
    assert found["base install"].well
    assert "cores" in found["machine"].found
    assert all(name in found["recipes"].found for name in recipe_names())


def test_what_augments_pictures_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {finding.subject: finding for finding in doctor.examine()}["augmentation"]
    assert found.found == f"compiled loops, numba {metadata.version('numba')}"
    monkeypatch.setattr("hemascope.doctor.compiled", lambda: False)
    found = {finding.subject: finding for finding in doctor.examine()}["augmentation"]
    assert found.well
    assert "OpenCV" in found.found


def test_what_is_missing_comes_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_torch(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("hemascope.doctor.metadata.version", without_torch)
    finding = next(finding for finding in doctor.examine() if finding.subject == "training")
    assert finding.found == "lacks torch"
    assert finding.advice == "pip install '.[train]' in the folder of hemascope"
    assert not finding.well
