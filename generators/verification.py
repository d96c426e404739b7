"""Exact answers for ``spinodal verify generators``: closed forms for Gaussian data.

For data N(m, s²) and the straight path x_t = (1 − t) ε + t x_1 the marginal velocity is affine,

    v(x, t) = m + c_t (x − t m) / v_t,  c_t = t s² − (1 − t),  v_t = t² s² + (1 − t)²,

and its flow carries the standard normal to N(m, s²): x_1 = m + s x_0 (Lipman et al. 2023).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from generators import (
    verification_adapters,
    verification_baselines,
    verification_dynamics,
    verification_regressor,
    verification_sampling,
    verification_students,
    verification_vae,
)
from generators.dynamics.flow import Velocity, classifier_free
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.samplers import euler, heun, uniform_times
from generators.networks.autoencoder import kl_to_standard_normal
from loop.verification import Case, absolute_case, relative_case

ROOM = "generators"


def gaussian_velocity(m: float, s: float) -> Velocity:
    """The exact marginal velocity for data N(m, s²)."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        variance = t**2 * s**2 + (1 - t) ** 2
        slope = (t * s**2 - (1 - t)) / variance
        return m + slope * (x - t * m)

    return velocity


def gaussian_end(m: float, s: float, x0: Tensor) -> Tensor:
    """Where the exact flow takes x0."""
    return m + s * x0


def observed_order(sampler: str, m: float = 2.0, s: float = 0.5) -> float:
    """Slope of log error over log step between 32 and 256 steps, float64."""
    x0 = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    exact = gaussian_end(m, s, x0)
    solve = {"euler": euler, "heun": heun}[sampler]
    errors = [
        float((solve(gaussian_velocity(m, s), x0, uniform_times(n).double()) - exact).abs().max())
        for n in (32, 256)
    ]
    return math.log(errors[0] / errors[1]) / math.log(256 / 32)


def guided_mean(scale: float) -> tuple[float, float]:
    """(found, exact) mean of the guided Gaussian of two Gaussians with equal s."""
    plain, conditional, s = -0.5, 1.5, 0.7
    velocity = classifier_free(
        gaussian_velocity(plain, s), gaussian_velocity(conditional, s), scale
    )
    x0 = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # symmetric: the mean starts at 0
    end = heun(velocity, x0, uniform_times(400).double())
    return float(end.mean()), plain + scale * (conditional - plain)


def correlated_end() -> tuple[float, float]:
    """(found, exact) covariance of two coordinates where the linear velocity takes noise."""
    draws = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    rows = torch.randn(500, 2, generator=draws, dtype=torch.float64) @ mixing.T + 1.0
    exact = torch.cov(rows.T, correction=0)
    start = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    end = heun(GaussianVelocity.fit(rows), start * 2**0.5, uniform_times(400).double())
    return float(torch.cov(end.T, correction=0)[0, 1]), float(exact[0, 1])


def cases() -> list[Case]:
    """Every exact check of the generators."""
    found = []
    kl = kl_to_standard_normal(torch.tensor([1.0]), torch.tensor([0.25]).log())
    found.append(
        relative_case(
            ROOM, "KL of N(1, 0.25) to N(0, 1)", 0.81815, float(kl), 1e-5, "Kingma & Welling 2014"
        )
    )
    for name, order in (("euler", 1.0), ("heun", 2.0)):
        found.append(
            absolute_case(
                ROOM, f"order of {name}", order, observed_order(name), 0.1, "exact Gaussian flow"
            )
        )
    x0 = torch.tensor([[1.3]], dtype=torch.float64)
    end = heun(gaussian_velocity(2.0, 0.5), x0, uniform_times(200).double())
    found.append(
        absolute_case(
            ROOM,
            "flow end point on N(2, 0.25)",
            float(gaussian_end(2.0, 0.5, x0)),
            float(end),
            1e-4,
            "exact Gaussian flow",
        )
    )
    computed, exact = correlated_end()
    found.append(
        absolute_case(
            ROOM,
            "covariance by the linear part of the velocity",
            exact,
            computed,
            1e-4,
            "flow of N(m, S): x = m + S^1/2 x0",
        )
    )
    for scale in (0.0, 1.0, 3.0):
        computed, exact = guided_mean(scale)
        found.append(
            absolute_case(
                ROOM,
                f"mean of the guided Gaussian, s = {scale:g}",
                exact,
                computed,
                1e-3,
                "Ho & Salimans 2022, equal variances",
            )
        )
    for room in (
        verification_dynamics,
        verification_sampling,
        verification_vae,
        verification_adapters,
        verification_students,
        verification_regressor,
        verification_baselines,
    ):
        found += room.cases()
    return found
