"""What this machine gives the process."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import resource
except ModuleNotFoundError:  # Windows sets no such limits
    resource = None  # type: ignore[assignment]

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


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
