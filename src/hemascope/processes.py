"""The processes that share one training: torchrun or SLURM starts them and says in the environment who each one is."""

from __future__ import annotations

import os
from typing import NamedTuple


class Processes(NamedTuple):
    """How many processes train together, on how many nodes, and which one this is."""

    per_node: int
    nodes: int
    rank: int

    @property
    def total(self) -> int:
        return self.per_node * self.nodes


def processes() -> Processes:
    """What torchrun or srun say of themselves; one process alone where neither started this one.

    A shell inside a SLURM allocation has the job's variables too, but no other process beside it; srun tells the
    number of its own step in SLURM_STEP_NUM_TASKS.
    """
    known = os.environ
    if "TORCHELASTIC_RUN_ID" in known:
        return Processes(int(known["LOCAL_WORLD_SIZE"]), int(known["GROUP_WORLD_SIZE"]), int(known["RANK"]))
    tasks = int(known.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        nodes = int(known.get("SLURM_STEP_NUM_NODES", "1"))
        return Processes(tasks // nodes, nodes, int(known["SLURM_PROCID"]))
    return Processes(1, 1, 0)


def leads() -> bool:
    """Whether this is the process that writes files and speaks."""
    return processes().rank == 0
