"""The contract over the registry, and that each of its checks can fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from loop.candidate import Candidate, Outcome
from loop.protocols import Simulator
from simulators import contract
from simulators.contract import CHECKS, Check, ContractError
from simulators.registry import create
from tests.simulators.conftest import ImageMaker
from tests.simulators.designs import (
    COMPOSITE,
    ORDERED,
    composite,
    composites,
    superalloy,
    superalloys,
)

CHAINS = ["composite-chain"]  # the others take other settings: their own files check them


@pytest.fixture
def candidates(random_images: ImageMaker) -> list[Candidate]:
    """Good ones and one that has to fail."""
    images = random_images(4, (24, 24), seed=3)
    images[2] = 0
    return superalloys(images)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CHAINS)
def test_superalloys(name: str, check: Check, candidates: list[Candidate]) -> None:
    check(create(name, space=superalloy(), settings=ORDERED), candidates)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CHAINS)
def test_composites(name: str, check: Check, random_images: ImageMaker) -> None:
    simulator = create(name, space=composite(), settings={"phase_properties": COMPOSITE})
    check(simulator, composites(random_images(3, (16, 16))))


class Wrapped:
    """A good simulator with one thing made wrong by a subclass."""

    def __init__(self, inner: Simulator) -> None:
        self.inner = inner
        self.name, self.version, self.outputs = inner.name, inner.version, inner.outputs
        self.calls = 0

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        self.calls += 1
        return self.spoiled(candidates, self.inner.evaluate(candidates))

    def spoiled(
        self,
        candidates: Sequence[Candidate],
        outcomes: list[Outcome],
    ) -> list[Outcome]:
        return outcomes

    def changed(self, outcome: Outcome, **changes: Any) -> Outcome:
        parts: dict[str, Any] = {
            "status": outcome.status,
            "values": outcome.values,
            "bounds": outcome.bounds,
            "reason": outcome.reason,
        }
        return Outcome(**{**parts, **changes})

    def scaled(self, outcome: Outcome, factor: float) -> Outcome:
        if outcome.status != "ok":
            return outcome
        return self.changed(
            outcome, values={k: factor * v for k, v in outcome.values.items()}, bounds={}
        )


class Nameless(Wrapped):
    def __init__(self, inner: Simulator) -> None:
        super().__init__(inner)
        self.version = ""


class Unitless(Wrapped):
    def __init__(self, inner: Simulator) -> None:
        super().__init__(inner)
        self.outputs = {**inner.outputs, "density_g_per_cm3": ""}


class Undeclared(Wrapped):
    def __init__(self, inner: Simulator) -> None:
        super().__init__(inner)
        self.outputs = {"density_g_per_cm3": "g/cm3"}


class Unbounded(Wrapped):
    def spoiled(self, candidates: Sequence[Candidate], outcomes: list[Outcome]) -> list[Outcome]:
        return [
            self.changed(o, bounds={"density_g_per_cm3": (0.0, 1.0)}) if o.status == "ok" else o
            for o in outcomes
        ]


class Beyond(Wrapped):
    limits: Mapping[str, tuple[float, float]] = {"density_g_per_cm3": (0.0, 1.0)}


class Limitless(Wrapped):
    limits: Mapping[str, tuple[float, float]] = {"densty_g_per_cm3": (0.0, 99.0)}


class Short(Wrapped):
    def spoiled(self, candidates: Sequence[Candidate], outcomes: list[Outcome]) -> list[Outcome]:
        return [outcome for outcome in outcomes if outcome.status == "ok"]


class Sorted(Wrapped):
    def spoiled(self, candidates: Sequence[Candidate], outcomes: list[Outcome]) -> list[Outcome]:
        order = np.argsort([candidate.id for candidate in candidates], kind="stable")
        return [outcomes[i] for i in order]


class Crowded(Wrapped):
    def spoiled(self, candidates: Sequence[Candidate], outcomes: list[Outcome]) -> list[Outcome]:
        return [self.scaled(outcome, 1 + 1e-9 * len(candidates)) for outcome in outcomes]


class Drifting(Wrapped):
    def spoiled(self, candidates: Sequence[Candidate], outcomes: list[Outcome]) -> list[Outcome]:
        return [self.scaled(outcome, 1 + 1e-9 * self.calls) for outcome in outcomes]


class Greedy(Wrapped):
    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        outcomes = self.inner.evaluate(candidates)
        if isinstance(candidates, list):
            candidates.clear()
        return outcomes


class Scribbling(Wrapped):
    def spoiled(self, candidates: Sequence[Candidate], outcomes: list[Outcome]) -> list[Outcome]:
        for candidate in candidates:
            if candidate.microstructure is not None:
                candidate.microstructure.setflags(write=True)
                candidate.microstructure[:] = 0
        return outcomes


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (Nameless, contract.check_identity, "version is ''"),
        (Unitless, contract.check_units, "has no unit"),
        (Undeclared, contract.check_units, "declared are"),
        (Unbounded, contract.check_bounds, "lies outside"),
        (Beyond, contract.check_limits, "lies outside"),
        (Limitless, contract.check_limits, "not among the outputs"),
        (Short, contract.check_length, "3 outcomes for 4 candidates"),
        (Sorted, contract.check_order, "order is reversed"),
        (Crowded, contract.check_singles, "otherwise alone"),
        (Drifting, contract.check_repeatable, "in a second run"),
        (Greedy, contract.check_input_unchanged, "changed the list"),
        (Scribbling, contract.check_input_unchanged, "changed candidate"),
    ],
)
def test_what_is_broken_is_found(
    broken: type[Wrapped], check: Check, message: str, candidates: list[Candidate]
) -> None:
    inner = create("composite-chain", space=superalloy())
    check(Wrapped(inner), candidates)
    with pytest.raises(ContractError, match=message):
        check(broken(inner), candidates)


def test_alike_candidates_prove_nothing(candidates: list[Candidate]) -> None:
    simulator = create("composite-chain", space=superalloy())
    with pytest.raises(ContractError, match="give different ones"):
        contract.check_order(simulator, [candidates[0]] * 3)
    with pytest.raises(ContractError, match="no candidate came out ok"):
        contract.check_units(simulator, [candidates[2]])
