"""The figures of a running training: shown as it goes on, and kept as JSON lines."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from generators.training.errors import TrainingError
from generators.training.files import write_whole
from generators.training.resume import Live
from loop.protocols import Progress

if TYPE_CHECKING:
    from generators.training.loop import Schedule

REPORT = 20  # steps from one report to the next
OVERFLOWS = 25  # fp16 steps in a row without finite gradients: its scale has fallen 2²⁵-fold


class MetricsFile:
    """A JSON object a line: run, stage, step, parts and the figures of a report."""

    def __init__(self, path: Path, run: str, step: int) -> None:
        """Go on at ``step`` of ``run``: its later lines, of a killed process, are removed."""
        self.path, self.run = path, run
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line + "\n" for line in lines if self._stays(line, step)]
            if len(kept) < len(lines):
                write_whole(path, "".join(kept).encode())

    def _stays(self, line: str, step: int) -> bool:
        try:
            found = json.loads(line)
        except json.JSONDecodeError:  # the last one of a process that was killed writing it
            return False
        return bool(found["run"] != self.run or found["step"] < step)

    def add(self, report: Mapping[str, Any]) -> None:
        """Append a report."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": self.run, **report}) + "\n")


class Watch:
    """Losses and gradient norms of the steps: looked at, shown and kept.

    On a GPU they are read every ``REPORT`` steps, for each reading waits for the device; on the
    CPU at once.
    """

    def __init__(self, stage: str, schedule: Schedule, live: Live, progress: Progress) -> None:
        self.stage, self.schedule, self.live = stage, schedule, live
        self.progress = progress
        self.metrics: MetricsFile | None = None
        self.lazy = live.device.type != "cpu"
        self._most_overflows = OVERFLOWS if live.how.precision == "fp16" else 0
        self._unread: list[tuple[int, Tensor, Tensor]] = []
        self._overflown = 0
        self._rows = 0
        self._since = time.monotonic()

    def note(self, step: int, loss: Tensor, norm: Tensor, rows: int) -> None:
        """Remember a step's loss and gradient norm, both still on the device."""
        self._unread.append((step, loss, norm))
        self._rows += rows

    def due(self, step: int) -> bool:
        """Whether what was noted is to be read at this step."""
        return not self.lazy or self._reports(step)

    def _reports(self, step: int) -> bool:
        return step % REPORT == 0 or step == self.schedule.steps - 1

    def read(self) -> None:
        """Read what was noted. Raises TrainingError for the first that is not finite."""
        steps = [step for step, _, _ in self._unread]
        losses = torch.stack([loss for _, loss, _ in self._unread]).tolist()
        norms = torch.stack([norm for _, _, norm in self._unread]).tolist()
        self._unread.clear()
        last = self.schedule.steps - max(1, self.schedule.steps // 10)
        for step, loss, norm in zip(steps, losses, norms, strict=True):
            self._overflown = 0 if math.isfinite(norm) else self._overflown + 1
            if not math.isfinite(loss):
                raise self._stopped("loss", loss, step)
            if self._overflown > self._most_overflows:
                raise self._stopped("gradient norm", norm, step)
            if step >= last:
                self.live.tail.append(loss)
        if self._reports(steps[-1]):
            self._report(steps[-1], losses[-1], norms[-1])

    def _stopped(self, what: str, value: float, step: int) -> TrainingError:
        return TrainingError(
            f"{self.stage}: {what} is {value} at step {step} of {self.schedule.steps}, learning "
            f"rate {self.schedule.rate(step):.3g}; lower the learning rate or look for constant "
            "or non-finite training data"
        )

    def _report(self, step: int, loss: float, norm: float) -> None:
        now = time.monotonic()
        figures = {
            "loss": loss,
            "samples_per_s": self._rows / max(now - self._since, 1e-9),
            "learning_rate": self.schedule.rate(step),
            "gradient_norm": norm,
        }
        self._rows, self._since = 0, now
        parts = self.live.parts
        label = self.stage if parts == 1 else f"{self.stage}, batch in {parts} parts"
        self.progress(label, step, self.schedule.steps, **figures)
        if self.metrics is not None:
            self.metrics.add({"stage": self.stage, "step": step, "parts": parts, **figures})

    @property
    def final_loss(self) -> float:
        """Mean loss over the last tenth of the steps."""
        return sum(self.live.tail) / max(1, len(self.live.tail))
