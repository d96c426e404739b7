"""`spinodal verify generators`: the cases pass, and would not if the code were wrong."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from generators import verification
from generators.dynamics.flow import Velocity
from loop.verification import all_passed


def test_every_case_passes() -> None:
    cases = verification.cases()
    assert all_passed(cases)
    assert {case.room for case in cases} == {"generators"}
    assert len({case.name for case in cases}) == len(cases) >= 7
    assert all(case.source for case in cases)


def half_steps(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Heun's method with a slip of the pen: the second slope is taken at the first time."""
    for t, t_next in itertools.pairwise(times):
        h = t_next - t
        v = velocity(x, t.expand(len(x)))
        x = x + h / 2 * (v + velocity(x + h * v, t.expand(len(x))))
    return x


def swapped(unconditional: Velocity, conditional: Velocity, scale: float) -> Velocity:
    """The other convention: (1 + w) v_c − w v_∅ with w = s."""
    return lambda x, t: (1 + scale) * conditional(x, t) - scale * unconditional(x, t)


@pytest.mark.parametrize(
    ("name", "wrong", "fails"),
    [
        ("heun", half_steps, "order of heun"),
        ("classifier_free", swapped, "mean of the guided Gaussian, s = 1"),
        ("kl_to_standard_normal", lambda m, v: m**2 + v.exp() - v - 1, "KL of N(1, 0.25)"),
    ],
)
def test_a_wrong_formula_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: object, fails: str
) -> None:
    monkeypatch.setattr(verification, name, wrong)
    failed = [case.name for case in verification.cases() if not case.passed]
    assert any(fails in case for case in failed)


def test_the_exact_flow_is_the_one_of_its_velocity() -> None:
    """d/dt of the exact solution m t + √v_t x₀ is the velocity along it."""
    m, s, x0 = 2.0, 0.5, torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    velocity = verification.gaussian_velocity(m, s)

    def path(t: float) -> Tensor:
        return m * t + (t**2 * s**2 + (1 - t) ** 2) ** 0.5 * x0

    for t in (0.2, 0.5, 0.9):
        slope = (path(t + 1e-6) - path(t - 1e-6)) / 2e-6
        found = velocity(path(t), torch.full((5,), t, dtype=torch.float64))
        assert found.numpy() == pytest.approx(slope.numpy(), abs=1e-7)
    assert torch.equal(path(1.0), verification.gaussian_end(m, s, x0))
