"""What generators share whose training, when it was killed, goes on where it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Self

from generators.training.resume import TrainingState


class Resuming:
    """A generator that may keep the state of its fit (``loop.learning.Resumable``)."""

    keep: TrainingState | None = None

    def resumable(self, folder: Path) -> Self:
        """A copy whose next fit keeps its state in ``folder``, so that it can be killed.

        Its figures go into ``metrics.jsonl`` beside that folder's parent.
        """
        new = copy.copy(self)
        new.keep = TrainingState(folder, metrics=folder.parent.parent / "metrics.jsonl")
        return new

    def trained(self) -> None:
        """The weights are kept: what was needed to resume the training is removed."""
        if self.keep is not None:
            self.keep.clear()
            self.keep = None
