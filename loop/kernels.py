"""Covariance functions of the surrogate. Imported only where one is fitted: gpytorch is heavy."""

from __future__ import annotations

import math
from typing import Any

import torch
from gpytorch.constraints import GreaterThan, Positive
from gpytorch.kernels import Kernel, LinearKernel, MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.likelihoods.noise_models import Noise
from gpytorch.means import Mean
from gpytorch.priors import GammaPrior, LogNormalPrior, NormalPrior
from linear_operator.operators import DiagLinearOperator
from torch import Tensor

MIN_NOISE = 1e-6  # variance, of a standardised output


class LinearPlusMatern(Kernel):
    """Sum of a linear and a Matérn-5/2 kernel over d inputs, each with one length per input.

    The library's own sum keeps the linear part as a low-rank factor and decomposes the other part
    without its noise to make use of it, which fails on near-singular matrices and is slow for
    many test points; here both are added up as plain matrices.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        # Dimension-scaled prior on the lengths (Hvarfner et al. 2024): smooth unless data object.
        lengths = LogNormalPrior(math.sqrt(2.0) + 0.5 * math.log(d), math.sqrt(3.0))
        self.matern = ScaleKernel(
            MaternKernel(nu=2.5, ard_num_dims=d, lengthscale_prior=lengths),
            outputscale_prior=GammaPrior(2.0, 1.0),
        )
        self.matern.base_kernel.lengthscale = 1.5 * math.sqrt(d)
        self.linear = LinearKernel(ard_num_dims=d, variance_prior=GammaPrior(1.0, 1.0))

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        """(..., n, d), (..., m, d) -> (..., n, m), or (..., n) with ``diag``."""
        if diag:
            total: Tensor = self.matern(x1, x2, diag=True) + self.linear(x1, x2, diag=True)
            return total
        both: Tensor = self.matern(x1, x2).to_dense() + self.linear(x1, x2).to_dense()
        return both


class Autoregressive(Kernel):
    """Covariance of values of several fidelities, level 0 the lowest; the last input is the level.

    f₀ = g₀ and f_l = ρ_l f_{l-1} + g_l with independent g_l: a level is the one below it, scaled,
    and a discrepancy that is a function of the design too (Kennedy & O'Hagan 2000, eq. 2). Each g
    is a linear plus a Matérn-5/2 process. Of the highest levels there are few values, so that the
    g share their lengths and slopes, and a discrepancy has two parameters of its own: its variance
    over that of g₀, for the Matérn and the linear part. (In other words: two intrinsic
    coregionalisation models with matrices in autoregressive form.) The priors hold that all
    levels are of one property in one unit: ρ near 1, the discrepancy the smaller part.
    """

    def __init__(self, d: int, levels: int) -> None:
        """``d``: inputs without the level. ``levels``: how many there are, 2 or more."""
        super().__init__()
        self.levels = levels
        self.base = LinearPlusMatern(d)
        self.register_parameter("ratios", torch.nn.Parameter(torch.ones(levels - 1)))
        self.register_prior("ratio_prior", NormalPrior(1.0, 1.0), "ratios")
        self.register_parameter("raw_parts", torch.nn.Parameter(torch.zeros(2, levels - 1)))
        self.register_constraint("raw_parts", Positive())
        # One value, or a few, cannot tell that there is no discrepancy: the density is highest
        # at a fifth of the variance and falls to nothing at none.
        spread = 1.5
        prior = LogNormalPrior(math.log(0.2) + spread**2, spread)
        self.register_prior("part_prior", prior, lambda kernel: kernel.parts)
        start = self.raw_parts_constraint.inverse_transform(torch.tensor(0.1))
        self.initialize(raw_parts=start)

    @property
    def parts(self) -> Tensor:
        """(2, L - 1) variances of the discrepancies over those of g₀: Matérn, linear."""
        found: Tensor = self.raw_parts_constraint.transform(self.raw_parts)
        return found

    def between(self) -> Tensor:
        """(2, L, L) covariances of the levels of one design over those of g₀: Matérn, linear."""
        one = torch.ones_like(self.ratios[:1])
        rows = [torch.cat([one, torch.zeros(self.levels - 1, dtype=one.dtype)])]
        for level, ratio in enumerate(self.ratios, start=1):
            unit = torch.zeros_like(rows[0])
            unit[level] = 1.0
            rows.append(ratio * rows[-1] + unit)
        shares = torch.stack(rows)
        variances = torch.cat([one.expand(2, 1), self.parts], 1)
        return (shares * variances[:, None]) @ shares.T

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        """(..., n, d + 1), (..., m, d + 1) -> (..., n, m), or (..., n) with ``diag``."""
        matern, linear = self.between()
        a, b = x1[..., -1].long(), x2[..., -1].long()
        z1, z2 = x1[..., :-1], x2[..., :-1]
        if diag:
            smooth, straight = (k(z1, z2, diag=True) for k in (self.base.matern, self.base.linear))
        else:
            smooth, straight = (k(z1, z2).to_dense() for k in (self.base.matern, self.base.linear))
            a, b = a[..., :, None], b[..., None, :]
        total: Tensor = matern[a, b] * smooth + linear[a, b] * straight
        return total


class LevelMean(Mean):
    """A constant for each level; the last input is the level."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_parameter("offsets", torch.nn.Parameter(torch.zeros(levels)))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n, d + 1) -> (..., n)."""
        return self.offsets[x[..., -1].long()]


class LevelNoise(Noise):
    """Noise of n rows: what is known of each, and for each level a variance that is found."""

    def __init__(self, level: Tensor, known: Tensor, levels: int, start: float) -> None:
        """``level``: of each row (n,), ``known``: variance of each row (n,)."""
        super().__init__()
        self.level, self.known = level, known
        self.register_parameter("raw_noise", torch.nn.Parameter(torch.zeros(levels)))
        self.register_constraint("raw_noise", GreaterThan(MIN_NOISE))
        self.initialize(raw_noise=self.raw_noise_constraint.inverse_transform(torch.tensor(start)))

    @property
    def noise(self) -> Tensor:
        """(L,) variances found."""
        found: Tensor = self.raw_noise_constraint.transform(self.raw_noise)
        return found

    def forward(self, *_: Any, shape: Any = None, **__: Any) -> DiagLinearOperator:
        """Of the rows that it was made for; the posterior for others is ``surrogate.Posterior``."""
        return DiagLinearOperator(self.known + self.noise[self.level])


def level_likelihood(noise: LevelNoise) -> GaussianLikelihood:
    """Gaussian, with that noise."""
    likelihood = GaussianLikelihood()
    likelihood.noise_covar = noise
    return likelihood
