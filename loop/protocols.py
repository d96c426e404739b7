"""The two contracts that generators and simulators (ours and third parties') fulfil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from loop.candidate import Candidate, Outcome, Record
from loop.targets import Targets

if TYPE_CHECKING:
    from torch import Tensor


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
    # ``fidelity``: "simulated" or "measured"; without that attribute it is simulated.

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, same order, same length, input unchanged.

        ``pending`` where it cannot be known yet: the candidate is handed in again when the
        campaign is resumed.
        """
        ...


@runtime_checkable
class Limited(Protocol):
    """What a simulator may offer besides: values that no design of its space can pass.

    Targets wholly outside are refused before a campaign starts. Properties may be left out, and
    either side may be infinite.
    """

    limits: Mapping[str, tuple[float, float]]  # property name -> (least, greatest)


@runtime_checkable
class Differentiable(Protocol):
    """What a simulator may offer besides: its outputs as functions that can be differentiated.

    Generation can then be guided by the simulator itself.
    """

    def properties_of(
        self, fields: Tensor | None, compositions: Tensor | None
    ) -> Mapping[str, Tensor]:
        """Outputs (n,) of n designs, those that can be differentiated.

        ``fields``: (n, p, h, w) shares of the phases in each pixel, >= 0 with sum 1 (0 or 1 in a
        label image, whose values are then those of ``evaluate``). ``compositions``: (n, p, e).
        Either may be absent. float64; gradients flow back to both.
        """
        ...
