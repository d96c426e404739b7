"""The bound of VAEs and of diffusion models, by one code, against closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from generators.dynamics import schedules
from generators.dynamics.elbo import (
    Diffusion,
    Gaussian,
    Hierarchy,
    Variational,
    bernoulli_decoder,
    categorical_decoder,
    elbo,
    gaussian_decoder,
    kl_divergence,
    quantised_decoder,
)
from generators.dynamics.parameterisation import posterior
from generators.dynamics.samplers import standard_normal
from generators.dynamics.schedules import EDM, Path
from generators.networks.autoencoder import Autoencoder, kl_to_standard_normal
from tests.generators.gaussians import DOUBLE, numbers, scalar

ROWS = torch.randn(5, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))


def test_the_printed_divergence() -> None:
    """KL(N(1, 0.25) ‖ N(0, 1)) = 0.81815; the same as the autoencoder's."""
    q, p = Gaussian(numbers(1.0)[:, None], numbers(0.25)), Gaussian(torch.zeros(1, 1), numbers(1.0))
    found = float(kl_divergence(q, p))
    assert found == pytest.approx(0.81815, abs=5e-6)
    same = kl_to_standard_normal(numbers(1.0), numbers(0.25).log())
    assert found == pytest.approx(float(same), rel=1e-12)


def test_divergences_against_the_library() -> None:
    draws = torch.Generator().manual_seed(5)
    m, n = torch.randn(2, 4, 3, 2, generator=draws, dtype=DOUBLE)
    v, w = torch.rand(2, 4, 3, 2, generator=draws, dtype=DOUBLE) + 0.1
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(m, v.sqrt()), torch.distributions.Normal(n, w.sqrt())
    )
    found = kl_divergence(Gaussian(m, v), Gaussian(n, w))
    assert torch.allclose(found, expected.sum((1, 2)))


def sigma_points(rows: int, dimensions: int) -> Tensor:
    """(2 d rows, d) symmetric points: exact means of quadratics of a standard normal."""
    eye = torch.eye(dimensions, dtype=DOUBLE) * math.sqrt(dimensions)
    return torch.cat([eye, -eye]).repeat(rows, 1)


