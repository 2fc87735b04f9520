"""What this machine gives the process."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, _GeneratorContextManager, contextmanager
from functools import wraps
from pathlib import Path

try:
    import resource
except ModuleNotFoundError:  # Windows sets no such limits
    resource = None  # type: ignore[assignment]

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_TURN = 0.0002
"""Seconds after which Python lets another thread go on, of several that each do a little between compiled calls."""


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
"""Parameters of glibc's `mallopt`, by their numbers in <malloc.h>."""
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 << 20}
_GIVING_BACK = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20, _TOP_PAD: 128 << 10}
"""glibc's defaults; its thresholds move up to these by themselves in a process that frees large blocks."""


def _shared(setting: Callable[[], AbstractContextManager[None]]) -> Callable[[], _GeneratorContextManager[None]]:
    """A setting of the whole process: made when the first of several blocks begins, undone when the last has ended."""
    lock, blocks, made = threading.Lock(), 0, ExitStack()

    @contextmanager
    @wraps(setting)
    def block() -> Iterator[None]:
        nonlocal blocks
        with lock:
            if not blocks:
                made.enter_context(setting())
            blocks += 1
        try:
            yield
        finally:
            with lock:
                blocks -= 1
                if not blocks:
                    made.close()

    return block


@_shared
@contextmanager
def quick_turns() -> Iterator[None]:
    """Within the block, threads that wait for Python's lock get it after 0.2 ms; by default that is 5 ms.

    The time is one for the process: it is as before when the last of several blocks has ended.
    """
    before = sys.getswitchinterval()
    _set_turn(min(_TURN, before))
    yield
    _set_turn(before)


def _set_turn(seconds: float) -> None:
    # Python cuts off at whole microseconds, of which what it told before may lack the last bit.
    sys.setswitchinterval(seconds + 5e-7)


@_shared
@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within the block, memory that is freed stays with the process, for what is asked for next.

    glibc gives pieces of 32 MiB and more back to the system when they are freed, and a network on a CPU asks for as
    large ones again in every step; the system then hands them out anew, page by page, emptied. What lies free when the
    last of several blocks has ended is given back. Nothing changes where the C library is another, where the
    environment says (MALLOC_TRIM_THRESHOLD_, GLIBC_TUNABLES and the like) when memory is given back, or where `ulimit`
    bounds addresses, of which none would be left for others.
    """
    libc = _glibc()
    if libc is None or _says_when_memory_is_given_back(os.environ) or _limits():
        yield
        return
    for parameter, value in _KEEPING.items():
        libc.mallopt(parameter, value)
    yield
    for parameter, value in _GIVING_BACK.items():
        libc.mallopt(parameter, value)
    libc.malloc_trim(0)


def _says_when_memory_is_given_back(environment: Mapping[str, str]) -> bool:
    told = environment.get("GLIBC_TUNABLES", "").upper()
    parameters = ("MMAP_MAX", "MMAP_THRESHOLD", "TRIM_THRESHOLD", "TOP_PAD")
    return any(f"MALLOC_{name}_" in environment or f"MALLOC.{name}" in told for name in parameters)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None


def cores() -> int:
    """How many threads this process may run at once: as many as OMP_NUM_THREADS says, or else one a core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """How many bytes this process may take: what the machine has, or what a container, a batch job or `ulimit` allows.

    None where the system does not say.
    """
    limits = _group_limits()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits + _limits(), default=None)


def _limits() -> list[int]:
    """What `ulimit` leaves of addresses, where it leaves not all."""
    if resource is None:
        return []
    allowed = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return [limit for limit in allowed if limit != resource.RLIM_INFINITY]


def _group_limits() -> list[int]:
    """The limits of memory of the control groups of Linux, of either version, that this process is in.

    A group inside another has the outer one's limit too. In a container the path of a group may be the one outside, of
    which only the top is to be seen.
    """
    if not _OWN_GROUPS.is_file():
        return []
    found = []
    for line in _OWN_GROUPS.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (_GROUPS / "memory", "memory.limit_in_bytes") if controllers else (_GROUPS, "memory.max")
        group = top / path.lstrip("/")
        for place in (group, *group.parents):
            file = place / name
            if place.is_relative_to(top) and file.is_file() and (told := file.read_text().strip()).isdigit():
                found.append(int(told))
    return found
