from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hemascope import machine
from hemascope.machine import cores, memory, quick_turns


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


@pytest.mark.parametrize(
    ("groups", "limits", "least"),
    [
        ("0::/", {"memory.max": "5000"}, 5000),
        ("0::/job/step", {"job/memory.max": "4000", "job/step/memory.max": "max"}, 4000),
        ("0::/job/step", {"job/memory.max": "4000", "job/step/memory.max": "3000"}, 3000),
        ("0::/outside/of/the/container", {"memory.max": "2000"}, 2000),
        ("4:memory:/job\n1:cpu:/\n0::/", {"memory/job/memory.limit_in_bytes": "6000"}, 6000),
        ("4:hugetlb,memory:/job", {"memory/memory.limit_in_bytes": "7000"}, 7000),
        ("1:cpu:/job", {"job/memory.max": "8000"}, None),
        ("0::/job", {"job/memory.max": "max"}, None),
    ],
)
def test_a_group_of_processes_has_the_least_memory_of_those_around_it(
    groups: str, limits: dict[str, str], least: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = memory()
    (tmp_path / "own").write_text(groups + "\n", encoding="utf-8")
    for name, limit in limits.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    found = memory()
    assert found is not None
    assert usual is not None
    assert found == least if least is not None else found >= usual


def test_memory_is_that_of_the_machine_or_less() -> None:
    found = memory()
    if found is None:
        pytest.skip("this system does not say how much memory it has")
    assert 2**28 < found <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_turns_are_as_long_as_before_when_the_last_who_wanted_them_short_has_gone() -> None:
    before = sys.getswitchinterval()
    first, second = quick_turns(), quick_turns()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(0.0002)
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == before


def test_turns_shorter_than_that_stay_so() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    own = sys.getswitchinterval()
    try:
        with quick_turns():
            assert sys.getswitchinterval() == own
        assert sys.getswitchinterval() == own
    finally:
        sys.setswitchinterval(before)


# In a process of its own, as what others have left free in this one would be taken first.
PAGE_FAULTS = """
import resource
from hemascope.machine import freed_memory_kept

def of_large_blocks():
    for number in range(12):
        if number == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytearray(b"1") * (48 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(of_large_blocks())
with freed_memory_kept(), freed_memory_kept():
    print(of_large_blocks())
print(of_large_blocks())
"""


def page_faults(before: str = "", **environment: str) -> list[int]:
    """Of ten blocks of 48 MB, taken, filled and freed one after the other: before, within and after the block."""
    if machine._glibc() is None:
        pytest.skip("the C library here is not glibc")
    own = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", before + PAGE_FAULTS], env=own, capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


def test_what_was_freed_is_taken_again_without_asking_the_system() -> None:
    before, within, after = page_faults()
    assert before > 10 * within
    assert after > 10 * within


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=65536:glibc.malloc.perturb=1")],
)
def test_who_says_when_memory_is_given_back_has_the_last_word(name: str, value: str) -> None:
    before, within, _ = page_faults(**{name: value})
    assert within > before / 2 > 0


def test_where_addresses_are_bounded_none_are_held() -> None:
    bound = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**44, resource.getrlimit(resource.RLIMIT_AS)[1]))"
    )
    before, within, _ = page_faults(bound)
    assert within > before / 2 > 0
