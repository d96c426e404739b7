"""Targets that no design can meet are refused, and only those."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from loop.candidate import Candidate, Outcome
from loop.checks import check_targets
from loop.errors import InvalidCampaignError
from loop.protocols import Limited, Simulator
from loop.targets import Maximise, Minimise, Range, Target, Targets, Value


class Unlimited:
    """A simulator that keeps the contract and offers nothing besides."""

    name = "unlimited"
    version = "1"
    outputs: Mapping[str, str] = {"porosity": "1"}

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        return [Outcome("ok", {"porosity": 0.5}) for _ in candidates]


class Scales(Unlimited):
    """One with limits: of density on both sides, of cost on one."""

    name = "scales"
    outputs: Mapping[str, str] = {"density_g_per_cm3": "g/cm3", "cost_USD": "USD", "fraction": "1"}
    limits: Mapping[str, tuple[float, float]] = {
        "density_g_per_cm3": (2.7, 19.25),
        "cost_USD": (0.5, math.inf),
        "fraction": (0.0, 1.0),
    }


SIMULATORS: tuple[Simulator, ...] = (Unlimited(), Scales())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            Range("fraction", 1.2, 1.5),
            "target fraction: 1.2 to 1.5 is out of reach; with the phases and bounds of this space "
            "it is 0 to 1 in every design; ask within that or widen the space",
        ),
        (
            Value("density_g_per_cm3", -1.0, 0.1),
            "target density_g_per_cm3: -1.1 to -0.9 is out of reach; with the phases and bounds of "
            "this space it is 2.7 to 19.25 g/cm3 in every design; ask within that or widen the "
            "space",
        ),
        (Value("density_g_per_cm3", 22.0, 0.5), "21.5 to 22.5 is out of reach"),
        (Maximise("density_g_per_cm3", at_least=20.0), "at least 20 is out of reach"),
        (Minimise("density_g_per_cm3", at_most=2.0), "at most 2 is out of reach"),
        (Minimise("cost_USD", at_most=0.4), "it is at least 0.5 USD in every design"),
        (Range("densty_g_per_cm3", 8.0, 8.2), "unknown property 'densty_g_per_cm3'; did you mean "
                                              "'density_g_per_cm3'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_met_is_refused_with_the_limit(target: Target, message: str) -> None:
    with pytest.raises(InvalidCampaignError) as caught:
        check_targets(Targets((Range("porosity", 0.1, 0.2), target)), SIMULATORS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        Range("fraction", 0.9, 1.5),  # partly within
        Range("fraction", -1.0, 0.0),  # touches
        Value("density_g_per_cm3", 19.5, 0.25),
        Maximise("density_g_per_cm3"),
        Minimise("cost_USD", at_most=0.5),
        Value("cost_USD", 1e9, 1.0),  # open on that side
        Range("porosity", 7.0, 8.0),  # nobody knows
    ],
)
def test_what_may_be_met_passes(target: Target) -> None:
    check_targets(Targets((target,)), SIMULATORS)


def test_limits_are_optional() -> None:
    assert all(isinstance(simulator, Simulator) for simulator in SIMULATORS)
    assert [isinstance(simulator, Limited) for simulator in SIMULATORS] == [False, True]
