"""What ``spinodal verify simulators`` shows of tensors, voxels, transport and gradients."""

from __future__ import annotations

import pytest

from loop.verification import Case, all_passed
from simulators import transport, verification_transport


@pytest.fixture(scope="module")
def shown() -> list[Case]:
    return verification_transport.cases()


def test_every_case_passes(shown: list[Case]) -> None:
    assert all_passed(shown), [case for case in shown if not case.passed]


def test_cases_have_names_of_their_own_and_sources(shown: list[Case]) -> None:
    assert len({case.name for case in shown}) == len(shown) >= 30
    assert all(case.room == "simulators" and case.source for case in shown)


def test_a_wrong_solver_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusivities that are one per cent off in one phase fail where that phase matters."""

    def wrong(labels: object, values: list[float], **settings: object) -> transport.Transport:
        return transport.through_transport(labels, [*values[:-1], 1.01 * values[-1]], **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(verification_transport, "through_transport", wrong)
    missed = {case.name for case in verification_transport.cases() if not case.passed}
    assert "diffusivity, layers in series" in missed
    assert "tortuosity, slanted strip 20 x 21 x 21" not in missed  # a ratio: scale drops out
