"""Joint posterior of a surrogate at several compositions at once, with derivatives by torch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from loop.errors import InvalidInputError
from loop.multi_fidelity import LevelPosterior
from loop.surrogate import Posterior, Surrogate

JITTER = 1e-6  # share of the mean variance that is added to the diagonal of a covariance


class _Output(NamedTuple):
    """One property: hyperparameters and what its n training rows come to."""

    lengths: Tensor  # (d,)
    scale: Tensor
    slopes: Tensor  # (d,)
    constant: float
    near: Tensor  # (n, d) training inputs over the lengths
    sloped: Tensor  # (n, d) training inputs times the slopes
    weights: Tensor  # (n,)
    whitening: Tensor  # (n, n) inverse of the Cholesky factor

    @staticmethod
    def of(model: Posterior) -> _Output:
        kernel = model.kernel
        with torch.no_grad():
            lengths = kernel.matern.base_kernel.lengthscale.reshape(-1).detach()
            slopes = kernel.linear.variance.reshape(-1).detach()
            scale = kernel.matern.outputscale.detach()
            eye = torch.eye(len(model.x), dtype=model.x.dtype)
            whitening = torch.linalg.solve_triangular(model.factor, eye, upper=False)
        return _Output(
            lengths,
            scale,
            slopes,
            model.constant,
            model.x / lengths,
            model.x * slopes,
            model.weights,
            whitening,
        )

    def prior(self, z: Tensor) -> Tensor:
        """(r, q, d) -> (r, q, q)."""
        a = z / self.lengths
        squared = (a[:, :, None] - a[:, None]).square().sum(-1)
        linear: Tensor = (z * self.slopes) @ z.mT
        return self.scale * _matern(squared) + linear

    def cross(self, z: Tensor) -> Tensor:
        """(m, d) -> (m, n)."""
        a = z / self.lengths
        squared = a.square().sum(1)[:, None] + self.near.square().sum(1) - 2.0 * (a @ self.near.T)
        return self.scale * _matern(squared) + z @ self.sloped.T


def _matern(squared: Tensor) -> Tensor:
    """Matérn 5/2 of squared scaled distances (Rasmussen & Williams 2006, eq. 4.17)."""
    # At 0 the root has no derivative; the kernel has, and it is 0.
    r = squared.clamp_min(1e-20).sqrt() * math.sqrt(5.0)
    return (1.0 + r + r.square() / 3.0) * torch.exp(-r)


def of_one_fidelity(surrogate: Surrogate) -> bool:
    """Whether all that a surrogate has learned is of one fidelity."""
    return not any(isinstance(model, LevelPosterior) for model in surrogate.models)


class JointPosterior:
    """Mean and covariance of the noise-free properties at batches of compositions.

    The same posterior as ``Surrogate.predict``, whose marginals it has, but between the points of
    a batch too and differentiable in them: the kernel is written out on tensors, and the inverse
    Cholesky factor, found once, makes every evaluation two matrix products.
    Rasmussen & Williams 2006, eqs. 2.25 and 2.26.
    """

    def __init__(self, surrogate: Surrogate) -> None:
        """Raises InvalidInputError for a surrogate that is not fitted, or of several fidelities."""
        if surrogate.outputs is None:
            raise InvalidInputError("surrogate is not fitted; call fit(x, y) first")
        if not of_one_fidelity(surrogate):
            raise InvalidInputError(
                "the surrogate has values of several fidelities, which joint posteriors cannot "
                "take; fit it to those of one"
            )
        self.center = torch.from_numpy(surrogate.center)
        self.scale = torch.from_numpy(surrogate.scale)
        self.parts = [_Output.of(model) for model in surrogate.models]
        self._log = torch.from_numpy(surrogate.outputs.log)
        self._mean = torch.from_numpy(surrogate.outputs.mean)
        self._std = torch.from_numpy(surrogate.outputs.std)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(r, q, e) -> means (r, q, k) and covariances (k, r, q, q), of standardised properties."""
        r, q, _ = x.shape
        z = (x - self.center) / self.scale
        flat = z.reshape(r * q, -1)
        means, covariances = [], []
        for part in self.parts:
            cross = part.cross(flat)
            means.append((cross @ part.weights + part.constant).reshape(r, q))
            white = (cross @ part.whitening.T).reshape(r, q, -1)
            covariances.append(part.prior(z) - white @ white.mT)
        return torch.stack(means, -1), torch.stack(covariances)

    def samples(self, x: Tensor, normal: Tensor) -> Tensor:
        """Properties (s, r, q, k), in their units, that standard normal numbers (s, q, k) give."""
        mean, covariance = self.moments(x)
        factor = cholesky(covariance)
        spread = torch.einsum("krij,sjk->srik", factor, normal)
        return self.values(mean + spread)

    def values(self, standardised: Tensor) -> Tensor:
        """(..., k) standardised -> in the properties' units."""
        raw = self._mean + self._std * standardised
        return torch.where(self._log, torch.exp(torch.where(self._log, raw, 0.0)), raw)

    def standardised(self, values: Tensor) -> Tensor:
        """(..., k) in the properties' units -> standardised; not above 0 on a log scale is -inf."""
        logged = torch.where(self._log, values.clamp_min(0.0), 1.0).log()
        return (torch.where(self._log, logged, values) - self._mean) / self._std


def cholesky(covariance: Tensor) -> Tensor:
    """Factor of (..., q, q) covariances that may be singular: points of a batch may coincide."""
    diagonal = covariance.diagonal(dim1=-2, dim2=-1).detach()
    jitter = (JITTER * diagonal.mean(-1)).clamp_min(1e-10)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    while True:
        factor, failed = torch.linalg.cholesky_ex(covariance + jitter[..., None, None] * eye)
        if not failed.any():
            return factor
        if not torch.isfinite(covariance).all():
            raise InvalidInputError("the surrogate's covariance is not finite; check its inputs")
        jitter = torch.where(failed > 0, 100.0 * jitter, jitter)
