"""Likelihoods against closed forms: flows of Gaussians, linear VAEs, diffusion of Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from generators.dynamics import ode
from generators.dynamics.gaussian import GaussianVelocity
from generators.dynamics.likelihood import (
    bits_per_dimension,
    exact_divergence,
    flow_log_likelihood,
    hutchinson,
    log_normal,
    ode_log_likelihood,
)
from generators.dynamics.parameterisation import field_of, probability_flow
from generators.dynamics.schedules import EDM, VP, Straight
from loop.errors import InvalidInputError
from tests.generators import gaussians
from tests.generators.gaussians import DOUBLE, numbers, scalar

MEAN = numbers(2.0, -1.0, 0.5)
ROOT = torch.tensor([[0.5, 0.1, 0.0], [0.1, 1.2, -0.3], [0.0, -0.3, 0.8]], dtype=DOUBLE)
DATA = gaussians.Gaussian(MEAN, ROOT @ ROOT)
ROWS = MEAN + torch.randn(5, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) @ ROOT
LOG_P = stats.multivariate_normal(MEAN.numpy(), (ROOT @ ROOT).numpy()).logpdf(ROWS.numpy())

# By the flow


def test_the_likelihood_of_a_probability_flow_is_the_normal() -> None:
    """log N(x_0; m, s²) for the flow with β = 1 to t = 5, within the solver's tolerance."""
    data, path = scalar(2.0, 0.25), VP(1.0, 1.0)
    x = numbers(3.1, 2.0, 0.4)[:, None]
    centre, variance = (float(part) for part in data.marginal(path, 5.0))
    found = ode_log_likelihood(
        probability_flow(data.score(path), path),
        x,
        data=0.0,
        noise=5.0,
        log_prior=lambda y: log_normal(y, centre, variance),
        tolerance=1e-9,
    )
    assert found.numpy() == pytest.approx(stats.norm(2, 0.5).logpdf(x.numpy())[:, 0], abs=1e-7)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_the_likelihood_of_flow_matching(tolerance: float) -> None:
    values, axes = torch.linalg.eigh(ROOT @ ROOT)
    velocity = GaussianVelocity(MEAN, axes, values, numbers(1.0))
    found = flow_log_likelihood(velocity, ROWS, tolerance=tolerance)
    assert found.numpy() == pytest.approx(LOG_P, abs=30 * tolerance)


def test_the_likelihood_on_the_variance_exploding_path() -> None:
    """From σ = 0.001 to 80: the data's own normal widened by 0.001²."""
    velocity = probability_flow(DATA.score(EDM()), EDM())
    centre, covariance = DATA.marginal(EDM(), 80.0)
    normal = torch.distributions.MultivariateNormal(centre, covariance)
    found = ode_log_likelihood(
        velocity, ROWS, data=0.001, noise=80.0, log_prior=normal.log_prob, tolerance=1e-8
    )
    assert found.numpy() == pytest.approx(LOG_P, abs=1e-4)


def wild(x: Tensor, t: Tensor) -> Tensor:
    """A field whose Jacobian is full: (b, 2, 3)."""
    flat = x.flatten(1)
    mixed = torch.sin(flat.roll(1, 1)) * flat + 0.3 * flat.cumsum(1) ** 2 * t[:, None]
    return mixed.reshape(x.shape)


def test_the_exact_divergence_is_the_trace_of_the_jacobian() -> None:
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    t = numbers(0.1, 0.4, 0.6, 0.9)
    v, divergence = exact_divergence(wild, x, t)
    assert torch.equal(v, wild(x, t))
    for i in range(4):

        def one(row: Tensor, i: int = i) -> Tensor:
            return wild(row.reshape(1, 2, 3), t[i : i + 1]).flatten()

        jacobian = torch.autograd.functional.jacobian(one, x[i].flatten())
        assert isinstance(jacobian, Tensor)
        assert float(divergence[i]) == pytest.approx(float(jacobian.trace()), abs=1e-12)


def test_a_field_that_ignores_its_state_has_no_divergence() -> None:
    t = torch.zeros(5, dtype=DOUBLE)
    for found in (
        exact_divergence(lambda x, _: torch.ones_like(x), ROWS, t),
        hutchinson(ROWS, torch.Generator())(lambda x, _: torch.ones_like(x), ROWS, t),
    ):
        assert found[1].tolist() == [0] * 5


