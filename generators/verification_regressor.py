"""``spinodal verify generators``: guidance by a regressor of noised states, on Gaussian data.

For data N(m, s²) and the property y = x_1 + e, Var e = r, everything is known. At
x_t = (1 − t) ε + t x_1 the property has, with g = t s²/(t² s² + (1 − t)²), the mean
m + g (x_t − t m) and the variance r + (1 − t g) s²; the data given y are normal again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.readout import GaussianReadout
from generators.dynamics.samplers import heun, uniform_times
from generators.networks.regressor import RegressorSettings
from generators.noisy_regressor import LEAST_SPREAD, NoisyRegressor, Request, led_velocity
from loop.verification import Case, absolute_case, relative_case

ROOM = "generators"
M, S, R = 0.5, 0.8, 0.3  # of the data, and the variance of what the property has besides
ASKED = 1.6
BAYES = "Dhariwal & Nichol 2021, section 4.1; conditioning of Gaussians"


def _law() -> GaussianVelocity:
    one = torch.ones(1, 1)
    return GaussianVelocity(M * one[0], one, S * S * one[0], S * S * one[0])


def _request(n: int) -> Request:
    """For ASKED of n states, by the exact regressor before any training."""
    # The spread that every regressor has besides is part of R.
    rest = torch.tensor([[R - LEAST_SPREAD**2]])
    readout = GaussianReadout(_law(), torch.tensor([M]), torch.tensor([[S]]), rest)
    with torch.random.fork_rng(devices=[]):
        regressor = NoisyRegressor.create(
            readout,
            RegressorSettings(width=8, depth=1, heads=1, channels=8),
            latent_shape=None,
            vector_sizes=(1,),
            patch=1,
            device="cpu",
        )
    everything = torch.ones(n, 1, dtype=torch.bool)
    return Request(regressor, torch.full((n, 1), ASKED), everything)


def _slope(x: float, t: float) -> float:
    """∂/∂x log p(y | x_t)."""
    state = torch.tensor([[x]], requires_grad=True)
    (found,) = torch.autograd.grad(
        _request(1).on_straight_path(state, torch.tensor([t])).sum(), state
    )
    return float(found)


def _exact_slope(x: float, t: float) -> float:
    gain = t * S**2 / (t**2 * S**2 + (1 - t) ** 2)
    return gain * (ASKED - M - gain * (x - t * M)) / (R + (1 - t * gain) * S**2)


def _led_law() -> tuple[float, float]:
    """Mean and variance of samples led to ASKED: the sampler is affine, so two points show them."""
    start: Tensor = torch.tensor([[-1.0], [1.0]])
    end = heun(led_velocity(_law(), _request(2), 1.0), start, uniform_times(200))
    return float(end.mean()), float(end.var(correction=0))


def cases() -> list[Case]:
    share = S**2 / (S**2 + R)
    mean, variance = _led_law()
    return [
        relative_case(
            ROOM,
            "regressor: gradient of log p(y | x_t)",
            _exact_slope(0.2, 0.6),
            _slope(0.2, 0.6),
            1e-4,
            BAYES,
        ),
        absolute_case(
            ROOM, "regressor: mean of led samples", M + share * (ASKED - M), mean, 1e-3, BAYES
        ),
        absolute_case(ROOM, "regressor: variance of led samples", share * R, variance, 1e-3, BAYES),
    ]
