"""Effective conductivity as a differentiable function of the field, for guidance and fitting.

The problem is self-adjoint: at the minimum the energy's derivative with respect to the
conductivity of a pixel is the energy density that the field already has there,

    d U_ij / d k(x) = <e_i . e_j>_pixel / N,    d (K*^-1)_ij / d rho(x) = <j_i . j_j>_pixel / N,

so a gradient costs one solve, the one for the value. Lower bound and estimate follow by the chain
rule, the geometric mean through its Riccati equation X A^-1 X = B. Because fields are stationary,
values are as good as ``tolerance`` but derivatives only as its square root: hence a small default.

Sources: M. P. Bendsoe and O. Sigmund, Topology Optimization, 2003, section 1.2; R. Bhatia,
Positive Definite Matrices, 2007, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.autograd.function import once_differentiable

from loop.errors import InvalidInputError
from simulators import conductivity2d, conductivity3d
from simulators.energies import Effort, Minimum, dirichlet, thomson
from simulators.fields import checked_labels, checked_range, one_thread
from simulators.tensors import Reference, geometric_mean

TOLERANCE = 1e-10
MAX_ITERATIONS = 2000


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
    """Effective conductivity of periodic fields of isotropic conductivities.

    ``k``: (n, h, w) or (n, d, h, w), finite and > 0, on any device; solved in float64. First
    derivatives only. Raises InvalidInputError for a wrong shape or value.
    """
    if k.ndim not in (3, 4) or k.numel() == 0 or not k.is_floating_point():
        raise InvalidInputError(
            f"field of shape {tuple(k.shape)} and type {k.dtype}; expected floating point "
            "(n, h, w) or (n, d, h, w), none empty"
        )
    if not bool((torch.isfinite(k) & (k > 0)).all()):
        raise InvalidInputError("a conductivity of the field is not finite and > 0; correct it")
    k = k.double()
    effort = Effort(tolerance, max_iterations)
    n = len(k)
    with one_thread():
        if k.ndim == 3:
            energies, converged = _Dirichlet.apply(torch.cat((k, 1 / k)), effort)
            upper, resistive = energies[:n], energies[n:]
            lower = resistive / torch.linalg.det(resistive)[:, None, None]
            converged = converged[:n] & converged[n:]
        else:
            upper, first = _Dirichlet.apply(k, effort)
            resistive, second = _Thomson.apply(1 / k, effort)
            lower = torch.linalg.inv(resistive)
            converged = first & second
    return FieldConductivity(_GeometricMean.apply(lower, upper), lower, upper, converged)


def labelled_field(labels: ArrayLike, conductivities: Tensor) -> Tensor:
    """(n, ...) labels, (p,) or (n, p) conductivities -> their field, differentiable in them.

    Raises InvalidInputError for wrong shapes or labels.
    """
    image = checked_labels(labels, (2, 3))
    if conductivities.ndim == 1:
        conductivities = conductivities.expand(len(image), -1)
    if conductivities.ndim != 2 or len(conductivities) != len(image):
        raise InvalidInputError(
            f"conductivities have shape {tuple(conductivities.shape)}; expected (p,) or "
            f"({len(image)}, p)"
        )
    checked_range(image, "conductivity", conductivities.shape[1])
    index = torch.as_tensor(image, device=conductivities.device)
    return torch.gather(conductivities, 1, index.flatten(1)).reshape(index.shape)


def soft_field(soft: Tensor, conductivities: Tensor, *, mean: str = "geometric") -> Tensor:
    """Field of two phases from a soft phase field, differentiable in both.

    ``soft``: (n, ...) in [0, 1], the share of the second phase in every pixel.
    ``conductivities``: (2,) or (n, 2), > 0. ``mean``: "geometric" treats conductivities and
    resistivities alike, as duality does; "arithmetic" and "harmonic" are the limits of layers.
    Raises InvalidInputError for wrong shapes, values or names.
    """
    if conductivities.ndim == 1:
        conductivities = conductivities.expand(len(soft), -1)
    if conductivities.shape != (len(soft), 2):
        raise InvalidInputError(
            f"conductivities have shape {tuple(conductivities.shape)}; expected (2,) or "
            f"({len(soft)}, 2)"
        )
    if not bool(((soft >= 0) & (soft <= 1)).all()):
        raise InvalidInputError("soft phase field leaves [0, 1]; clamp it or use a sigmoid")
    first, second = (part.reshape(-1, *[1] * (soft.ndim - 1)) for part in conductivities.unbind(1))
    if mean == "geometric":
        return torch.exp(torch.log(first) * (1 - soft) + torch.log(second) * soft)
    if mean == "arithmetic":
        return first * (1 - soft) + second * soft
    if mean == "harmonic":
        return 1 / ((1 - soft) / first + soft / second)
    raise InvalidInputError(f"mean {mean!r}; expected geometric, arithmetic or harmonic")


def _medium(k: Tensor) -> Reference:
    low, high = (part.cpu().numpy() for part in (k.flatten(1).amin(1), k.flatten(1).amax(1)))
    middle = (low * high) ** 0.5
    return Reference(middle[:, None], low / middle, high / middle)


class _Dirichlet(torch.autograd.Function):
    """Least energies (n, m, m) of potentials, and whether they converged, (n,)."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, effort: Effort) -> tuple[Tensor, Tensor]:
        found: Minimum = dirichlet((k,), _medium(k), effort)
        ctx.save_for_backward(found.fields)
        ctx.mark_non_differentiable(found.converged)
        return found.energies, found.converged

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (fields,) = ctx.saved_tensors
        with one_thread():
            if fields.ndim == 4:
                flat = conductivity2d.total_gradient(fields)
                return _weighted(lambda i, j: conductivity2d.isotropic_density(flat, i, j), wanted)
            solid = conductivity3d.total_gradient(fields)
            return _weighted(lambda i, j: conductivity3d.isotropic_density(solid, i, j), wanted)


class _Thomson(torch.autograd.Function):
    """Least energies (n, 3, 3) of fluxes, and whether they converged, (n,)."""

    @staticmethod
    def forward(ctx: Any, rho: Tensor, effort: Effort) -> tuple[Tensor, Tensor]:
        found = thomson((rho,), _medium(rho), effort)
        ctx.save_for_backward(found.fields)
        ctx.mark_non_differentiable(found.converged)
        return found.energies, found.converged

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (fields,) = ctx.saved_tensors
        with one_thread():
            means, slopes = conductivity3d.total_flux(fields)
            return _weighted(lambda i, j: conductivity3d.flux_density(means, slopes, i, j), wanted)


def _weighted(density: Callable[[int, int], Tensor], wanted: Tensor) -> tuple[Tensor, None]:
    """Sum of the densities (n, ...) with the weights (n, m, m), per pixel of the mean."""
    m = wanted.shape[-1]
    total: Tensor | None = None
    for i in range(m):
        for j in range(i, m):
            weight = wanted[:, i, j] if i == j else wanted[:, i, j] + wanted[:, j, i]
            field = density(i, j)
            field = field * weight.reshape(-1, *[1] * (field.ndim - 1))
            total = field if total is None else total + field
    assert total is not None
    return total / total[0].numel(), None


class _GeometricMean(torch.autograd.Function):
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
