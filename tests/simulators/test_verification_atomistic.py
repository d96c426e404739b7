"""What ``spinodal verify simulators`` shows of potentials, strength and laboratory."""

from __future__ import annotations

import pytest

from loop.verification import all_passed
from simulators import verification_atomistic
from simulators.strengthening import strongly_coupled


def test_every_case_passes_under_a_name_of_its_own() -> None:
    shown = verification_atomistic.cases()
    assert all_passed(shown), [case for case in shown if not case.passed]
    assert len({case.name for case in shown}) == len(shown) >= 20
    assert all(case.room == "simulators" and case.source for case in shown)


def test_a_wrong_formula_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> object:
        return 1.001 * strongly_coupled(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(verification_atomistic, "strongly_coupled", wrong)
    missed = [case.name for case in verification_atomistic._formulas() if not case.passed]
    assert missed == ["strongly coupled pairs, peak"]
