"""What this machine gives the process."""

from __future__ import annotations

import os


def cores() -> int:
    """How many threads this process may run at once: as many as OMP_NUM_THREADS says, or else one a core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
