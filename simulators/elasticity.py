"""Effective stiffness of periodic two-dimensional pixel images with isotropic phases.

The image is the cross-section of a columnar body (nothing varies along z) in generalised plane
strain: periodic in-plane displacements and four mean strains (xx, yy, xy, zz). The minimum of the
mean of e : C : e over the displacements is the effective stiffness; the energy of any iterate,
converged or not, is an upper bound in the sense of quadratic forms. The first three rows
and columns are the plane-strain stiffness; the fourth makes Young's moduli exact, because uniaxial
tension lets the body contract along z too, and in a uniform body E comes out and not E/(1 - nu^2).

Lower bound: uniform stress (Reuss), 1/E* <= mean of 1/E, at no cost: narrow for similar phases,
wide for a hard and a soft one. On request that of ``stiffness``, the least complementary energy of
stresses in equilibrium on the same grid, which takes three to four times the work of the estimate
and closes on it with finer grids. Anisotropic phases, shear along z and voxels: ``stiffness``.

Discretisation: bilinear elements, all terms integrated exactly (``grid``), hence no hourglass
modes; solver: conjugate gradients preconditioned by the Green operator of a homogeneous medium on
the same grid. Sources as in ``conductivity``; R. Hill, J. Mech. Phys. Solids 11, 357 (1963).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from loop.errors import InvalidInputError
from simulators.fields import checked_phases, collect, field_chunks, irfft2, one_thread, rfft2
from simulators.grid import TWIST_WEIGHT, Modes, divergence, gradient, symbols
from simulators.krylov import Solution, minimise_energy
from simulators.stiffness import lower_bound, reuss_bound
from simulators.stiffness_tensors import isotropic_stiffness
from simulators.tensors import geometric_mean

TOLERANCE = 1e-6
MAX_ITERATIONS = 2000
CASES = 4  # mean strains: xx, yy, xy (engineering), zz
PLANE = [0, 1, 5, 2]  # where they are in Voigt's order


@dataclass(frozen=True, slots=True)
class Stiffness:
    """Effective stiffness of n images, in the unit of the phase moduli.

    ``upper``: (n, 4, 4) over (xx, yy, xy, zz) with engineering shear: the energy of the computed
    fields, which is the estimate and an upper bound at once. ``plane_strain``: its (n, 3, 3) part.
    ``youngs``: (n, 2), (E_x, E_y), 1 / diagonal of the inverse of ``upper``: stress along one axis
    only, free to contract along the other two; an upper bound. ``lower``: (n, 4, 4) lower bound of
    ``upper``'s kind, Reuss or by energy. ``youngs_lower``: (n,) its Young's modulus, for either
    direction. ``iterations``, ``residual``, ``converged``: as in ``Conductivity``.
    """

    upper: NDArray[np.float64]
    lower: NDArray[np.float64]
    youngs_lower: NDArray[np.float64]
    iterations: NDArray[np.int64]
    residual: NDArray[np.float64]
    converged: NDArray[np.bool_]

    @property
    def tensor(self) -> NDArray[np.float64]:
        """(n, 4, 4) geometric mean of the bounds: between them."""
        return geometric_mean(self.lower, self.upper)

    @property
    def plane_strain(self) -> NDArray[np.float64]:
        return self.upper[:, :3, :3]

    @property
    def youngs(self) -> NDArray[np.float64]:
        return _youngs(self.upper)


def _youngs(stiffness: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4, 4) -> (n, 2) Young's moduli along x and y."""
    compliance = np.linalg.inv(stiffness).astype(np.float64)
    return 1.0 / np.diagonal(compliance, axis1=1, axis2=2)[:, :2]


def youngs_modulus(bulk: ArrayLike, shear: ArrayLike) -> NDArray[np.float64]:
    """E = 9 K G / (3 K + G) of an isotropic solid."""
    k, g = np.asarray(bulk, dtype=np.float64), np.asarray(shear, dtype=np.float64)
    e: NDArray[np.float64] = 9 * k * g / (3 * k + g)
    return e


