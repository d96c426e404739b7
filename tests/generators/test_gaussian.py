"""The linear part of the velocity against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.dynamics.flow import interpolate, target_velocity
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.samplers import heun, uniform_times
from loop.errors import InvalidInputError


def rows(m: int = 4000, n: int = 5, seed: int = 0) -> Tensor:
    """Correlated Gaussian rows (m, n), float64."""
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(n, n, generator=draws, dtype=torch.float64)
    offset = torch.randn(n, generator=draws, dtype=torch.float64)
    return torch.randn(m, n, generator=draws, dtype=torch.float64) @ mixing + offset


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def test_the_flow_carries_the_standard_normal_to_the_gaussian() -> None:
    """x_1 = m + Σ^½ x_0, the symmetric root (the optimal map between commuting Gaussians)."""
    x = rows()
    mean, covariance = moments(x)
    values, vectors = np.linalg.eigh(covariance.numpy())
    root = torch.from_numpy(vectors * np.sqrt(values) @ vectors.T)
    start = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    end = heun(GaussianVelocity.fit(x), start, uniform_times(2000).double())
    assert end.numpy() == pytest.approx((mean + start @ root).numpy(), abs=2e-5)


def test_no_linear_field_has_a_smaller_loss() -> None:
    """At a fixed time the best affine prediction of x_1 − ε from x_t is the least-squares one."""
    x = rows()
    draws = torch.Generator().manual_seed(2)
    velocity = GaussianVelocity.fit(x)
    for time in (0.1, 0.5, 0.9):
        t = torch.full((len(x),), time, dtype=torch.float64)
        noise = torch.randn(x.shape, generator=draws, dtype=torch.float64)
        state, wanted = interpolate(x, noise, t), target_velocity(x, noise)
        inputs = torch.cat([state, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
        best = inputs @ torch.linalg.lstsq(inputs, wanted).solution
        least = float((best - wanted).square().mean())
        found = float((velocity(state, t) - wanted).square().mean())
        # Least squares on m rows fits (n + 1)/m of the noise as well, and finds what chance gave.
        assert least <= found <= least * (1 + 4 * 6 / len(x) * 5)


def test_what_is_not_among_the_axes_has_the_mean_variance() -> None:
    x = rows()
    _, covariance = moments(x)
    values = np.linalg.eigvalsh(covariance.numpy())[::-1]
    few = GaussianVelocity.fit(x, rank=2)
    assert few.variance.numpy() == pytest.approx(values[:2], rel=1e-10)
    assert float(few.rest) == pytest.approx(values[2:].mean(), rel=1e-10)
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    exact = GaussianVelocity(
        few.mean, torch.eye(5, dtype=torch.float64), torch.full((5,), float(few.rest)), few.rest
    )
    state = torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    away = state - t[:, None] * few.mean
    away = away - away @ few.axes @ few.axes.T + t[:, None] * few.mean  # nothing along the axes
    assert few(away, t).numpy() == pytest.approx(exact(away, t).numpy(), rel=1e-6)


def test_constant_data_and_too_few_rows() -> None:
    constant = GaussianVelocity.fit(torch.ones(3, 4))
    t = torch.tensor([0.5])
    assert bool(torch.isfinite(constant(torch.zeros(1, 4), t)).all())
    with pytest.raises(InvalidInputError, match="1 rows were given"):
        GaussianVelocity.fit(torch.ones(1, 4))
