"""The scalars of a training for TensorBoard, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """Writes a line of the history as scalars by epoch; after a resumption nothing stands twice."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        # TensorBoard is an extra and takes a while to import.
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=epochs_done + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        """A line of the history; its numbers appear under train, validation and pace."""
        for name, value in row.items():
            if name in ("stage", "epoch"):
                continue
            group, _, rest = name.partition("_") if name.startswith(("train_", "validation_")) else ("pace", "", name)
            self.writer.add_scalar(f"{group}/{rest}", value, row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