def test_hutchinson_is_unbiased_with_its_stated_variance() -> None:
    """x ↦ A x: trace A, variance 2 Σ_{i≠j} S_ij² a probe; five standard errors of n = 4,000."""
    a = torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.5, 0.3], [0.7, 0.1, -2.0]], dtype=DOUBLE)
    symmetric = (a + a.T) / 2
    off = symmetric - torch.diag(symmetric.diagonal())
    x, t = torch.zeros(4000, 3, dtype=DOUBLE), torch.zeros(4000, dtype=DOUBLE)
    for probes in (1, 4):
        estimate = hutchinson(x, torch.Generator().manual_seed(2), probes=probes)
        found = estimate(lambda y, _: y @ a.T, x, t)[1].numpy()
        variance = float(2 * off.square().sum() / probes)
        assert abs(found.mean() - float(a.trace())) < 5 * math.sqrt(variance / 4000)
        # the fourth moment of a sum of three signs' products is below 4 variances squared
        assert found.var() == pytest.approx(variance, rel=5 * math.sqrt(4 / 4000))


def test_hutchinson_follows_its_seed_and_is_exact_where_it_can_be() -> None:
    """A diagonal Jacobian has no variance at all; with axes turned a seed gives one answer."""
    x = ROWS

    def found(seed: int) -> Tensor:
        trace = hutchinson(x, torch.Generator().manual_seed(seed), probes=2)
        velocity = field_of(DATA.denoiser(Straight()), "flow", Straight())
        return ode_log_likelihood(velocity, x, data=0.99, noise=0.01, divergence=trace)

    assert torch.equal(found(0), found(0))
    assert not torch.equal(found(0), found(1))
    data = gaussians.Gaussian(MEAN, torch.diag(numbers(0.3, 1.0, 2.0)))
    path = VP()
    velocity = probability_flow(data.score(path), path)
    exact, estimate = (
        ode_log_likelihood(velocity, x, data=0.0, noise=1.0, divergence=d, tolerance=1e-7)
        for d in (exact_divergence, hutchinson(x, torch.Generator().manual_seed(0)))
    )
    assert torch.allclose(exact, estimate, atol=1e-6)


def test_the_mean_over_seeds_of_hutchinson_is_the_likelihood() -> None:
    """One batch of n copies with own probes; five standard errors, estimated from them."""
    n = 400
    x = ROWS[:1].expand(n, 3).contiguous()
    values, axes = torch.linalg.eigh(ROOT @ ROOT)
    velocity = GaussianVelocity(MEAN, axes, values, numbers(1.0))
    trace = hutchinson(x, torch.Generator().manual_seed(3))
    found = flow_log_likelihood(velocity, x, divergence=trace, tolerance=1e-6).numpy()
    assert found.std() > 0
    assert abs(found.mean() - LOG_P[0]) < 5 * found.std() / math.sqrt(n)


def test_no_probes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="0 probes"):
        hutchinson(ROWS, torch.Generator(), probes=0)


def test_probes_for_other_rows_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"probes for states \(5, 3\), states \(2, 3\)"):
        flow_log_likelihood(
            lambda x, _: x, ROWS[:2], divergence=hutchinson(ROWS, torch.Generator())
        )


def test_a_field_that_runs_away_is_refused_with_its_times() -> None:
    with pytest.raises(InvalidInputError, match="between t = 1 and 0"):
        flow_log_likelihood(lambda x, _: 9 * x**2, ROWS)


def test_an_integration_that_does_not_advance_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ode, "MOST_EVALUATIONS", 500)
    with pytest.raises(InvalidInputError, match=r"after 500 evaluations; loosen the tolerance"):
        flow_log_likelihood(lambda x, t: (1e5 * t[:, None]).cos() * 1e5 + 0 * x, ROWS[:1, :1])


def test_float32_images_have_a_likelihood_too() -> None:
    """Standard normal data on the straight path: v = (2 t − 1)/(t² + (1 − t)²) x."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return ((2 * t - 1) / (t**2 + (1 - t) ** 2))[:, None, None, None] * x

    x = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(4))
    found = flow_log_likelihood(velocity, x)
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(log_normal(x).numpy(), abs=1e-3)


def test_bits_per_dimension() -> None:
    """Uniform on 256 values: 8 bits, from probabilities and from the density on [−1, 1]."""
    assert float(bits_per_dimension(numbers(-3 * math.log(256)), 3)) == pytest.approx(8)
    density = numbers(3 * math.log(0.5 * 255 / 256))
    found = float(bits_per_dimension(density, 3, bin_width=2 / 255))
    assert found == pytest.approx(8, abs=1e-12)
