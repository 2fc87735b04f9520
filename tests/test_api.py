"""What a notebook uses: the names of the package."""

from __future__ import annotations

import importlib

import pytest

import hemascope


def test_functions_are_not_hidden_by_the_modules_of_their_name() -> None:
    for name in ("train", "split", "clean", "evaluate", "predict", "stress"):
        importlib.import_module(f"hemascope.{name}")
        assert callable(getattr(hemascope, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(hemascope, "nothing")  # noqa: B009
