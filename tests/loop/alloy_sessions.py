"""Sessions on alloys with a closed-form property, for several tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from generators.baseline import LibraryDraw, Mutation
from loop.campaign import (
    Campaign,
    CampaignSection,
    ComputeSection,
    GeneratorSection,
    LoopSection,
    SimulatorsSection,
)
from loop.candidate import Candidate, Outcome, Record
from loop.ledger import Ledger
from loop.library import Library
from loop.protocols import Generator, Simulator
from loop.session import Session
from loop.summary import LOOP_ARM
from loop.targets import Targets
from tests import libraries

SPACE = libraries.SPACES["compositions"]
LIBRARY = libraries.library(SPACE)
TARGETS = libraries.targets(SPACE)


class Rule:
    """The closed-form property as a simulator. ``broken``: from which density on it raises."""

    name = "rule"
    version = "1"
    outputs: Mapping[str, str] = {"density": "g/cm3"}

    def __init__(self, broken: float = np.inf) -> None:
        self.broken = broken
        self.calls: list[int] = []

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        self.calls.append(len(candidates))
        values = [libraries.rule(c) for c in candidates]
        if any(v["density"] >= self.broken for v in values):
            raise ArithmeticError("too dense")
        return [Outcome("ok", v) for v in values]


class Nearest:
    """A warm-starting generator without weights to keep: each fit adds to what it knows."""

    name = "nearest"

    def __init__(self) -> None:
        self.seen: list[Candidate] = []

    def fit(self, records: Sequence[Record], **_: Any) -> Nearest:
        new = Nearest()
        new.seen = self.seen + [r.candidate for r in records]
        return new

    def propose(
        self, n: int, targets: Targets | None = None, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        mutation = Mutation(SPACE, LIBRARY, TARGETS)
        mutation.parents = self.seen[-20:] + self.seen[: len(self.seen) // 2]
        return mutation.propose(n, rng=rng)


def campaign(targets: Targets = TARGETS, **loop: Any) -> Campaign:
    settings = LoopSection.model_validate(
        {"rounds": 2, "batch": 6, "seeds": 20, "library": 40, "pool": 30, "chunk": 4, **loop}
    )
    simulators = SimulatorsSection(use=("rule",))
    return Campaign(
        folder=Path(),
        info=CampaignSection(name="alloys", seed=4),
        space=SPACE,
        images=None,
        compositions=None,
        targets=targets,
        simulators=simulators,
        generator=GeneratorSection(),
        loop=settings,
        compute=ComputeSection(threads=1),
        settings={
            "campaign": {"name": "alloys"},
            "simulators": simulators.model_dump(mode="json"),
            "loop": settings.model_dump(mode="json"),
        },
    )


def session(
    folder: Path,
    *,
    generators: Mapping[str, Generator] | None = None,
    simulators: Sequence[Simulator] | None = None,
    targets: Targets = TARGETS,
    library: Library = LIBRARY,
    **loop: Any,
) -> Session:
    arms: Mapping[str, Generator] = generators or {
        LOOP_ARM: Mutation(SPACE, library, targets),
        "random": LibraryDraw(library),
    }
    return Session(
        campaign(targets, **loop),
        Ledger.open(folder / "ledger.db"),
        library=library,
        generators=arms,
        simulators=simulators or [Rule()],
        checkpoints=folder / "checkpoints",
    )
