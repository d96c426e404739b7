"""The exact checks of students pass, and miss where a formula is wrong."""

from __future__ import annotations

import pytest

from generators import verification_students
from loop.verification import all_passed


def test_all_pass() -> None:
    cases = verification_students.cases()
    assert all_passed(cases), [case for case in cases if not case.passed]
    assert len({case.name for case in cases}) == len(cases) == 4


def test_a_wrong_map_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification_students, "_long_step", lambda: 2.0)
    assert not all_passed(verification_students.cases())