def test_a_linear_vae_with_its_exact_posterior_has_no_gap() -> None:
    """x = W z + b + σ n, q = N(M⁻¹ Wᵀ (x − b), σ² M⁻¹): the ELBO is log N(x; b, W Wᵀ + σ² I).

    The columns of W are orthogonal (any W is, up to a rotation of z), so that q is diagonal.
    """
    draws = torch.Generator().manual_seed(6)
    u, s, _ = torch.linalg.svd(
        torch.randn(5, 2, generator=draws, dtype=DOUBLE), full_matrices=False
    )
    w, b, sigma2 = u * s, torch.randn(5, generator=draws, dtype=DOUBLE), 0.3
    x = torch.randn(4, 5, generator=draws, dtype=DOUBLE)
    m = w.T @ w + sigma2 * torch.eye(2).double()

    def encode(y: Tensor, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        mean = torch.linalg.solve(m, w.T @ (y - b).T).T
        return mean, (factor * sigma2 * torch.linalg.inv(m).diagonal()).log().expand_as(mean)

    decoder = gaussian_decoder(lambda z: z @ w.T + b, sigma2)
    points = sigma_points(4, 2)
    repeated = x.repeat_interleave(4, dim=0)
    bound = elbo(Variational(encode, decoder), repeated, lambda _: points)
    covariance = (w @ w.T + sigma2 * torch.eye(5).double()).numpy()
    exact = stats.multivariate_normal(b.numpy(), covariance).logpdf(x.numpy())
    assert (-bound.total).reshape(4, 4).mean(1).numpy() == pytest.approx(exact, abs=1e-10)
    assert bound.layers.shape == (0, 16)
    # any other q is worse by KL(q ‖ posterior): here of a variance k times too wide
    wide = elbo(Variational(lambda y: encode(y, 1.7), decoder), repeated, lambda _: points)
    gap = 2 * 0.5 * (1.7 - 1 - math.log(1.7))
    found = (-wide.total).reshape(4, 4).mean(1).numpy()
    assert found == pytest.approx(exact - gap, abs=1e-10)


def gaussian_diffusion(
    m: float, s2: float, times: Tensor, path: Path, prior: float = 1.0
) -> Diffusion:
    """With the optimal denoiser, and at the end the exact p(x_0 | z_1)."""
    data = scalar(m, s2)
    a, s = (float(part) for part in path.level(times[-1]))
    left = s2 * s**2 / (a**2 * s2 + s**2)
    last = times[-1]

    def mean(z: Tensor) -> Tensor:
        return data.denoiser(path)(z, last.expand(len(z)))

    return Diffusion(data.denoiser(path), path, times, gaussian_decoder(mean, left), prior)


@pytest.mark.parametrize("steps", [20, 1000])
def test_the_bound_of_gaussian_diffusion_has_its_closed_form(steps: int) -> None:
    """L_t = w² Var(x_0 | x_t)/(2 σ̃²) in the mean over data; L_T, L_0 by hand.

    n = 1,000 draws of the data and the latents: five standard errors of each layer's mean, the
    term a χ² with one degree of freedom, are 5 √(2/n) of it.
    """
    m, s2, n = 2.0, 0.25, 1000
    path = schedules.linear()
    times = path.times(steps)[:-1]
    draws = torch.Generator().manual_seed(7)
    x = m + math.sqrt(s2) * torch.randn(n, 1, generator=draws, dtype=DOUBLE)
    bound = elbo(gaussian_diffusion(m, s2, times, path), x, standard_normal(draws))
    level = path.level(times)
    left = s2 * level.noise**2 / (level.signal**2 * s2 + level.noise**2)
    pairs = [posterior(path.level(t), path.level(s)) for t, s in itertools.pairwise(times)]
    exact = numbers(*(float(p.of_x0**2 / (2 * p.variance)) for p in pairs)) * left[:-1]
    assert bound.layers.shape == (steps - 1, n)
    ratio = bound.layers.mean(1) / exact
    # of a thousand layers the worst is expected near 3.3 standard errors
    assert float((ratio - 1).abs().max()) < 5 * math.sqrt(2 / n)
    last = 0.5 * math.log(2 * math.pi * math.e * float(left[-1]))
    assert float(bound.reconstruction.mean()) == pytest.approx(last, abs=5 / math.sqrt(2 * n))
    bar = float(path.alpha_bar[-1])
    terminal = 0.5 * (bar * x**2 - bar - math.log(1 - bar))
    assert bound.prior.numpy() == pytest.approx(terminal[:, 0].numpy(), rel=1e-9)


def test_the_bound_tightens_with_the_steps_and_stays_a_bound() -> None:
    """−ELBO exceeds the entropy of the data in the mean, by an amount that falls as 1/steps.

    On a grid even in log σ. The data's own draw is taken out by their exact log-density.
    """
    x = 2 + 0.5 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(8), dtype=DOUBLE)
    exact = stats.norm(2, 0.5).logpdf(x.numpy()).mean()
    steps, gaps = [40, 80, 160], []
    for n in steps:
        times = torch.logspace(math.log10(80), -2, n, dtype=DOUBLE)
        model = gaussian_diffusion(2.0, 0.25, times, EDM(), 6400.0)
        bound = elbo(model, x, standard_normal(torch.Generator().manual_seed(9)))
        gaps.append(float(bound.total.mean()) + exact)
    assert gaps[0] > gaps[1] > gaps[2] > 0
    slope = np.polyfit(np.log(np.array(steps) - 1), np.log(gaps), 1)[0]
    assert slope == pytest.approx(-1, abs=0.2)


def test_the_terminal_divergence_has_its_printed_figure() -> None:
    """2.018e-5 nats a dimension at x_0² = 1."""
    path = schedules.linear()
    model = Diffusion(lambda x, _: x, path, path.times()[:-1], gaussian_decoder(lambda z: z, 1.0))
    q, p = model.top(torch.ones(1, 7, dtype=DOUBLE))
    assert float(kl_divergence(q, p)) / 7 == pytest.approx(2.018e-5, rel=1e-4)


