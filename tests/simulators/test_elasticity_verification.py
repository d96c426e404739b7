"""The cases that ``spinodal verify simulators`` shows for elasticity."""

from __future__ import annotations

from loop.verification import all_passed
from simulators.verification_elasticity import cases


def test_every_case_passes() -> None:
    found = cases()
    failed = [f"{case.name}: {case.error:.3g} > {case.allowed:.3g}" for case in found]
    failed = [line for line, case in zip(failed, found, strict=True) if not case.passed]
    assert all_passed(found), failed
    assert len({case.name for case in found}) == len(found)
    assert all(case.room == "simulators" and case.source for case in found)
