"""The exact checks of the regressor's guidance pass, and miss where a formula is wrong."""

from __future__ import annotations

import pytest

from generators import verification_regressor
from loop.verification import all_passed


def test_all_pass() -> None:
    cases = verification_regressor.cases()
    assert all_passed(cases), [case for case in cases if not case.passed]
    assert len({case.name for case in cases}) == len(cases) == 3


def test_a_wrong_spread_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification_regressor, "LEAST_SPREAD", 0.4)
    assert not any(case.passed for case in verification_regressor.cases())
