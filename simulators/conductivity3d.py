"""Dirichlet and Thomson principles on voxel images: systems for ``krylov``, energies of fields.

A field of conductivities or resistivities is a tuple of tensors (n, d, h, w): one for isotropic
voxels, six in the order of ``tensors.PAIRS`` for anisotropic ones. Discretisation: ``grid3d``.
Load cases are unit means along x, y, z.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from simulators.conductivity2d import Field, Medium
from simulators.fields import irfft3, rfft3
from simulators.grid3d import (
    AXES,
    MOMENT,
    Modes,
    Shape,
    divergence,
    equilibrated,
    flux_green,
    gradient,
    join,
    laplacian,
    split,
)
from simulators.krylov import System
from simulators.tensors import PAIRS

CASES = 3
NUMBER = {pair: number for number, pair in enumerate(PAIRS[3])}


def _shape(k: Field) -> Shape:
    d, h, w = k[0].shape[1:]
    return d, h, w


def _component(k: Field, i: int, j: int) -> Tensor | None:
    """Entry (i, j) of the field, None where it is 0 by isotropy."""
    if len(k) == 1:
        return k[0] if i == j else None
    return k[NUMBER[min(i, j), max(i, j)]]


def _voigt(k: Field) -> Tensor:
    """Sums of the diagonal, (n, 3)."""
    sums = [k[0 if len(k) == 1 else c].flatten(1).sum(1) for c in range(CASES)]
    return torch.stack(sums, dim=1)


def dirichlet_system(k: Field, medium: Medium) -> System:
    """The minimum of the mean of E : k : E over periodic nodal potentials, times the voxels."""
    n, shape = len(k[0]), _shape(k)
    symbol = laplacian(medium.components, shape)
    symbol[..., 0, 0, 0] = torch.inf  # a uniform potential drives nothing
    green = (1 / symbol)[:, None]
    field = tuple(component[:, None] for component in k)

    def apply(u: Tensor) -> Tensor:
        return divergence(_fluxes(gradient(u), field))

    def precondition(r: Tensor) -> Tensor:
        return irfft3(rfft3(r).mul_(green), shape)

    force = -torch.stack([_mean_force(k, case) for case in range(CASES)], dim=1)
    coercivity = medium.coercivity[:, None].expand(n, CASES)
    return System(apply, precondition, force, _voigt(k), coercivity)


def _mean_force(k: Field, case: int) -> Tensor:
    """Divergence of the fluxes that a uniform unit gradient along the axis ``case`` drives."""
    x, y, z = (_component(k, case, c) for c in range(CASES))
    along = None if x is None else join(x, None, -3)
    along = None if along is None else join(along, None, -2)
    middle = None if y is None else join(y, None, -3)
    across = None if z is None else join(None, z, -3)
    if middle is not None or across is not None:
        across = join(across, middle, -2)
    return join(across, along, -1)


def _fluxes(g: Modes, k: Field) -> Modes:
    if len(k) == 1:
        for mode, weight in zip(g, WEIGHTS, strict=True):
            mode.mul_(k[0] if weight == 1 else k[0] * weight)
        return g
    xx, yy, zz, yz, xz, xy = k
    return Modes(
        x=(g.x * xx).addcmul_(g.y, xy).addcmul_(g.z, xz),
        y=(g.x * xy).addcmul_(g.y, yy).addcmul_(g.z, yz),
        z=(g.x * xz).addcmul_(g.y, yz).addcmul_(g.z, zz),
        yz=(g.yz * (yy + zz)).addcmul_(g.xy, xz).addcmul_(g.xz, xy).mul_(MOMENT),
        xz=(g.xz * (xx + zz)).addcmul_(g.xy, yz).addcmul_(g.yz, xy).mul_(MOMENT),
        xy=(g.xy * (xx + yy)).addcmul_(g.xz, yz).addcmul_(g.yz, xz).mul_(MOMENT),
        xyz=g.xyz * (xx + yy + zz) * MOMENT**2,
    )


# Weight of every mode in the energy of an isotropic voxel: <1>, 2 <s^2>, 3 <s^2 t^2>.
WEIGHTS = (1, 1, 1, 2 * MOMENT, 2 * MOMENT, 2 * MOMENT, 3 * MOMENT**2)


def total_gradient(fields: Tensor) -> Modes:
    """Modes of the unit mean gradients plus those of the fields, (n, 3, d, h, w) each."""
    g = gradient(fields)
    for case in range(CASES):
        g[case][:, case] += 1
    return g


def isotropic_density(g: Modes, i: int, j: int) -> Tensor:
    """Voxel means of e_i . e_j, (n, d, h, w): the energy's derivative by the conductivity."""
    density = g.x[:, i] * g.x[:, j]
    for mode, weight in zip(g[1:], WEIGHTS[1:], strict=True):
        density.addcmul_(mode[:, i], mode[:, j], value=weight)
    return density