def test_vae_and_diffusion_are_counted_by_the_same_code() -> None:
    """A diffusion of one latent is the VAE whose encoder is the noising: equal in every draw."""
    path = schedules.linear()
    time = numbers(700)
    level = path.level(time)
    decoder = gaussian_decoder(lambda z: 0.4 * z + 1, 0.6)
    x = ROWS

    def encode(y: Tensor) -> tuple[Tensor, Tensor]:
        mean = float(level.signal) * y
        return mean, (level.noise**2).log().expand_as(mean)

    models: list[Hierarchy] = [
        Variational(encode, decoder),
        Diffusion(lambda y, _: y, path, time, decoder),
    ]
    bounds = [elbo(model, x, standard_normal(torch.Generator().manual_seed(0))) for model in models]
    assert torch.allclose(bounds[0].total, bounds[1].total, atol=1e-12)
    found = bounds[0].bits_per_dimension(3)
    assert torch.allclose(found, bounds[0].total / (3 * math.log(2)))


def test_an_autoencoder_of_labels_has_a_bound_in_bits() -> None:
    """Untrained and decoding to equal logits: log2 of the phases a pixel, and the divergence."""
    torch.manual_seed(0)
    network = Autoencoder(3, latent_channels=2, width=8)
    labels = torch.randint(3, (2, 16, 16), generator=torch.Generator().manual_seed(1))
    flat = categorical_decoder(lambda z: torch.zeros(len(z), 3, 16, 16))
    noise = standard_normal(torch.Generator().manual_seed(2))
    with torch.no_grad():
        bound = elbo(Variational(network.encode, flat), labels, noise)
        mean, log_variance = network.encode(labels)
    assert bound.reconstruction.numpy() == pytest.approx(256 * math.log(3), rel=1e-6)
    expected = kl_to_standard_normal(mean, log_variance).sum((1, 2, 3))
    assert torch.allclose(bound.prior, expected, rtol=1e-5)
    bits = bound.bits_per_dimension(256)
    assert bool((bits > math.log2(3)).all())


# Decoders


def test_quantised_probabilities_sum_to_one_and_are_the_bins_of_a_normal() -> None:
    """On 256 values in [−1, 1], also for means outside; the printed likelihood term at t = 1."""
    values = torch.linspace(-1, 1, 256, dtype=DOUBLE)[:, None]
    edges = np.concatenate([[-np.inf], (values[1:, 0] + values[:-1, 0]).numpy() / 2, [np.inf]])
    for mean, variance in ((0.1, 0.01), (-0.9, 0.5), (1.3, 0.2)):
        decoder = quantised_decoder(lambda z: z, variance)
        found = decoder(values, torch.full_like(values, mean)).exp().numpy()
        expected = np.diff(stats.norm(mean, math.sqrt(variance)).cdf(edges))
        assert found == pytest.approx(expected, abs=2e-12)
        assert found.sum() == pytest.approx(1, abs=1e-9)


def test_decoders_of_discrete_data_against_the_library() -> None:
    draws = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 3, 5, 5, generator=draws)
    labels = torch.randint(3, (4, 5, 5), generator=draws)
    found = categorical_decoder(lambda _: logits)(labels, logits)
    expected = torch.distributions.Categorical(logits=logits.permute(0, 2, 3, 1)).log_prob(labels)
    assert torch.allclose(found, expected.sum((1, 2)), rtol=1e-5)
    grey = (logits > 0).float()
    found = bernoulli_decoder(lambda _: logits)(grey, logits)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(grey)
    assert torch.allclose(found, expected.sum((1, 2, 3)), rtol=1e-5)


def test_a_vae_has_one_layer() -> None:
    model = Variational(lambda x: (x, x), gaussian_decoder(lambda z: z, 1.0))
    with pytest.raises(IndexError, match="one layer"):
        model.layer(2, ROWS, ROWS)
