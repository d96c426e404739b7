"""The evidence lower bound of any Gaussian hierarchy z_N → … → z_1 → x, by one piece of code.

A VAE is the case of one learned layer, a diffusion model the case of many with a fixed encoder:

    −log p(x) <= KL(q(z_N|x) ‖ p(z_N)) + Σ_t E KL(q(z_{t−1}|z_t, x) ‖ p(z_{t−1}|z_t))
                 − E log p(x|z_1)  =  L_T + Σ L_t + L_0

(Kingma & Welling 2014; Sønderby et al. 2016; Ho et al. 2020, equation 5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from generators.dynamics.likelihood import bits_per_dimension, log_normal
from generators.dynamics.parameterisation import Denoiser, posterior
from generators.dynamics.samplers import Noise
from generators.dynamics.schedules import Level, Path, every_row

LEAST_PROBABILITY = 1e-12  # of a bin of grey values; keeps the logarithm finite

Decoder = Callable[[Tensor, Tensor], Tensor]  # x, z_1 -> log p(x|z_1) in nats, (b,)


class Gaussian(NamedTuple):
    """Independent normals; mean (b, ...), variance of a shape that broadcasts to it."""

    mean: Tensor
    variance: Tensor

    def draw(self, noise: Noise) -> Tensor:
        """A reparameterised sample."""
        return self.mean + self.variance.sqrt() * noise(self.mean)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) of each row in nats, (b,); exact."""
    ratio = q.variance / p.variance
    each = 0.5 * (ratio - ratio.log() - 1 + (q.mean - p.mean).square() / p.variance)
    return each.flatten(1).sum(1)


class Hierarchy(Protocol):
    """Latents z_N → … → z_1 → x, each layer a pair of normals (q, p)."""

    @property
    def depth(self) -> int:
        """N."""
        ...

    def top(self, x: Tensor) -> tuple[Gaussian, Gaussian]:
        """q(z_N | x), p(z_N)."""
        ...

    def layer(self, t: int, z: Tensor, x: Tensor) -> tuple[Gaussian, Gaussian]:
        """q(z_{t−1} | z_t, x), p(z_{t−1} | z_t) for t = N..2."""
        ...

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z_1), (b,)."""
        ...


@dataclass(frozen=True)
class Bound:
    """Terms in nats, each a loss: prior L_T (b,), layers L_t (N − 1, b) from the top, L_0 (b,)."""

    prior: Tensor
    layers: Tensor
    reconstruction: Tensor

    @property
    def total(self) -> Tensor:
        """At least −log p(x) in the mean over draws, (b,)."""
        return self.prior + self.layers.sum(0) + self.reconstruction

    def bits_per_dimension(self, size: int, *, bin_width: float = 1.0) -> Tensor:
        """The bound for rows of ``size`` dimensions, see ``likelihood.bits_per_dimension``."""
        return bits_per_dimension(-self.total, size, bin_width=bin_width)


def elbo(model: Hierarchy, x: Tensor, noise: Noise) -> Bound:
    """One draw of the latents from the top down, their divergences exact; x (b, ...)."""
    q, p = model.top(x)
    prior = kl_divergence(q, p)
    z = q.draw(noise)
    layers = []
    for t in range(model.depth, 1, -1):
        q, p = model.layer(t, z, x)
        layers.append(kl_divergence(q, p))
        z = q.draw(noise)
    kept = torch.stack(layers) if layers else prior.new_zeros(0, len(prior))
    return Bound(prior, kept, -model.log_likelihood(x, z))


@dataclass(frozen=True)
class Variational:
    """A VAE: x -> (mean, log variance) of q(z | x), a decoder, the prior N(0, 1)."""

    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decoder: Decoder
    depth: int = 1

    def top(self, x: Tensor) -> tuple[Gaussian, Gaussian]:
        mean, log_variance = self.encode(x)
        one = torch.ones((), dtype=mean.dtype, device=mean.device)
        return Gaussian(mean, log_variance.exp()), Gaussian(torch.zeros_like(mean), one)

    def layer(self, t: int, z: Tensor, x: Tensor) -> tuple[Gaussian, Gaussian]:
        raise IndexError(f"a VAE of one layer has none below z_{t}")

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.decoder(x, z)


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A diffusion model: z_N..z_1 are x at ``times`` (N,), from noise to the least noisy.

    For a discrete schedule ``schedule.times()[:-1]``; with fewer times it is the exact bound of the
    model that samples with those. p(z_{t−1}|z_t) has the posterior's variance σ̃², p(z_N) is
    N(0, ``prior_variance``).
    """

    denoise: Denoiser
    path: Path
    times: Tensor
    decoder: Decoder
    prior_variance: float = 1.0

    @property
    def depth(self) -> int:
        return len(self.times)

    def _level(self, t: int) -> tuple[float, Level]:
        time = self.times[self.depth - t].double().cpu()
        return float(time), self.path.level(time)

    def top(self, x: Tensor) -> tuple[Gaussian, Gaussian]:
        signal, noise = self._level(self.depth)[1].like(x)
        wide = torch.full_like(noise, self.prior_variance)
        return Gaussian(signal * x, noise.square()), Gaussian(torch.zeros_like(x), wide)

    def layer(self, t: int, z: Tensor, x: Tensor) -> tuple[Gaussian, Gaussian]:
        time, level = self._level(t)
        of_x0, of_x, variance = (float(p) for p in posterior(level, self._level(t - 1)[1]))
        spread = torch.tensor(variance, dtype=z.dtype, device=z.device)
        x0 = self.denoise(z, every_row(time, z))
        return Gaussian(of_x0 * x + of_x * z, spread), Gaussian(of_x0 * x0 + of_x * z, spread)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.decoder(x, z)


