"""Effective conductivity of periodic pixel and voxel images, with certified bounds.

The same holds for electrical conductivity, diffusivity, permittivity and magnetic permeability.

Primal: K* is the minimum of the mean of (E + grad u) . k (E + grad u) over periodic u; any u,
converged or not, gives an upper bound (Dirichlet). Dual: its inverse is the minimum of the mean of
J . k^-1 J over divergence-free fluxes of a given mean; any of them gives a lower bound (Thomson).
In two dimensions such a flux is a rotated gradient, and the dual is the primal problem of
k / det k (of 1 / k when k is isotropic). In three dimensions it is solved for the face fluxes of
the same grid (lowest-order Raviart-Thomas), divergence-free at every point. Both bounds hold for
the tensors in the sense of quadratic forms, for the image as it stands, up to the rounding of
float64, in which energies are always evaluated. The point estimate is the geometric mean of the
two tensors, which lies between them and, in two dimensions, obeys Keller's duality
K*(1/k) = R K*(k)^-1 R^T exactly, at any resolution.

Discretisation: bilinear and trilinear elements with exact integration (``grid``, ``grid3d``);
solver: conjugate gradients preconditioned by the Green operator of a homogeneous medium on the
same grid, whose condition number is at most the contrast, whatever the grid.

Sources: J. B. Keller, J. Math. Phys. 5, 548 (1964); H. Moulinec and P. Suquet, Comput. Methods
Appl. Mech. Eng. 157, 69 (1998); J. Zeman et al., J. Comput. Phys. 229, 8065 (2010); M. Schneider,
D. Merkert and M. Kabel, Int. J. Numer. Methods Eng. 109, 1461 (2017) (finite-element grids);
J. Haslinger and J. Dvorak, ESAIM: M2AN 29, 475 (1995) (primal and dual bounds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError
from simulators.conductivity2d import Field
from simulators.energies import (
    MAX_ITERATIONS,
    TOLERANCE,
    Effort,
    dirichlet,
    harmonic,
    inverse,
    rotated,
    rotated_medium,
    thomson,
)
from simulators.fields import checked_tensors, collect, field_chunks, one_thread
from simulators.tensors import Reference, geometric_mean, reference, to_components

__all__ = ["Conductivity", "effective_conductivity", "geometric_mean"]

# Beyond it the rounding of float32 keeps conjugate gradients from correcting their own errors.
CONTRAST_FLOAT32 = 1e6


@dataclass(frozen=True, slots=True)
class Conductivity:
    """Effective conductivity of n images, in the unit of the phase conductivities.

    ``tensor``, ``lower``, ``upper``: (n, m, m), m = 2 or 3, axes (x, y[, z]) = along columns, rows
    [, layers]; lower <= truth for the pixel image <= upper as quadratic forms, hence on the
    diagonals. ``iterations``: (n,) the most of the solves. ``residual``: (n,) bound on the
    relative error that stopping early leaves in a bound. ``converged``: (n,) residual <= tolerance.
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

    @property
    def zz(self) -> NDArray[np.float64]:
        """Along the layers; of voxel images only."""
        return self.tensor[:, 2, 2]


