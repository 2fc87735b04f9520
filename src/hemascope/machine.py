"""What this machine gives the process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ModuleNotFoundError:  # Windows sets no such limits
    resource = None  # type: ignore[assignment]

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_TURN = 0.0002
"""Seconds after which Python lets another thread go on, of several that call OpenCV for one small picture at a time."""


class _Turns:
    """Who asks for short turns now, and how long they were before the first of them asked."""

    def __init__(self) -> None:
        self.lock, self.askers, self.before = threading.Lock(), 0, 0.0


_turns = _Turns()


@contextmanager
def quick_turns() -> Iterator[None]:
    """Within the block, threads that wait for Python's lock get it after 0.2 ms; by default that is 5 ms.

    The time is one for the process: it is as before when the last of several blocks has ended.
    """
    with _turns.lock:
        if not _turns.askers:
            _turns.before = sys.getswitchinterval()
            _set_turn(min(_TURN, _turns.before))
        _turns.askers += 1
    try:
        yield
    finally:
        with _turns.lock:
            _turns.askers -= 1
            if not _turns.askers:
                _set_turn(_turns.before)


def _set_turn(seconds: float) -> None:
    # Python cuts off at whole microseconds, of which what it told before may lack the last bit.
    sys.setswitchinterval(seconds + 5e-7)


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
    if resource is not None:
        allowed = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        limits += [limit for limit in allowed if limit != resource.RLIM_INFINITY]
    return min(limits, default=None)


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
