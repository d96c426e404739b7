"""Exact answers for the autoencoders: a linear-Gaussian model has its likelihood in closed form.

For x = W z + m + σ n with z ~ N(0, 1), log p(x) = log N(x; m, W Wᵀ + σ²) and the posterior is
N(M⁻¹ Wᵀ (x − m), σ² M⁻¹), M = Wᵀ W + σ² (Tipping & Bishop 1999). With that posterior the ELBO is
the likelihood; with any other q it is smaller by KL(q ‖ posterior).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from generators.dynamics.elbo import Gaussian, Variational, elbo, kl_divergence
from generators.networks.vector_vae import PrincipalComponents, VectorVAE
from generators.networks.vq import VectorQuantiser
from generators.training.losses import discriminator_loss, free_bits, two_point, warm_up
from loop.statistics import two_point_radial
from loop.verification import Case, absolute_case, relative_case

ROOM = "generators"


def sigma_points(rows: int, dimensions: int) -> Tensor:
    """(2 q · rows, q): ± √q along each axis; means of quadratics over them are those of N(0, 1)."""
    axes = math.sqrt(dimensions) * torch.eye(dimensions, dtype=torch.float64)
    return torch.cat([axes, -axes]).repeat_interleave(rows, 0)


def linear_model(size: int = 6, latent: int = 2) -> tuple[VectorVAE, MultivariateNormal, Tensor]:
    """An untrained network of a correlated sample, its exact density and some rows (4, size)."""
    draws = torch.Generator().manual_seed(0)
    mixing = torch.randn(size, size, generator=draws, dtype=torch.float64)
    sample = torch.randn(300, size, generator=draws, dtype=torch.float64) @ mixing.T + 1.0
    linear = PrincipalComponents.fit(sample, latent)
    network = VectorVAE(size=size, latent=latent, properties=1, width=8, depth=1).double()
    network.start(linear)
    w, noise = linear.loadings, linear.noise
    covariance = w @ w.T + noise * torch.eye(size, dtype=torch.float64)
    return network, MultivariateNormal(linear.mean, covariance), sample[:4]


@torch.no_grad()
def linear_bound(shift: float = 0.0, widen: float = 0.0) -> tuple[float, float, float]:
    """(ELBO, log-likelihood, KL(q ‖ posterior)), means over rows in nats.

    ``shift`` is added to the means of q and ``widen`` to its log-variances. The expectation of
    the quadratic log p(x|z) is taken exactly, over sigma points.
    """
    network, density, rows = linear_model()
    points = sigma_points(len(rows), network.latent)
    x = rows.repeat(2 * network.latent, 1)
    values = torch.zeros(len(x), 1, dtype=torch.float64)
    mask = torch.zeros_like(values, dtype=torch.bool)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = network.encode(x, values, mask)
        return mean + shift, log_variance + widen

    model = Variational(encode, lambda x, z: network.log_likelihood(x, z, values, mask))
    found = -float(elbo(model, x, lambda _: points).total.mean())
    mean, log_variance = network.encode(x, values, mask)
    q = Gaussian(mean + shift, (log_variance + widen).exp())
    gap = kl_divergence(q, Gaussian(mean, log_variance.exp()))
    return found, float(density.log_prob(rows).mean()), float(gap.mean())


def two_point_difference() -> float:
    """Largest difference between the two-point probability with gradient and the loop's."""
    draws = torch.Generator().manual_seed(1)
    fields = (torch.rand(3, 24, 40, generator=draws, dtype=torch.float64) > 0.6).double()
    expected = torch.from_numpy(two_point_radial(fields.numpy())[1])
    return float((two_point(fields) - expected).abs().max())


def optimal_discriminator() -> tuple[float, float]:
    """(found, exact) loss of the best discriminator of two distributions over two states."""
    best = math.log(3) * torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    return float(discriminator_loss(best, -best)), 2 * math.log(2) - 2 * divergence


def evenly_used(codes: int = 8) -> float:
    """Perplexity of a codebook whose entries come equally often."""
    quantiser = VectorQuantiser(codes, 1)
    quantiser.codebook.copy_(torch.arange(codes)[:, None])
    latent = torch.arange(codes, dtype=torch.float32).repeat(3).reshape(1, 1, 3, codes)
    return float(quantiser(latent + 0.2).perplexity)


def cases() -> list[Case]:
    """Every exact check of the autoencoders."""
    closed = "Tipping & Bishop 1999, linear-Gaussian model"
    bound, likelihood, _ = linear_bound()
    wide, _, gap = linear_bound(shift=0.3, widen=0.5)
    judged, best = optimal_discriminator()
    kl = torch.tensor([[0.0, 0.2, 1.0], [0.2, 0.8, 3.0]])
    warmed = sum(warm_up(t, 4) for t in range(8))
    return [
        relative_case(
            ROOM, "ELBO of a linear VAE with its exact posterior", likelihood, bound, 1e-9, closed
        ),
        relative_case(
            ROOM, "gap of the ELBO with another posterior", gap, likelihood - wide, 1e-9, closed
        ),
        relative_case(
            ROOM,
            "free bits of 0.5 nats for means 0.1, 0.5 and 2",
            3.0,
            float(free_bits(kl, 0.5)),
            1e-6,
            "Kingma et al. 2016, equation 15",
        ),
        relative_case(
            ROOM, "warm-up over 4 of 8 steps, summed", 5.5, warmed, 1e-12, "min(1, t/T), t from 0"
        ),
        absolute_case(
            ROOM,
            "two-point probability with gradient against counting pairs",
            0.0,
            two_point_difference(),
            1e-12,
            "Torquato 2002, section 2.2",
        ),
        relative_case(
            ROOM,
            "loss of the optimal discriminator",
            best,
            judged,
            1e-12,
            "2 log 2 - 2 JSD, Goodfellow et al. 2014",
        ),
        relative_case(
            ROOM, "perplexity of 8 evenly used codes", 8.0, evenly_used(), 1e-6, "exp of entropy"
        ),
    ]
