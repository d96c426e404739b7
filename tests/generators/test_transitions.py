"""Ancestral steps of the best covariance against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from generators.dynamics import samplers
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.transitions import Residual, posterior_variance, transitions
from loop.errors import InvalidInputError

DOUBLE = torch.float64
N = 200_000


def gaussian(variance: list[float], of: int | None = None) -> GaussianVelocity:
    """N(m, U Λ Uᵀ + rest) in ``of`` dimensions, whose axes are no coordinate axes."""
    d = of or len(variance)
    stream = torch.Generator().manual_seed(1)
    axes = torch.linalg.qr(torch.randn(d, d, generator=stream, dtype=DOUBLE))[0]
    mean = torch.linspace(-1.0, 2.0, d, dtype=DOUBLE)
    some = axes[:, : len(variance)].contiguous()
    rest = torch.tensor([0.3], dtype=DOUBLE)
    return GaussianVelocity(mean, some, torch.tensor(variance, dtype=DOUBLE), rest)


def covariance_of(law: GaussianVelocity) -> Tensor:
    d = len(law.mean)
    along = law.axes @ torch.diag(law.variance - law.rest) @ law.axes.T
    return along + law.rest * torch.eye(d, dtype=DOUBLE)


def law_of_the_end(law: GaussianVelocity, t: float) -> Tensor:
    """Cov E(x_1 | x_t)."""
    left = law.variance - posterior_variance(law.variance, t)
    rest = law.rest - posterior_variance(law.rest, t)
    return covariance_of(GaussianVelocity(law.mean, law.axes, left, rest))


def rows(law: GaussianVelocity, n: int, seed: int = 0) -> Tensor:
    """n draws of the Gaussian."""
    stream = torch.Generator().manual_seed(seed)
    z = torch.randn(n, len(law.mean), generator=stream, dtype=DOUBLE)
    return law.mean + z @ torch.linalg.cholesky(covariance_of(law)).T


def exact(law: GaussianVelocity, times: int = 12) -> Residual:
    ones = torch.ones(times, len(law.variance), dtype=DOUBLE)
    return Residual(ones, torch.ones(times, dtype=DOUBLE))


@pytest.mark.parametrize("steps", [2, 3, 24])
def test_any_number_of_steps_gives_a_gaussian_exactly(steps: int) -> None:
    """Mean and covariance, beyond the axes too, where plain ancestral steps have too little.

    The last step ends at x̂_1 and so at Cov(x̂_1) = Σ - Var(x_1 | x_t), whatever was before it.
    """
    law = gaussian([9.0, 1.0, 0.04], of=5)
    noise = torch.randn(N, 5, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    found = transitions(law, noise, steps, law, exact(law))
    expected = law_of_the_end(law, 1 - 1 / steps)
    spread = expected.diagonal().sqrt()
    mean_error = (found.mean(0) - law.mean).abs() / spread * math.sqrt(N)
    assert float(mean_error.max()) < 4.5
    # Of a sample covariance of normals: variance (Σ_ii Σ_jj + Σ_ij²)/n.
    error = found.T.cov() - expected
    scatter = ((torch.outer(spread, spread).square() + expected.square()) / N).sqrt()
    assert float((error / scatter).abs().max()) < 4.5
    plain = samplers.ancestral(law, noise, steps).T.cov() - expected
    along = law.axes[:, 0]
    assert float(along @ plain @ along) < -6 * 9.0 * math.sqrt(2 / N)


def test_a_gaussian_has_the_ratio_one() -> None:
    law = gaussian([9.0, 1.0, 0.04], of=5)
    found = Residual.of(law, law, rows(law, 20_000), torch.Generator().manual_seed(5))
    scatter = math.sqrt(2 / 20_000)  # of a mean square of normals
    assert found.along.shape == (12, 3)
    assert float((found.along - 1).abs().max()) < 4.5 * scatter
    assert float((found.rest - 1).abs().max()) < 4.5 * scatter / math.sqrt(2)


def test_what_a_network_is_wrong_by_counts() -> None:
    """A velocity off by δ along an axis: x̂_1 is off by (1 − t) δ, E e² grows by its square."""
    law, delta = gaussian([2.0, 0.5]), 1.5

    def wrong(x: Tensor, t: Tensor) -> Tensor:
        return law(x, t) + delta * law.axes[:, 1]

    n = 20_000
    found = Residual.of(wrong, law, rows(law, n), torch.Generator().manual_seed(5), steps=4)
    for i, t in enumerate((0.0, 0.25, 0.5, 0.75)):
        least = posterior_variance(law.variance, t)
        along, _ = found.variance(law, t)
        off = ((1 - t) * delta) ** 2
        assert torch.equal(along, found.along[i] * least)
        assert float(along[0]) == pytest.approx(float(least[0]), rel=4.5 * math.sqrt(2 / n))
        scatter = math.sqrt((2 * float(least[1]) ** 2 + 4 * off * float(least[1])) / n)
        assert float(along[1]) == pytest.approx(float(least[1]) + off, abs=4.5 * scatter)


def test_between_two_times_the_ratio_is_between() -> None:
    law = gaussian([2.0, 0.5])
    table = Residual(torch.tensor([[1.0, 1.0], [0.5, 0.2]]).double(), torch.ones(2, dtype=DOUBLE))
    for t, ratio in ((0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.9, 0.5)):
        along, _ = table.variance(law, t)
        least = posterior_variance(law.variance, t)
        assert float(along[0] / least[0]) == pytest.approx(ratio)
    alone = Residual(torch.full((1, 2), 0.5, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    assert float(alone.variance(law, 0.0)[0][0]) == pytest.approx(1.0)


def test_the_marginal_of_the_posterior_is_the_prior() -> None:
    """Var(x_1) = E Var(x_1 | x_t) + Var E(x_1 | x_t), whose slope in x_t is tλ/(t²λ + σ²)."""
    variance = torch.tensor([3.0, 0.1], dtype=DOUBLE)
    for t in (0.0, 0.3, 0.9):
        seen = t * t * variance + (1 - t) ** 2
        explained = (t * variance).square() / seen
        assert torch.allclose(posterior_variance(variance, t) + explained, variance)


def test_one_noise_gives_one_sample() -> None:
    law = gaussian([9.0, 1.0])
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = [transitions(law, x, 6, law, exact(law)) for x in (noise, noise.clone(), noise + 0.1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_no_states_are_refused() -> None:
    law = gaussian([9.0, 1.0])
    with pytest.raises(InvalidInputError, match="no states were given"):
        Residual.of(law, law, torch.zeros(0, 2, dtype=DOUBLE), torch.Generator())
