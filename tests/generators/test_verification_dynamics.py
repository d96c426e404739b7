"""The dynamics' part of `spinodal verify generators` would not pass if the code were wrong."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from generators import verification_dynamics
from generators.dynamics import elbo, guidance, objectives, parameterisation, samplers, stochastic
from generators.dynamics.schedules import Discrete, Level
from loop.verification import all_passed

Wrong = Callable[..., Any]
POSTERIOR = parameterisation.posterior
STEP = stochastic._reverse_step


def test_every_case_passes() -> None:
    cases = verification_dynamics.cases()
    assert all_passed(cases)
    assert {case.room for case in cases} == {"generators"}
    assert len({case.name for case in cases}) == len(cases) >= 35
    assert all(case.source for case in cases)


def swapped_products(level: Level, previous: Level) -> parameterisation.Posterior:
    """√ᾱ_s where √α belongs."""
    found = POSTERIOR(level, previous)
    ratio = level.signal / previous.signal
    return found._replace(of_x=found.of_x / ratio * previous.signal)


def outside_the_root(level: Level, previous: Level) -> parameterisation.Posterior:
    """β √((1 − ᾱ_s)/(1 − ᾱ_t)) for the deviation."""
    found = POSTERIOR(level, previous)
    beta = 1 - (level.signal / previous.signal) ** 2
    return found._replace(variance=found.variance * beta)


def off_by_one(self: Discrete, t: Tensor) -> Level:
    """ᾱ without its leading 1: index 0 is t = 1."""
    a = self.alpha_bar[(t.long() + 1).clamp(max=self.steps)]
    return Level(a.sqrt(), (1 - a).sqrt())


def turned_sign(score: Wrong, *others: Any) -> Tensor:
    return STEP(lambda x, t: -score(x, t), *others)


def other_convention(fields: Wrong, weights: list[float], **_: Any) -> Wrong:
    def guided(x: Tensor, t: Tensor) -> Tensor:
        base, *others = fields(x, t)
        pairs = zip(weights, others, strict=True)
        return base + sum((1 + w) * (o - base) for w, o in pairs)

    return guided


def reversed_share(level: Level) -> Tensor:
    return 1 - level.noise


def square_signal(x0: Tensor, epsilon: Tensor, level: Level) -> Tensor:
    """ᾱ in place of √ᾱ."""
    signal, noise = level.like(x0)
    return signal**2 * x0 + noise * epsilon


def no_logarithm(q: elbo.Gaussian, p: elbo.Gaussian) -> Tensor:
    return 0.5 * ((q.variance - 1 + q.mean**2) * torch.ones_like(p.mean)).sum(1)


@pytest.mark.parametrize(
    ("module", "name", "wrong", "part", "fails"),
    [
        (samplers, "posterior", swapped_products, "ancestral", "variance by the ancestral"),
        (samplers, "posterior", outside_the_root, "ancestral", "variance by the ancestral"),
        (Discrete, "level", off_by_one, "schedules", "posterior at t = 1, weight of x_t"),
        (Discrete, "level", off_by_one, "samples", "data from exact noise on a sub-grid"),
        (stochastic, "_reverse_step", turned_sign, "stochastic", "variance of the reverse SDE"),
        (verification_dynamics, "compose", other_convention, "guidance", "two conditions"),
        (verification_dynamics, "compose", other_convention, "guidance", "joint batch"),
        (guidance, "noise_share", reversed_share, "guidance", "scheduled guidance at noise"),
        (objectives, "noised", square_signal, "losses", "floor of the simple loss"),
        (elbo, "kl_divergence", no_logarithm, "likelihoods", "bound of a linear VAE"),
    ],
)
def test_a_wrong_formula_is_found(
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
    wrong: Wrong,
    part: str,
    fails: str,
) -> None:
    monkeypatch.setattr(module, name, wrong)
    failed = [case.name for case in getattr(verification_dynamics, f"_{part}")() if not case.passed]
    assert any(fails in case for case in failed)


def test_laws_are_exact() -> None:
    """x ↦ x/2 + z + z' of N(3, 8): mean 1.5, variance 2 + 2."""

    def run(x: Tensor, noise: samplers.Noise) -> Tensor:
        return x / 2 + noise(x) + noise(x)

    assert verification_dynamics.law(run, 2, 3.0, 8.0) == pytest.approx((1.5, 4.0))
