"""What ``spinodal verify simulators`` shows."""

from __future__ import annotations

import pytest

from loop.verification import Case, all_passed
from simulators import conductivity, verification


@pytest.fixture(scope="module")
def shown() -> list[Case]:
    return verification.cases()


def test_every_case_passes(shown: list[Case]) -> None:
    assert all_passed(shown), [case for case in shown if not case.passed]


def test_cases_have_names_of_their_own_and_sources(shown: list[Case]) -> None:
    assert len({case.name for case in shown}) == len(shown) >= 30
    assert all(case.room == "simulators" and case.source for case in shown)


def test_a_wrong_solver_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """One per cent in the conductivity of a phase fails the exact cases."""

    def wrong(labels: object, phases: object, **settings: object) -> conductivity.Conductivity:
        values = [1.01 * float(value) for value in phases]  # type: ignore[attr-defined]
        return conductivity.effective_conductivity(labels, values, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(verification, "effective_conductivity", wrong)
    missed = {case.name for case in verification.cases() if not case.passed}
    assert "conductivity, laminate 10:1, across" in missed
    assert "conductivity, checkerboard 100:1" in missed