def dirichlet_energies(fields: Tensor, k: Field) -> Tensor:
    """Mean energies (n, 3, 3) of the fields (n, 3, d, h, w) plus their unit mean gradients."""
    g = total_gradient(fields)
    if len(k) == 1:
        return _matrix(lambda i, j: isotropic_density(g, i, j) * k[0], fields)
    q = _fluxes(g, tuple(component[:, None] for component in k))

    def density(i: int, j: int) -> Tensor:
        total = g.x[:, i] * q.x[:, j]
        for mode, flux in zip(g[1:], q[1:], strict=True):
            total.addcmul_(mode[:, i], flux[:, j])
        return total

    return _matrix(density, fields)


def thomson_system(rho: Field, medium: Medium) -> System:
    """The minimum of the mean of J : rho : J over divergence-free face fluxes, times the voxels.

    Unknowns: fluctuations (n, 3, 3, d, h, w), load case before component. ``medium``: of the
    resistivities. Iterates stay divergence-free because the preconditioner projects.
    """
    n, shape = len(rho[0]), _shape(rho)
    green = flux_green(medium.components, shape)
    field = tuple(component[:, None] for component in rho)

    def apply(flux: Tensor) -> Tensor:
        means, slopes = zip(*(split(flux[:, :, c], dim) for c, dim in enumerate(AXES)), strict=True)
        found = torch.stack(
            [
                join(_product(field, c, means), _slope(field, c, slopes), dim)
                for c, dim in enumerate(AXES)
            ],
            dim=2,
        )
        # A gradient does not matter here, but it is large, and in float32 its rounding does.
        return equilibrated(found) if found.dtype == torch.float32 else found

    zero = torch.zeros_like(rho[0])
    force = torch.zeros(n, CASES, 3, *shape, dtype=zero.dtype, device=zero.device)
    for case in range(CASES):
        for c, dim in enumerate(AXES):
            entry = _component(rho, case, c)
            if entry is not None:
                force[:, case, c] = -join(entry, None, dim)
    coercivity = medium.coercivity[:, None].expand(n, CASES)
    return System(apply, green.apply, force, _voigt(rho), coercivity, equilibrated)


def _product(rho: Field, c: int, means: tuple[Tensor, ...]) -> Tensor:
    """Component c of rho times the means."""
    total = means[c] * rho[0 if len(rho) == 1 else c]
    for other in range(3):
        entry = None if other == c else _component(rho, c, other)
        if entry is not None:
            total.addcmul_(means[other], entry)
    return total


def _slope(rho: Field, c: int, slopes: tuple[Tensor, ...]) -> Tensor:
    return slopes[c] * (rho[0 if len(rho) == 1 else c] * MOMENT)


def thomson_energies(fields: Tensor, rho: Field) -> Tensor:
    """Mean energies (n, 3, 3) of the fluxes (n, 3, 3, d, h, w) plus their unit means.

    Whatever divergence rounding has left is taken out first.
    """
    means, slopes = total_flux(fields)
    field = tuple(component[:, None] for component in rho)
    products = [_product(field, c, means) for c in range(3)]
    slope_products = [_slope(field, c, slopes) for c in range(3)]

    def density(i: int, j: int) -> Tensor:
        total = torch.zeros_like(rho[0])
        for c in range(3):
            total.addcmul_(means[c][:, i], products[c][:, j])
            total.addcmul_(slopes[c][:, i], slope_products[c][:, j])
        return total

    return _matrix(density, fields)


def total_flux(fields: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Means and slopes, (n, 3, d, h, w) per component, of the fluxes with their unit means."""
    flux = equilibrated(fields)
    for case in range(CASES):
        flux[:, case, case] += 1
    means, slopes = zip(*(split(flux[:, :, c], dim) for c, dim in enumerate(AXES)), strict=True)
    return means, slopes


def flux_density(means: tuple[Tensor, ...], slopes: tuple[Tensor, ...], i: int, j: int) -> Tensor:
    """Voxel means of j_i . j_j, (n, d, h, w): the energy's derivative by the resistivity."""
    total = torch.zeros_like(means[0][:, 0])
    for mean, slope in zip(means, slopes, strict=True):
        total.addcmul_(mean[:, i], mean[:, j])
        total.addcmul_(slope[:, i], slope[:, j], value=MOMENT)
    return total


def _matrix(density: Callable[[int, int], Tensor], fields: Tensor) -> Tensor:
    """Means over the voxels of the symmetric densities, (n, 3, 3)."""
    energies = torch.zeros(len(fields), CASES, CASES, dtype=fields.dtype, device=fields.device)
    for i in range(CASES):
        for j in range(i, CASES):
            mean = density(i, j).flatten(1).mean(-1)
            energies[:, i, j] = mean
            energies[:, j, i] = mean
    return energies
