"""The two contracts that generators and simulators (ours and third parties') fulfil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from loop.candidate import Candidate, Outcome, Record
from loop.targets import Targets


class Progress(Protocol):
    """Called with (what is done, steps so far, steps in all, current figures)."""

    def __call__(self, stage: str, done: int, total: int, **figures: float) -> None: ...


def silent(stage: str, done: int, total: int, **figures: float) -> None:
    """A Progress that shows nothing."""


@runtime_checkable
class Generator(Protocol):
    name: str

    def fit(
        self, records: Sequence[Record], *, rng: np.random.Generator, progress: Progress = silent
    ) -> Generator:
        """Learn from records; returns a new object, the old one stays usable."""
        ...

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """At most n candidates; guidance 0 ignores targets, 1 is conditional, above amplifies."""
        ...


@runtime_checkable
class Simulator(Protocol):
    name: str
    version: str
    outputs: Mapping[str, str]  # property name -> unit

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, same order, same length, input unchanged."""
        ...


@runtime_checkable
class Limited(Protocol):
    """What a simulator may offer besides: values that no design of its space can pass.

    Targets wholly outside are refused before a campaign starts. Properties may be left out, and
    either side may be infinite.
    """

    limits: Mapping[str, tuple[float, float]]  # property name -> (least, greatest)
