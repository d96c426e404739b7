"""What ``spinodal verify`` shows: a computed figure beside its exact answer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One check of the program against a known answer.

    ``error`` is relative to ``exact`` or absolute, as its maker chose; the case passes when
    error <= allowed. ``source`` names the closed form or paper.
    """

    room: str  # "simulators", "generators" or "composition"
    name: str
    exact: float
    computed: float
    error: float
    allowed: float
    source: str = ""

    @property
    def passed(self) -> bool:
        return math.isfinite(self.error) and self.error <= self.allowed


def relative_case(
    room: str, name: str, exact: float, computed: float, allowed: float, source: str = ""
) -> Case:
    """A case judged by |computed - exact| / |exact|; ``exact`` must not be 0."""
    error = abs(computed - exact) / abs(exact)
    return Case(room, name, exact, computed, error, allowed, source)


def absolute_case(
    room: str, name: str, exact: float, computed: float, allowed: float, source: str = ""
) -> Case:
    """A case judged by |computed - exact|."""
    return Case(room, name, exact, computed, abs(computed - exact), allowed, source)


def all_passed(cases: Iterable[Case]) -> bool:
    """Whether every case passed; an empty list has shown nothing and does not pass."""
    cases = list(cases)
    return bool(cases) and all(case.passed for case in cases)