def effective_conductivity(
    labels: ArrayLike,
    conductivities: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    dual: bool = True,
) -> Conductivity:
    """Effective conductivity tensors of periodic label images.

    ``labels``: (n, h, w) or (n, d, h, w) integers < p. ``conductivities``: (p,) or (n, p), finite
    and > 0, or (p, m, m) or (n, p, m, m), symmetric and positive definite, over (x, y[, z]).
    ``tolerance``: relative, on the effective conductivity (what stopping early may cost it).
    ``dtype``: of the iterations; float32 is refined against float64 residuals, so tolerance and
    bounds mean the same. ``dual`` False saves the second half of the work: the estimate is then
    the upper bound, and the lower bound the harmonic mean of the phases.
    Raises InvalidInputError for wrong shapes, labels or conductivities, and for a contrast above
    ``CONTRAST_FLOAT32`` in float32. Never raises for a solve that does not converge: see
    ``converged``; its bounds hold all the same.
    """
    image, values = checked_tensors(labels, "conductivity", conductivities)
    # Powers of two: no rounding, and no overflow where squares of conductivities are formed.
    size = np.exp2(np.rint(np.log2(_typical(image, values))))
    values = values / size.reshape(-1, *[1] * (values.ndim - 1))
    medium = reference(image, values)
    _check_contrast(medium, dtype)
    tables = [values] if values.ndim == 2 else list(np.moveaxis(to_components(values), -1, 0))
    flat = image.ndim == 3
    # Nodal values per pixel: load cases, primal and dual, components of a flux.
    systems = 4 if flat else 12
    effort = Effort(tolerance, max_iterations, dtype)
    parts = []
    done = 0
    with one_thread():
        for field in field_chunks(
            image, tables, systems=systems, device=device, dtype=torch.float64
        ):
            rows = slice(done, done + len(field[0]))
            done = rows.stop
            part = Reference(*(array[rows] for array in medium))
            parts.append((_flat if flat else _solid)(tuple(field), part, effort, dual))
    low, high, iterations, residual, converged = collect(parts)
    lower = low.astype(np.float64) * size[:, None, None]
    upper = high.astype(np.float64) * size[:, None, None]
    return Conductivity(
        tensor=geometric_mean(lower, upper) if dual else upper.copy(),
        lower=lower,
        upper=upper,
        iterations=iterations.astype(np.int64),
        residual=residual.astype(np.float64),
        converged=converged.astype(np.bool_),
    )


def _typical(image: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) the conductivity of each image's first pixel."""
    own = values[np.arange(len(image)), image.reshape(len(image), -1)[:, 0]]
    return own if values.ndim == 2 else np.trace(own, axis1=-2, axis2=-1) / values.shape[-1]


def _check_contrast(medium: Reference, dtype: torch.dtype) -> None:
    contrast = float((medium.high / medium.low).max())
    if dtype == torch.float32 and contrast > CONTRAST_FLOAT32:
        raise InvalidInputError(
            f"conductivities of contrast {contrast:.3g} are beyond float32, which carries "
            f"{CONTRAST_FLOAT32:g}; use float64"
        )


def _flat(k: Field, medium: Reference, effort: Effort, dual: bool) -> tuple[Tensor, ...]:
    """(n, h, w) fields -> lower, upper (n, 2, 2), then iterations, error, converged, (n,) each."""
    if not dual:
        found = dirichlet(k, medium, effort)
        return harmonic(k), found.energies, *found[2:]
    n = len(k[0])
    # Primal and dual problems are alike in two dimensions: one batch.
    k = tuple(torch.cat(pair) for pair in zip(k, rotated(k), strict=True))
    turned = rotated_medium(medium)
    medium = Reference(*(np.concatenate(pair) for pair in zip(medium, turned, strict=True)))
    found = dirichlet(k, medium, effort)
    upper, resistive = found.energies[:n], found.energies[n:]
    # R^T A(k / det k) R inverted, R a quarter turn: for 2 x 2 matrices that is A / det A.
    lower = resistive / torch.linalg.det(resistive)[:, None, None]
    return (
        lower,
        upper,
        torch.maximum(found.iterations[:n], found.iterations[n:]),
        torch.maximum(found.error[:n], found.error[n:]),
        found.converged[:n] & found.converged[n:],
    )


def _solid(k: Field, medium: Reference, effort: Effort, dual: bool) -> tuple[Tensor, ...]:
    """(n, d, h, w) fields -> as ``_flat``, tensors (n, 3, 3)."""
    primal = dirichlet(k, medium, effort)
    if not dual:
        return harmonic(k), primal.energies, *primal[2:]
    found = thomson(inverse(k), medium.dual(), effort)
    lower = torch.linalg.inv(found.energies)
    return (
        0.5 * (lower + lower.mT),
        primal.energies,
        torch.maximum(primal.iterations, found.iterations),
        torch.maximum(primal.error, found.error),
        primal.converged & found.converged,
    )