def effective_stiffness(
    labels: ArrayLike,
    bulk: ArrayLike,
    shear: ArrayLike,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    lower: Literal["reuss", "energy"] = "reuss",
) -> Stiffness:
    """Effective stiffness of periodic label images.

    ``labels``: (n, h, w) integers < p. ``bulk``, ``shear``: moduli K, G, (n, p) or (p,), > 0.
    ``tolerance``: relative, on the diagonal of the effective stiffness. ``lower``: which lower
    bound; with "energy", ``iterations``, ``residual`` and ``converged`` are of both solves.
    Raises InvalidInputError for wrong shapes, labels, moduli or names. Never raises for a solve
    that does not converge: see ``converged``.
    """
    if lower not in ("reuss", "energy"):
        raise InvalidInputError(f"lower bound {lower!r}; expected 'reuss' or 'energy'")
    image, moduli = checked_phases(labels, {"bulk modulus": bulk, "shear modulus": shear})
    k, g = moduli["bulk modulus"], moduli["shear modulus"]
    values = [k - 2 * g / 3, g]
    with one_thread():  # four load cases, two components
        parts = [
            _solve(lame, mu, tolerance, max_iterations)
            for lame, mu in field_chunks(image, values, systems=8, device=device, dtype=dtype)
        ]
    upper, iterations, residual, converged = collect(parts)
    softness = 1 / youngs_modulus(k, g)
    youngs_lower = 1 / np.take_along_axis(softness, image.reshape(len(image), -1), axis=1).mean(1)
    phases = isotropic_stiffness(k, g)
    if lower == "reuss":
        bound = reuss_bound(image, phases)
    else:
        bound, *ending = lower_bound(
            image,
            phases,
            tolerance=tolerance,
            max_iterations=max_iterations,
            device=device,
            dtype=dtype,
        )
        iterations, residual = np.maximum(iterations, ending[0]), np.maximum(residual, ending[1])
        converged = np.logical_and(converged, ending[2])
    low = bound[:, PLANE][:, :, PLANE]
    if lower == "energy":
        youngs_lower = _youngs(low).min(1)
    return Stiffness(
        upper=upper.astype(np.float64),
        lower=low,
        youngs_lower=youngs_lower,
        iterations=iterations.astype(np.int64),
        residual=residual.astype(np.float64),
        converged=converged.astype(np.bool_),
    )


def _solve(lame: Tensor, mu: Tensor, tolerance: float, max_iterations: int) -> tuple[Tensor, ...]:
    """(n, h, w) Lame moduli -> (n, 4, 4) energies, then iterations, error, converged, (n,)."""
    solution = displacements(lame, mu, tolerance, max_iterations)
    return (
        energies(solution.fields, lame, mu),
        solution.iterations.amax(1),
        solution.error.amax(1),
        solution.converged.all(1),
    )


