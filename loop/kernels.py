"""Covariance functions of the surrogate. Imported only where one is fitted: gpytorch is heavy."""

from __future__ import annotations

import math
from typing import Any

from gpytorch.kernels import Kernel, LinearKernel, MaternKernel, ScaleKernel
from gpytorch.priors import GammaPrior, LogNormalPrior
from torch import Tensor


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
