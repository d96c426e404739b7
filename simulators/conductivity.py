"""Effective conductivity of periodic two-dimensional pixel images, with certified bounds.

The same holds for electrical conductivity, diffusivity, permittivity and magnetic permeability.

Primal: K* is the minimum of the mean of k |E + grad u|^2 over periodic u; any u, converged or
not, gives an upper bound (Dirichlet). Dual: in two dimensions every divergence-free flux is a
rotated gradient, so the minimum of the mean of |J|^2 / k is the primal problem of the
resistivity 1/k, and any iterate gives a lower bound (Thomson). Both hold for the 2 x 2 tensors in
the sense of quadratic forms. The point estimate is the geometric mean of the two tensors, which
lies between them and obeys Keller's duality K*(1/k) = R K*(k)^-1 R^T exactly, at any resolution.

Discretisation: bilinear elements with exact integration (``grid``); solver: conjugate gradients
preconditioned by the Green operator of a homogeneous medium on the same grid, whose condition
number is at most the contrast, whatever the grid.

Sources: J. B. Keller, J. Math. Phys. 5, 548 (1964); H. Moulinec and P. Suquet, Comput. Methods
Appl. Mech. Eng. 157, 69 (1998); J. Zeman et al., J. Comput. Phys. 229, 8065 (2010); M. Schneider,
D. Merkert and M. Kabel, Int. J. Numer. Methods Eng. 109, 1461 (2017) (finite-element grids);
J. Haslinger and J. Dvorak, ESAIM: M2AN 29, 475 (1995) (primal and dual bounds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from simulators.fields import checked_phases, collect, field_chunks, irfft2, one_thread, rfft2
from simulators.grid import TWIST_WEIGHT, Modes, divergence, gradient, symbols
from simulators.krylov import minimise_energy

TOLERANCE = 1e-6
MAX_ITERATIONS = 2000


@dataclass(frozen=True, slots=True)
class Conductivity:
    """Effective conductivity of n images, in the unit of the phase conductivities.

    ``tensor``, ``lower``, ``upper``: (n, 2, 2), axes (x, y) = (along columns, along rows);
    lower <= truth for the pixel image <= upper as quadratic forms, hence on the diagonals.
    ``iterations``: (n,) the most of the four solves. ``residual``: (n,) bound on the relative
    error that stopping early leaves in a bound. ``converged``: (n,) residual <= tolerance.
    """

    tensor: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    iterations: NDArray[np.int64]
    residual: NDArray[np.float64]
    converged: NDArray[np.bool_]

    @property
    def xx(self) -> NDArray[np.float64]:
        return self.tensor[:, 0, 0]

    @property
    def yy(self) -> NDArray[np.float64]:
        return self.tensor[:, 1, 1]


def effective_conductivity(
    labels: ArrayLike,
    conductivities: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Conductivity:
    """Effective conductivity tensors of periodic label images.

    ``labels``: (n, h, w) integers < p. ``conductivities``: (n, p) or (p,), finite and > 0.
    ``tolerance``: relative, on the effective conductivity (what stopping early may cost it).
    Raises InvalidInputError for wrong shapes, labels or conductivities. Never raises for a solve
    that does not converge: see ``converged``; its bounds hold all the same.
    """
    image, phases = checked_phases(labels, {"conductivity": conductivities})
    values = [phases["conductivity"]]
    with one_thread():  # two load cases, primal and dual
        parts = [
            _solve(k, tolerance, max_iterations)
            for (k,) in field_chunks(image, values, systems=4, device=device, dtype=dtype)
        ]
    low, high, iterations, residual, converged = collect(parts)
    lower, upper = low.astype(np.float64), high.astype(np.float64)
    return Conductivity(
        tensor=geometric_mean(lower, upper),
        lower=lower,
        upper=upper,
        iterations=iterations.astype(np.int64),
        residual=residual.astype(np.float64),
        converged=converged.astype(np.bool_),
    )


def _solve(k: Tensor, tolerance: float, max_iterations: int) -> tuple[Tensor, ...]:
    """(n, h, w) -> lower, upper (n, 2, 2), then iterations, error, converged, (n,) each."""
    n = len(k)
    energies, error, iterations, converged = _dirichlet(
        torch.cat((k, 1 / k)), tolerance, max_iterations
    )
    upper, resistive = energies[:n], energies[n:]
    # R^T A(1/k) R inverted, R a quarter turn: for 2 x 2 matrices that is A / det A.
    lower = resistive / torch.linalg.det(resistive)[:, None, None]
    worst = torch.stack((error[:n], error[n:])).amax(dim=(0, 2))
    most = torch.stack((iterations[:n], iterations[n:])).amax(dim=(0, 2))
    return lower, upper, most, worst, converged[:n].all(1) & converged[n:].all(1)


def _dirichlet(
    k: Tensor, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(n, h, w) coefficients -> (n, 2, 2) energies of the best fields found, solver figures."""
    n, h, w = k.shape
    low, high = k.amin((1, 2)), k.amax((1, 2))
    middle = (low * high).sqrt()
    k1 = k[:, None]
    k_twist = k1 * (2 * TWIST_WEIGHT)
    laplacian = _symbol(k)
    green = torch.where(laplacian > 0, 1 / laplacian, 0.0) / middle[:, None, None, None]

    def apply(u: Tensor) -> Tensor:
        g = gradient(u)
        return divergence(Modes(g.x.mul_(k1), g.y.mul_(k1), g.twist.mul_(k_twist)))

    def precondition(r: Tensor) -> Tensor:
        return irfft2(rfft2(r).mul_(green), (h, w))

    none = torch.zeros_like(k)
    force = -torch.stack(
        (divergence(Modes(k, none, none)), divergence(Modes(none, k, none))), dim=1
    )
    # Mean energies times the number of pixels: the sums that the solver works with.
    voigt = k.sum((1, 2))[:, None].expand(n, 2)
    solution = minimise_energy(
        apply,
        precondition,
        force,
        energy=voigt,
        coercivity=(low / middle)[:, None].expand(n, 2),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    g = gradient(solution.fields)
    g.x[:, 0] += 1
    g.y[:, 1] += 1
    components = ((g.x, 1.0), (g.y, 1.0), (g.twist, 2 * TWIST_WEIGHT))
    energies = torch.zeros(n, 2, 2, dtype=k.dtype, device=k.device)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        total = _sum_products(components, k, i, j) / (h * w)
        energies[:, i, j] = total
        energies[:, j, i] = total
    return energies, solution.error, solution.iterations, solution.converged


def _symbol(k: Tensor) -> Tensor:
    """Fourier symbol of the operator for k = 1, (h, w // 2 + 1)."""
    s = symbols((k.shape[1], k.shape[2]), dtype=k.dtype, device=k.device)
    return s.xx + s.yy + 2 * TWIST_WEIGHT * s.twist


def _sum_products(components: Sequence[tuple[Tensor, float]], k: Tensor, i: int, j: int) -> Tensor:
    """Sum over pixels of k times the weighted products of load cases i and j, (n,)."""
    density = components[0][0][:, i] * components[0][0][:, j] * components[0][1]
    for field, weight in components[1:]:
        density = density + weight * field[:, i] * field[:, j]
    return (density * k).flatten(1).sum(-1)


def geometric_mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Geometric mean of symmetric positive definite 2 x 2 matrices, (n, 2, 2) each.

    A # B = sqrt(alpha beta / det(A/alpha + B/beta)) (A/alpha + B/beta), alpha = sqrt(det A),
    beta = sqrt(det B) (R. Bhatia, Positive Definite Matrices, 2007, section 4.1).
    """
    alpha = np.sqrt(np.linalg.det(a))[:, None, None]
    beta = np.sqrt(np.linalg.det(b))[:, None, None]
    mean = a / alpha + b / beta
    scale = np.sqrt(alpha * beta / np.linalg.det(mean)[:, None, None])
    result: NDArray[np.float64] = scale * mean
    return result
