"""Least energies of pixel and voxel images: Dirichlet's and Thomson's principle, solved.

What ``conductivity`` turns into bounds and ``adjoint`` into derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from simulators import conductivity2d, conductivity3d
from simulators.conductivity2d import Field, Medium
from simulators.krylov import Solution, System, minimise
from simulators.tensors import Reference, to_tensors

TOLERANCE = 1e-6
MAX_ITERATIONS = 2000


class Effort(NamedTuple):
    """``tolerance`` on the energy, relative; ``dtype`` of the iterations."""

    tolerance: float = TOLERANCE
    max_iterations: int = MAX_ITERATIONS
    dtype: torch.dtype = torch.float64


class Minimum(NamedTuple):
    """``energies``: (n, m, m) means over the image of the energies of the fields found.

    ``fields``: fluctuations, (n, m, ...). ``iterations``, ``error``, ``converged``: (n,), of the
    slowest load case; ``error`` bounds the relative excess over the least energy.
    """

    energies: Tensor
    fields: Tensor
    iterations: Tensor
    error: Tensor
    converged: Tensor


def dirichlet(k: Field, medium: Reference, effort: Effort) -> Minimum:
    """Least energies of potentials with unit mean gradients in float64 fields (n, [d,] h, w)."""
    solver = conductivity2d if k[0].ndim == 3 else conductivity3d
    found = _solve(solver.dirichlet_system, k, medium, effort)
    return _minimum(solver.dirichlet_energies(found.fields, k), found)


def thomson(rho: Field, medium: Reference, effort: Effort) -> Minimum:
    """Least energies of fluxes with unit means in float64 resistivities (n, d, h, w).

    ``medium``: of the resistivities. Its inverse bounds the conductivity from below.
    """
    found = _solve(conductivity3d.thomson_system, rho, medium, effort)
    return _minimum(conductivity3d.thomson_energies(found.fields, rho), found)


def _solve(
    system: Callable[[Field, Medium], System], k: Field, medium: Reference, effort: Effort
) -> Solution:
    device = k[0].device

    def of(kind: torch.dtype) -> System:
        components = torch.as_tensor(medium.components, dtype=kind, device=device)
        coercivity = torch.as_tensor(medium.low, dtype=kind, device=device)
        return system(tuple(part.to(kind) for part in k), Medium(components, coercivity))

    return minimise(
        of(torch.float64),
        None if effort.dtype == torch.float64 else of(effort.dtype),
        tolerance=effort.tolerance,
        max_iterations=effort.max_iterations,
    )


def _minimum(energies: Tensor, found: Solution) -> Minimum:
    return Minimum(
        energies,
        found.fields,
        found.iterations.amax(1),
        found.error.amax(1).clamp(min=0.0),  # rounding may leave -1e-17
        found.converged.all(1),
    )


def rotated(k: Field) -> Field:
    """k / det k of (n, h, w) fields: what a quarter turn makes of the resistivity."""
    if len(k) == 1:
        return (1 / k[0],)
    xx, yy, xy = k
    determinant = xx * yy - xy * xy
    return xx / determinant, yy / determinant, xy / determinant


def rotated_medium(medium: Reference) -> Reference:
    """Reference medium of the ``rotated`` fields."""
    c = medium.components
    determinant = c**2 if c.shape[1] == 1 else (c[:, 0] * c[:, 1] - c[:, 2] ** 2)[:, None]
    return Reference(c / determinant, 1 / medium.high, 1 / medium.low)


def inverse(k: Field) -> Field:
    """Resistivities of a field of conductivities."""
    if len(k) == 1:
        return (1 / k[0],)
    if len(k) == 3:
        xx, yy, xy = rotated(k)
        return yy, xx, -xy
    xx, yy, zz, yz, xz, xy = k
    cofactors = (
        yy * zz - yz * yz,
        xx * zz - xz * xz,
        xx * yy - xy * xy,
        xz * xy - xx * yz,
        xy * yz - yy * xz,
        xz * yz - zz * xy,
    )
    determinant = xx * cofactors[0] + xy * cofactors[5] + xz * cofactors[4]
    return tuple(cofactor / determinant for cofactor in cofactors)


def harmonic(k: Field) -> Tensor:
    """(mean of k^-1)^-1, (n, m, m): the lower bound that uniform fluxes give."""
    means = np.stack([part.flatten(1).mean(1).cpu().numpy() for part in inverse(k)], axis=1)
    m = k[0].ndim - 1
    tensors = means[:, :, None] * np.eye(m) if len(k) == 1 else to_tensors(means)
    return torch.as_tensor(np.linalg.inv(tensors))
