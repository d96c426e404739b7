"""What a noised Gaussian state says of properties that are linear in it: p(y | x_t), exactly.

For states x_1 ~ N(m, U Λ Uᵀ + r (1 − U Uᵀ)) (``gaussian``), properties y = b + Aᵀ z + e of their
whitened coordinates z = Λ^-½ Uᵀ (x_1 − m) with e ~ N(0, R), and x_t = (1 − t) ε + t x_1,
conditioning of Gaussians gives, with q = t² λ + (1 − t)² for each axis,

    E[y | x_t] = b + Aᵀ (t √λ/q · Uᵀ (x_t − t m)),   Cov[y | x_t] = R + Aᵀ diag((1 − t)²/q) A.

As with the velocity, a network that learns only what is left over has this right from its first
step: the regressor's linear part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generators.dynamics.gaussian import GaussianVelocity

# Penalties of the ridge over the mean square of a coordinate times the rows.
PENALTIES = tuple(10.0**e for e in range(-8, 2))


@dataclass(frozen=True)
class GaussianReadout:
    """``law``: of the states. ``offset`` b (k,), ``slope`` A (r, k), ``rest`` R (k, k)."""

    law: GaussianVelocity
    offset: Tensor
    slope: Tensor
    rest: Tensor

    @staticmethod
    def fit(law: GaussianVelocity, states: Tensor, y: Tensor, weights: Tensor) -> GaussianReadout:
        """From rows (n, d) with properties (n, k), NaN unknown, that count ``weights`` (n,).

        Least squares with a ridge, of the penalty with the least generalised cross-validation
        (Golub, Heath & Wahba 1979, equation 1.4), for each property over the rows that have it. A
        property that fewer than two rows have is left at N(0, 1).
        """
        z = (states.double() - law.mean.double()) @ law.axes.double() / law.variance.double().sqrt()
        y, weights = y.double(), weights.double()
        k = y.shape[1]
        offset, slope = z.new_zeros(k), z.new_zeros(z.shape[1], k)
        errors, freedom = torch.zeros_like(y), z.new_ones(k)
        known = torch.isfinite(y)
        patterns = known.unique(dim=1)
        for pattern in patterns.T:
            if int(pattern.sum()) < 2:
                continue
            columns = (known == pattern[:, None]).all(0)
            w = weights[pattern] / weights[pattern].mean()
            found = _ridge(z[pattern], y[pattern][:, columns], w)
            offset[columns], slope[:, columns] = found[:2]
            left = y[pattern][:, columns] - offset[columns] - z[pattern] @ slope[:, columns]
            errors[pattern.nonzero(), columns.nonzero()[:, 0]] = w.sqrt()[:, None] * left
            freedom[columns] = found[2]
        rest = errors.T @ errors / (freedom[:, None] * freedom).sqrt()
        rest = torch.where(torch.eye(k, dtype=torch.bool) & (known.sum(0) < 2), 1.0, rest)
        values, axes = torch.linalg.eigh(rest)  # rows that lack some may leave it indefinite
        rest = axes @ (values.clamp_min(0.0)[:, None] * axes.T)
        parts = (part.to(law.mean.dtype) for part in (offset, slope, rest))
        return GaussianReadout(law, *parts)

    def to(self, device: str) -> GaussianReadout:
        """The same on another device."""
        parts = (part.to(device) for part in (self.offset, self.slope, self.rest))
        return GaussianReadout(self.law.to(device), *parts)

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (b, k) and covariance (b, k, k) of y at states (b, d) on the straight path."""
        t, law = t[:, None], self.law
        q = t.square() * law.variance + (1 - t).square()
        z = t * law.variance.sqrt() / q * ((x - t * law.mean) @ law.axes)
        left = (1 - t).square() / q  # of the unit variance of each coordinate
        covariance = self.rest + torch.einsum("br,rj,rk->bjk", left, self.slope, self.slope)
        return self.offset + z @ self.slope, covariance


def _ridge(z: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Offset (j,), slope (r, j) and degrees of freedom left (j,) for rows (n, r), (n, j), (n,)."""
    n = len(z)
    z_mean, y_mean = (w @ z) / n, (w @ y) / n
    root = w.sqrt()[:, None]
    z, y = root * (z - z_mean), root * (y - y_mean)
    squares, axes = torch.linalg.eigh(z.T @ z)
    squares = squares.clamp_min(0.0)
    along = axes.T @ (z.T @ y)  # (r, j)
    best = y.new_full((y.shape[1],), torch.inf)
    slope, freedom = torch.zeros_like(along), torch.ones_like(best)
    for share in PENALTIES:
        inverse = 1 / (squares + share * n)
        left = n - 1 - float((squares * inverse).sum())
        if left < 1:
            continue
        sizes = (squares * inverse - 2)[:, None] * inverse[:, None] * along.square()
        error = (y.square().sum(0) + sizes.sum(0)).clamp_min(0.0) / left**2
        better = error < best
        best = torch.where(better, error, best)
        freedom = torch.where(better, left, freedom)
        slope = torch.where(better, inverse[:, None] * along, slope)
    slope = axes @ slope
    return y_mean - z_mean @ slope, slope, freedom