def displacements(lame: Tensor, mu: Tensor, tolerance: float, max_iterations: int) -> Solution:
    """Periodic displacements (n, 4, 2, h, w) under the mean strains, of (n, h, w) Lame moduli."""
    n, h, w = lame.shape
    plane_bulk = lame + mu
    low = [modulus.amin((1, 2)) for modulus in (plane_bulk, mu)]
    middle = [
        (modulus.amax((1, 2)) * least).sqrt()
        for modulus, least in zip((plane_bulk, mu), low, strict=True)
    ]
    coercivity = torch.minimum(low[0] / middle[0], low[1] / middle[1])
    green = _green(middle[0], middle[1], (h, w))
    lame1, mu1 = lame[:, None], mu[:, None]
    axial1 = lame1 + 2 * mu1
    twist1 = (lame1 + 3 * mu1) * TWIST_WEIGHT

    def apply(u: Tensor) -> Tensor:
        gx, gy = gradient(u[:, :, 0]), gradient(u[:, :, 1])
        shear = (gx.y + gy.x).mul_(mu1)
        xx = axial1 * gx.x + lame1 * gy.y
        yy = axial1 * gy.y + lame1 * gx.x
        return torch.stack(
            (
                divergence(Modes(xx, shear, gx.twist.mul_(twist1))),
                divergence(Modes(shear, yy, gy.twist.mul_(twist1))),
            ),
            dim=2,
        )

    def precondition(r: Tensor) -> Tensor:
        f = rfft2(r)
        fx, fy = f[:, :, 0], f[:, :, 1]
        mixed = torch.stack((green[0] * fx + green[1] * fy, green[1] * fx + green[2] * fy), dim=2)
        return irfft2(mixed, (h, w))

    axial, none = lame + 2 * mu, torch.zeros_like(mu)
    # Stress of the mean strains alone: (xx, xy, yy) in each case.
    mean_stress = ((axial, none, lame), (lame, none, axial), (none, mu, none), (lame, none, lame))
    force = -torch.stack(
        [
            torch.stack((divergence(Modes(xx, xy, none)), divergence(Modes(xy, yy, none))), dim=1)
            for xx, xy, yy in mean_stress
        ],
        dim=1,
    )
    voigt = torch.stack((axial, axial, mu, axial), dim=1).sum((2, 3))
    return minimise_energy(
        apply,
        precondition,
        force,
        energy=voigt,
        coercivity=coercivity[:, None].expand(n, CASES),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )


def _green(bulk: Tensor, mu: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse of the 2 x 2 symbol of a homogeneous medium, entries (n, 1, h, w // 2 + 1).

    ``bulk``, ``mu``: (n,) plane-strain bulk modulus lambda + mu and shear modulus.
    """
    s = symbols(shape, dtype=mu.dtype, device=mu.device)
    bulk, mu = bulk[:, None, None, None], mu[:, None, None, None]
    twist = (bulk + 2 * mu) * TWIST_WEIGHT * s.twist
    xx = (bulk + mu) * s.xx + mu * s.yy + twist
    yy = (bulk + mu) * s.yy + mu * s.xx + twist
    xy = bulk * s.xy
    determinant = xx * yy - xy * xy
    inverse = torch.where(determinant > 0, 1 / determinant, 0.0)
    inverse[..., 0, 0] = 0.0  # a uniform displacement stores no energy
    return yy * inverse, -xy * inverse, xx * inverse


def energies(u: Tensor, lame: Tensor, mu: Tensor) -> Tensor:
    """Mean energies of the fields plus their mean strains, (n, 4, 4).

    At the minimum they do not change with the fields to first order, so their derivatives by the
    moduli at fixed fields are those of the effective stiffness.
    """
    h, w = lame.shape[1:]
    gx, gy = gradient(u[:, :, 0]), gradient(u[:, :, 1])
    xx, yy, xy = gx.x, gy.y, gx.y + gy.x
    xx[:, 0] += 1
    yy[:, 1] += 1
    xy[:, 2] += 1
    zz = torch.zeros(CASES, dtype=mu.dtype, device=mu.device)
    zz[3] = 1
    trace = xx + yy + zz[:, None, None]
    twist = (lame + 3 * mu) * TWIST_WEIGHT
    rows: list[list[Tensor]] = [[mu.new_zeros(0)] * CASES for _ in range(CASES)]
    for i in range(CASES):
        for j in range(i, CASES):
            density = (
                lame * trace[:, i] * trace[:, j]
                + 2 * mu * (xx[:, i] * xx[:, j] + yy[:, i] * yy[:, j] + zz[i] * zz[j])
                + mu * xy[:, i] * xy[:, j]
                + twist * (gx.twist[:, i] * gx.twist[:, j] + gy.twist[:, i] * gy.twist[:, j])
            )
            rows[i][j] = rows[j][i] = density.flatten(1).sum(-1) / (h * w)
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
