"""Effective conductivity as a differentiable function of the field, for guidance and fitting.

The problem is self-adjoint, so a gradient costs one solve, the one for the value
(``adjoint_energies``). Lower bound and estimate follow by the chain rule, the geometric mean
through its Riccati equation X A^-1 X = B. Because fields are stationary, values are as good as
``tolerance`` but derivatives only as its square root: hence a small default.

Sources: M. P. Bendsoe and O. Sigmund, Topology Optimization, 2003, section 1.2; R. Bhatia,
Positive Definite Matrices, 2007, section 4.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loop.errors import InvalidInputError
from simulators.adjoint_energies import dirichlet_energies, thomson_energies, to_field
from simulators.conductivity2d import Field
from simulators.energies import Effort, inverse, rotated
from simulators.soft_fields import labelled_field, mixed_field, soft_field
from simulators.tensors import geometric_mean

__all__ = [
    "FieldConductivity",
    "conductivity_of_field",
    "conductivity_of_phases",
    "labelled_field",
    "mixed_field",
    "soft_field",
]

TOLERANCE = 1e-10
MAX_ITERATIONS = 2000
SKEW = 1e-12  # of the largest entry of a tensor, as for phases; in float32 its own rounding


class FieldConductivity(NamedTuple):
    """``tensor``, ``lower``, ``upper``: (n, m, m) float64, differentiable; as ``Conductivity``.

    ``converged``: (n,) whether the energies met the tolerance.
    """

    tensor: Tensor
    lower: Tensor
    upper: Tensor
    converged: Tensor


def conductivity_of_field(
    k: Tensor, *, tolerance: float = TOLERANCE, max_iterations: int = MAX_ITERATIONS
) -> FieldConductivity:
    """Effective conductivity of periodic fields of conductivities.

    ``k``: (n, h, w) or (n, d, h, w), finite and > 0, of isotropic pixels; (n, h, w, 2, 2) or
    (n, d, h, w, 3, 3), symmetric and positive definite over (x, y[, z]), of anisotropic ones. On
    any device; solved in float64. First derivatives only; those by a tensor are symmetric.
    Raises InvalidInputError for a wrong shape or value.
    """
    field = _checked_field(k)
    effort = Effort(tolerance, max_iterations)
    n = len(k)
    if field[0].ndim == 3:
        both = tuple(torch.cat(pair) for pair in zip(field, rotated(field), strict=True))
        energies, converged = dirichlet_energies(both, effort)
        upper, resistive = energies[:n], energies[n:]
        # R^T A(k / det k) R inverted, R a quarter turn: for 2 x 2 matrices that is A / det A.
        lower = resistive / torch.linalg.det(resistive)[:, None, None]
        converged = converged[:n] & converged[n:]
    else:
        upper, first = dirichlet_energies(field, effort)
        resistive, second = thomson_energies(inverse(field), effort)
        lower = torch.linalg.inv(resistive)
        converged = first & second
    return FieldConductivity(GeometricMean.apply(lower, upper), lower, upper, converged)


def conductivity_of_phases(
    soft: Tensor,
    conductivities: Tensor,
    *,
    mean: str = "arithmetic",
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> FieldConductivity:
    """Effective conductivity of soft phase fields, differentiable in shares and conductivities.

    ``soft``: (n, p, h, w) or (n, p, d, h, w), shares that sum to 1 over the phases.
    ``conductivities``: (p,) or (n, p), or (p, m, m) or (n, p, m, m) of anisotropic phases.
    ``mean``: what a mixed pixel conducts, see ``soft_fields.mixed_field``.
    Raises InvalidInputError for a wrong shape, share or value.
    """
    field = mixed_field(soft, conductivities, mean=mean)
    return conductivity_of_field(field, tolerance=tolerance, max_iterations=max_iterations)


def _checked_field(k: Tensor) -> Field:
    """Components of the field in float64, differentiable."""
    m = {3: 2, 4: 3, 5: 2, 6: 3}.get(k.ndim, 0)
    tensors = k.ndim > 4
    wrong = m == 0 or (tensors and tuple(k.shape[-2:]) != (m, m))
    if wrong or k.numel() == 0 or not k.is_floating_point():
        raise InvalidInputError(
            f"field of shape {tuple(k.shape)} and type {k.dtype}; expected floating point "
            "(n, h, w) or (n, d, h, w), or (n, h, w, 2, 2) or (n, d, h, w, 3, 3) of tensors, "
            "none empty"
        )
    if not tensors:
        if not bool((torch.isfinite(k) & (k > 0)).all()):
            raise InvalidInputError("a conductivity of the field is not finite and > 0; correct it")
        return (k.double(),)
    given = k.detach()
    if not bool(torch.isfinite(given).all()):
        raise InvalidInputError("a conductivity of the field is not finite; correct it")
    skew = (given - given.mT).abs().amax((-2, -1))
    rounding = max(SKEW, 8 * torch.finfo(given.dtype).eps)
    if bool((skew > rounding * given.abs().amax((-2, -1))).any()):
        raise InvalidInputError(
            "a tensor of the field is not symmetric; expected equal entries (i, j) and (j, i)"
        )
    double = 0.5 * (given + given.mT).double()
    if bool((torch.linalg.eigvalsh(double)[..., 0] <= 0).any()):
        raise InvalidInputError(
            "a tensor of the field is not positive definite; expected eigenvalues > 0"
        )
    return to_field(k.double())


class GeometricMean(torch.autograd.Function):
    """A # B of (n, m, m); its adjoint solves the Sylvester equation of X A^-1 X = B."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        mean = geometric_mean(a.detach().cpu().numpy(), b.detach().cpu().numpy())
        x = torch.as_tensor(mean, device=a.device)
        ctx.save_for_backward(a, x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor) -> tuple[Tensor, Tensor]:
        a, x = ctx.saved_tensors
        p = torch.linalg.solve(a, x)
        m = a.shape[-1]
        unit = torch.eye(m, dtype=a.dtype, device=a.device)
        # Row-major: vec(P Y) = (P x 1) vec Y, vec(Y P^T) = (1 x P) vec Y.
        left = torch.einsum("nij,kl->nikjl", p, unit).reshape(-1, m * m, m * m)
        right = torch.einsum("ij,nkl->nikjl", unit, p).reshape(-1, m * m, m * m)
        symmetric = 0.5 * (wanted + wanted.mT)
        y = torch.linalg.solve(left + right, symmetric.reshape(-1, m * m)).reshape(-1, m, m)
        return p @ y @ p.mT, y
