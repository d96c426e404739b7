"""The samplers' part of `spinodal verify generators` would not pass if the code were wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from generators import verification_sampling
from generators.dynamics import elbo, parameterisation, samplers, stochastic
from generators.dynamics.schedules import Level
from generators.phase_law import PhaseLaw
from loop.verification import all_passed

Wrong = Callable[..., Any]
POSTERIOR = parameterisation.posterior
LANGEVIN = stochastic.langevin
LEVEL = PhaseLaw.level


def test_every_case_passes() -> None:
    cases = verification_sampling.cases()
    assert all_passed(cases)
    assert {case.room for case in cases} == {"generators"}
    assert len({case.name for case in cases}) == len(cases) == 8
    assert all(case.source for case in cases)


def half_variance(level: Level, previous: Level) -> Any:
    found = POSTERIOR(level, previous)
    return found._replace(variance=found.variance / 2)


def more_noise(
    score: Wrong, x: Tensor, t: float, step: float, repeats: int, *, noise: Wrong
) -> Tensor:
    """√η where √(2η) belongs, as if η were ε of Song & Ermon 2019, halved twice."""
    return LANGEVIN(score, x, t, step, repeats, noise=lambda y: noise(y) / math.sqrt(2))


def drawing(denoise: Wrong, x: Tensor, *given: Any, **named: Any) -> Tensor:
    """A deterministic sampler that draws all the same."""
    return samplers.ddim(denoise, x, *given, **named) + 1e-9 * torch.rand(len(x), 1)


def reversed_divergence(q: elbo.Gaussian, p: elbo.Gaussian) -> Tensor:
    ratio = p.variance / q.variance
    each = 0.5 * (ratio - ratio.log() - 1 + (q.mean - p.mean).square() / q.variance)
    return each.flatten(1).sum(1)


def level_from_below(law: PhaseLaw, shares: Any) -> Any:
    """A hundredth too low."""
    return LEVEL(law, shares) - 0.01


@pytest.mark.parametrize(
    ("module", "name", "wrong", "fails"),
    [
        (samplers, "posterior", half_variance, "order of ddpm"),
        (stochastic, "langevin", more_noise, "order of predictor_corrector"),
        (verification_sampling, "langevin", more_noise, "order of langevin"),
        (verification_sampling, "ddim", drawing, "DDIM with eta = 0, twice"),
        (elbo, "kl_divergence", reversed_divergence, "bound of a Gaussian diffusion"),
        (PhaseLaw, "level", level_from_below, "fractions from one law to another"),
    ],
)
def test_a_wrong_formula_is_found(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType | type, name: str, wrong: Wrong, fails: str
) -> None:
    monkeypatch.setattr(module, name, wrong)
    failed = [case.name for case in verification_sampling.cases() if not case.passed]
    assert any(fails in case for case in failed)
