"""Progress on stderr: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from loop.protocols import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 5.0
FIGURES_SHOWN = 3


def _figures(figures: dict[str, float]) -> str:
    shown = list(figures.items())[:FIGURES_SHOWN]
    return "  ".join(f"{name} {value:.4g}" for name, value in shown)


class Lines:
    """One line at the end of a stage, and every few seconds inside a long one."""

    def __init__(self, stream: TextIO, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self._stream = stream
        self._seconds = seconds
        self._lock = threading.Lock()
        self._stage = ""
        self._written = time.monotonic()

    def __call__(self, stage: str, done: int, total: int, **figures: float) -> None:
        # Stages report from the thread that works on them.
        with self._lock:
            now = time.monotonic()
            ended = total > 0 and done >= total
            if stage == self._stage and not ended and now - self._written < self._seconds:
                return
            if stage != self._stage and not ended and now - self._written < 1.0:
                self._stage = stage
                return
            self._stage, self._written = stage, now
            parts = [stage, f"{done}/{total}", _figures(figures)]
            print("  ".join(part for part in parts if part), file=self._stream, flush=True)


class Bars:
    """One rich bar per stage; a stage that is done makes room for the next."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int, **figures: float) -> None:
        with self._lock:
            if self._task is None or stage != self._stage:
                if self._task is not None:
                    self._bars.remove_task(self._task)
                self._task = self._bars.add_task(stage, total=total, figures="")
                self._stage = stage
            self._bars.update(
                self._task, completed=done, total=total or None, figures=_figures(figures)
            )


@contextmanager
def shown(stream: TextIO | None = None) -> Iterator[Progress]:
    """A Progress that writes to stderr for as long as the block lasts."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    bars = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}", style="dim"),
        console=Console(file=stream),
        transient=True,
        # The commands print their own results; rich must not take the streams over.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bars:
        yield Bars(bars)
