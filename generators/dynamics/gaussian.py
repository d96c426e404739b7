"""The exact velocity of a Gaussian: the linear part of a flow, known before any training.

For data N(m, Σ) and the straight path x_t = (1 − t) ε + t x_1 with standard normal ε, in the
eigenbasis Σ = U Λ Uᵀ (Lipman et al. 2023; the scores of trained models are close to those of
the data's Gaussian over most of the path, Wang & Vastola 2024, arXiv:2412.09726),

    v(x, t) = m + U c_t(Λ) Uᵀ (x − t m),   c_t(λ) = (t λ − (1 − t)) / (t² λ + (1 − t)²).

A network that learns only what is left over has means, variances and correlations right from its
first step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from loop.errors import InvalidInputError

RANK = 512
LEAST = 1e-4  # variance below which a direction counts as noise of the coding


@dataclass(frozen=True)
class GaussianVelocity:
    """Velocity field (b, n), (b,) -> (b, n) of N(mean, U diag(variance) Uᵀ + rest (1 − U Uᵀ)).

    ``mean`` (n,), ``axes`` U (n, r) with orthonormal columns, ``variance`` (r,), ``rest`` (1,):
    the mean variance of the directions that are not among the axes.
    """

    mean: Tensor
    axes: Tensor
    variance: Tensor
    rest: Tensor

    @staticmethod
    def fit(states: Tensor, rank: int = RANK) -> GaussianVelocity:
        """From rows (m, n), m >= 2: the ``rank`` largest principal components and the rest.

        The rest is the maximum-likelihood one (Tipping & Bishop 1999, equation 8). Raises
        InvalidInputError for fewer than two rows.
        """
        if len(states) < 2:
            raise InvalidInputError(f"{len(states)} rows were given; a variance needs at least 2")
        x = states.double()
        m, n = x.shape
        mean = x.mean(0)
        _, singular, axes = torch.linalg.svd(x - mean, full_matrices=False)
        variance = singular.square() / m
        # Of rows fewer than coordinates only the first directions are known well enough.
        r = min(rank, len(variance) if m > n else max(1, m // 4))
        rest = variance[r:].sum() / (n - r) if n > r else variance.new_zeros(())
        variance, rest = variance[:r].clamp_min(LEAST), rest.clamp_min(LEAST).reshape(1)
        parts = mean, axes[:r].T.contiguous(), variance, rest
        return GaussianVelocity(*(part.to(states.dtype) for part in parts))

    def to(self, device: str) -> GaussianVelocity:
        """The same on another device."""
        parts = (self.mean, self.axes, self.variance, self.rest)
        return GaussianVelocity(*(part.to(device) for part in parts))

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]

        def slope(variance: Tensor) -> Tensor:
            return (t * variance - (1 - t)) / (t.square() * variance + (1 - t).square())

        centred = x - t * self.mean
        rest = slope(self.rest)
        along = centred @ self.axes
        return self.mean + rest * centred + ((slope(self.variance) - rest) * along) @ self.axes.T
