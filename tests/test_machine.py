from __future__ import annotations

import os

import pytest

from hemascope.machine import cores


@pytest.fixture(autouse=True)
def nobody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_only_the_cores_that_the_process_may_use_are_counted() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not bind processes to cores")
    allowed = os.sched_getaffinity(0)
    assert cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_elsewhere_all_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores() == os.cpu_count()


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("5,2", 5), (" 1 ", 1)])
def test_who_wants_fewer_says_so(said: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores() == threads


@pytest.mark.parametrize("said", ["", "0", "all", "-1"])
def test_what_is_no_number_is_passed_over(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = cores()
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores() == usual
