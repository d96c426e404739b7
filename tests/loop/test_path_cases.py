"""The cases of ``spinodal verify composition`` on monotone paths hold, and can fail."""

from __future__ import annotations

import pytest

from loop import path_cases
from loop.composition import FloatArray
from loop.monotone import Monotone
from loop.verification import all_passed


def test_all_hold() -> None:
    cases = path_cases.cases()
    assert len(cases) == 7
    assert all_passed(cases), [case for case in cases if not case.passed]


def test_a_path_left_as_it_is_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def unchanged(
        path: FloatArray, t: FloatArray, values: object, *_: object, **__: object
    ) -> Monotone:
        assert callable(values)
        found = values(path, t)
        return Monotone(path, found, found, 0 * t)

    monkeypatch.setattr(path_cases, "monotone_path", unchanged)
    failed = [case.name for case in path_cases.cases() if not case.passed]
    assert any("step back" in name for name in failed)
