"""Conditional variational autoencoder of vectors: a linear-Gaussian model and what it leaves over.

It starts as probabilistic principal component analysis (Tipping & Bishop 1999),

    z ~ N(0, 1),  x = W z + m + σ n,  q(z|x) = N(M⁻¹ Wᵀ (x − m), σ² M⁻¹),  M = Wᵀ W + σ²,

where the columns of W are orthogonal, so that M is diagonal and q is the exact posterior: the
first ELBO is the likelihood of the best linear model (Lucas et al. 2019). Networks whose last
layers are zero correct what is read and written, and the noise becomes one for each dimension.

Conditional, the latent has a prior of its own for each request (Sohn et al. 2015): properties are
seen through y = V z + a + r, r ~ N(0, R), so that any subset of them leaves a normal,

    p(z|y) = N(K (y − a), 1 − K V),  K = Vᵀ A⁻¹,  A = V Vᵀ + R,

and none the standard one. A prior that knew nothing of the request would leave it to a decoder
that can read the same from z, and would be ignored.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from generators.networks.conditioning import PropertyEmbedding
from generators.networks.convolution import ModulatedConvolution
from generators.networks.mlp import ModulatedBlock

LEAST_VARIANCE = 1e-4  # of the noise: no coordinate is known better than its coding
LEAST_BLUR = 1e-3  # of R: a standardised property is not taken to be seen more sharply


class PrincipalComponents(NamedTuple):
    """``mean`` (d,), ``loadings`` W (d, q) with orthogonal columns, ``noise`` σ², a number."""

    mean: Tensor
    loadings: Tensor
    noise: float

    @staticmethod
    def fit(rows: Tensor, latent: int) -> PrincipalComponents:
        """Maximum likelihood from rows (n, d), n >= 2; q is at most ``latent``, d − 1 and n − 1.

        Tipping & Bishop 1999, equations 7 and 8: W = U (Λ − σ²)^½ and σ² the mean of the
        variances that are left.
        """
        x = rows.double()
        n, d = x.shape
        q = max(1, min(latent, d - 1, n - 1))
        mean = x.mean(0)
        _, singular, axes = torch.linalg.svd(x - mean, full_matrices=False)
        variance = singular.square() / n
        rest = float(variance[q:].sum()) / max(1, d - q)
        noise = max(rest, LEAST_VARIANCE)
        scale = (variance[:q] - noise).clamp_min(0.0).sqrt()
        loadings = axes[:q].T * scale
        return PrincipalComponents(mean.to(rows.dtype), loadings.to(rows.dtype), noise)


class Correction(nn.Module):
    """What is added to a state: (b, d), condition (b, width) -> (b, d), zero at first.

    The image latent, the first c·h·w numbers where there is one, goes through convolutions: what
    a place becomes depends on what is around it, wherever it is, so that few images teach much.
    The vectors go through a network that also sees the mean of the image's features. ``hidden`` is
    that network's last layer, (b, width).
    """

    def __init__(
        self,
        image: tuple[int, int, int] | None,
        vectors: int,
        *,
        width: int,
        channels: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.image, self.vectors = image, vectors
        seen = vectors
        if image is not None:
            self.into = nn.Conv2d(image[0], channels, 3, padding=1)
            self.layers = nn.ModuleList(ModulatedConvolution(channels, width) for _ in range(depth))
            self.out = nn.Conv2d(channels, image[0], 3, padding=1)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # made with a bias
            self.told = nn.Linear(vectors, width) if vectors else None
            seen += channels
        self.enter = nn.Linear(seen + width, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(depth))
        self.leave = nn.Linear(width, vectors) if vectors else None
        if self.leave is not None:
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The correction (b, d) and ``hidden``."""
        vectors = x[:, x.shape[1] - self.vectors :]
        parts, seen = [], [vectors, condition]
        if self.image is not None:
            field = self.into(x[:, : x.shape[1] - self.vectors].reshape(-1, *self.image))
            told = condition if self.told is None else condition + self.told(vectors)
            for layer in self.layers:
                field = layer(field, told)
            parts.append(self.out(functional.silu(field)).flatten(1))
            seen.append(field.mean((2, 3)))
        hidden = self.enter(torch.cat(seen, dim=1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        hidden = functional.silu(functional.layer_norm(hidden, (hidden.shape[-1],)))
        if self.leave is not None:
            parts.append(self.leave(hidden))
        return torch.cat(parts, dim=1), hidden


class VectorVAE(nn.Module):
    """States (b, d) to latents (b, q) and back, given properties (b, k) with a mask (b, k).

    ``image``: (c, h, w) of the image latent that a state begins with, or None.
    """

    def __init__(
        self,
        *,
        size: int,
        latent: int,
        properties: int,
        width: int,
        depth: int,
        image: tuple[int, int, int] | None = None,
        channels: int = 32,
    ) -> None:
        super().__init__()
        self.size, self.latent = size, latent
        self.mean = nn.Parameter(torch.zeros(size))
        self.loadings = nn.Parameter(torch.zeros(size, latent))
        self.readings = nn.Parameter(torch.zeros(latent, size))
        self.log_posterior = nn.Parameter(torch.zeros(latent))
        self.log_noise = nn.Parameter(torch.zeros(size))
        self.sight = nn.Parameter(torch.zeros(properties, latent))  # V
        self.level = nn.Parameter(torch.zeros(properties))  # a
        self.log_blur = nn.Parameter(torch.zeros(properties))  # log R
        self.property = PropertyEmbedding(properties, width)
        vectors = size - (math.prod(image) if image else 0)
        sizes = {"width": width, "channels": channels, "depth": depth}
        self.read = Correction(image, vectors, **sizes)
        self.spread = nn.Linear(width, latent)
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)
        self.write = Correction(image, vectors, **sizes)

    @torch.no_grad()
    def start(self, linear: PrincipalComponents) -> None:
        """Weights of the linear part; the model is then that of ``linear``."""
        w, noise = linear.loadings, linear.noise
        precision = w.square().sum(0) + noise  # the diagonal of M
        self.mean.copy_(linear.mean)
        self.loadings.copy_(w)
        self.readings.copy_((w / precision).T)
        self.log_posterior.copy_((noise / precision).log())
        self.log_noise.fill_(math.log(noise))

    @torch.no_grad()
    def look(self, states: Tensor, properties: Tensor) -> None:
        """V, a and R from rows (n, d) with standardised properties (n, k), NaN unknown.

        A regression of the properties on the posterior means, with a unit ridge. What is left over
        is R, less what the posterior's own width explains.
        """
        centred = (states - self.mean).to(self.readings)
        means, width = centred @ self.readings.T, self.log_posterior.exp()
        for j, column in enumerate(properties.to(means).T):
            known = column.isfinite()
            if int(known.sum()) < 2:
                continue
            z, y = means[known], column[known]
            center, level = z.mean(0), y.mean()
            gram = (z - center).T @ (z - center) + torch.eye(self.latent).to(z)
            row = torch.linalg.solve(gram, (z - center).T @ (y - level))
            rest = (y - level - (z - center) @ row).square().mean() - (row.square() * width).sum()
            self.sight[j], self.level[j] = row, level - center @ row
            self.log_blur[j] = rest.clamp_min(LEAST_BLUR).log()

    def _condition(self, values: Tensor, mask: Tensor) -> Tensor:
        return functional.silu(self.property(values, mask))

    def encode(self, x: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x, properties), each (b, q)."""
        centred = x - self.mean
        more, hidden = self.read(centred, self._condition(values, mask))
        mean = (centred + more) @ self.readings.T
        return mean, (self.log_posterior + self.spread(hidden)).clamp(-12.0, 4.0)

    def decode(self, z: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Mean (b, d) of p(x | z, properties)."""
        linear = z @ self.loadings.T
        more, _ = self.write(linear, self._condition(values, mask))
        return self.mean + linear + more

    def _seen(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """V (b, k, q), R (b, k) and y − a (b, k); of what is not given V is 0 and R is 1."""
        blur = self.log_blur.exp().clamp_min(LEAST_BLUR)
        sight = self.sight * mask[..., None]
        away = torch.where(mask, values - self.level, torch.zeros_like(values))
        return sight, torch.where(mask, blur, torch.ones_like(blur)), away

    def prior_draw(self, noise: Tensor, blur: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Latents of p(z|y) from standard normals (b, q) and (b, k); with no y the former.

        By correcting an unconditional draw (Matheron's rule; Journel & Huijbregts 1978).
        """
        sight, variance, away = self._seen(values, mask)
        joint = sight @ sight.mT + torch.diag_embed(variance)
        missing = away - (sight @ noise[..., None])[..., 0] - variance.sqrt() * blur
        return noise + (sight.mT @ torch.linalg.solve(joint, missing[..., None]))[..., 0]

    def divergence(
        self, mean: Tensor, log_variance: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        """KL(q ‖ p(z|y)) in nats as shares of the dimensions, (b, q); their sum is exact.

        With no y they are the divergences of the single dimensions from the standard normal.
        """
        sight, variance, away = self._seen(values, mask)
        factor = torch.linalg.cholesky(sight @ sight.mT + torch.diag_embed(variance))
        center = (sight.mT @ torch.cholesky_solve(away[..., None], factor))[..., 0]
        scaled = sight / variance[..., None]  # the precision is 1 + Vᵀ R⁻¹ V
        delta = mean - center
        pull = delta + (scaled.mT @ (sight @ delta[..., None]))[..., 0]
        spread = log_variance.exp() * (1 + (sight * scaled).sum(1))
        volume = variance.log().sum(1) - 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(1)
        return 0.5 * (spread + delta * pull - log_variance - 1 + volume[:, None] / self.latent)

    @property
    def noise_variance(self) -> Tensor:
        """(d,) variance of p(x | z, properties), the same for all z."""
        return self.log_noise.exp().clamp_min(LEAST_VARIANCE)

    def log_likelihood(self, x: Tensor, z: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """log p(x | z, properties) in nats, (b,)."""
        variance = self.noise_variance
        squares = (x - self.decode(z, values, mask)).square() / variance
        return -0.5 * (squares + (2 * math.pi * variance).log()).sum(1)