# Decoders


def gaussian_decoder(mean: Callable[[Tensor], Tensor], variance: float) -> Decoder:
    """log N(x; mean(z), variance): a density, its bits per dimension may be negative."""
    return lambda x, z: log_normal(x - mean(z), variance=variance)


def quantised_decoder(
    mean: Callable[[Tensor], Tensor], variance: float, levels: int = 256
) -> Decoder:
    """Probability of x on ``levels`` equal values in [−1, 1], the outer bins open.

    The normal's mass in the bin around x (Ho et al. 2020, equation 13).
    """
    half, deviation = 1 / (levels - 1), variance**0.5

    def decoder(x: Tensor, z: Tensor) -> Tensor:
        centre = (x - mean(z)).abs()  # by symmetry the far tail is never 1 − 1
        near, far = (half - centre) / deviation, (-half - centre) / deviation
        mass = torch.special.ndtr(near) - torch.special.ndtr(far)
        outer = x.abs() > 1 - half
        outward = torch.special.ndtr((half + (mean(z) - x) * x.sign()) / deviation)
        chosen = torch.where(outer, outward, mass)
        return chosen.clamp_min(LEAST_PROBABILITY).log().flatten(1).sum(1)

    return decoder


def bernoulli_decoder(logits: Callable[[Tensor], Tensor]) -> Decoder:
    """log-probability of x in {0, 1} (b, ...) under logits(z) of the same shape."""

    def decoder(x: Tensor, z: Tensor) -> Tensor:
        each = functional.binary_cross_entropy_with_logits(logits(z), x, reduction="none")
        return -each.flatten(1).sum(1)

    return decoder


def categorical_decoder(logits: Callable[[Tensor], Tensor]) -> Decoder:
    """log-probability of labels x (b, h, w) under logits(z) (b, p, h, w)."""

    def decoder(x: Tensor, z: Tensor) -> Tensor:
        each = functional.cross_entropy(logits(z), x.long(), reduction="none")
        return -each.flatten(1).sum(1)

    return decoder
