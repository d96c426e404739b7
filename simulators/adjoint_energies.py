"""Least energies as autograd functions: solved forwards, read off backwards.

The least energies U_ij of the fields with unit means i and j are stationary in the fields, so
their derivative by a property of a pixel is what the fields found already say,

    d U_ij / d k_ab(x) = <e_i,a e_j,b>_pixel / N   (both orders of a != b together),

e the whole gradient (or the whole flux, for resistivities) and N the number of pixels: backwards
costs no solve. Sources: M. P. Bendsoe and O. Sigmund, Topology Optimization, 2003, section 1.2;
G. W. Milton, The Theory of Composites, 2002, section 16.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from simulators import conductivity2d, conductivity3d, grid, grid3d
from simulators.conductivity2d import Field
from simulators.energies import Effort, Minimum, dirichlet, inverse, thomson
from simulators.fields import one_thread
from simulators.tensors import PAIRS, Reference, geometric_mean, to_components, to_tensors

Slopes = Callable[[Tensor, Tensor], Sequence[Tensor]]


def dirichlet_energies(k: Field, effort: Effort) -> tuple[Tensor, Tensor]:
    """Least energies of potentials, (n, m, m), and whether they converged, (n,).

    ``k``: float64 (n, [d,] h, w), one of isotropic or m (m + 1) / 2 of anisotropic pixels in the
    order of ``PAIRS``; differentiable once in each.
    """
    energies, converged = LeastEnergies.apply(
        lambda *given: dirichlet(given, medium(given), effort),
        partial(_potential_slopes, len(k)),
        *k,
    )
    return energies, converged


def thomson_energies(rho: Field, effort: Effort) -> tuple[Tensor, Tensor]:
    """Least energies of fluxes, (n, 3, 3), of resistivities (n, d, h, w); else as above."""
    energies, converged = LeastEnergies.apply(
        lambda *given: thomson(given, medium(given), effort),
        partial(_flux_slopes, len(rho)),
        *rho,
    )
    return energies, converged


def to_field(tensors: Tensor) -> Field:
    """(n, ..., m, m) symmetric -> fields (n, ...) in the order of ``PAIRS``, differentiable."""
    half = 0.5 * (tensors + tensors.mT)
    return tuple(half[..., i, j].contiguous() for i, j in PAIRS[tensors.shape[-1]])


def medium(k: Field) -> Reference:
    """A homogeneous medium for every image, near its pixels: as ``tensors.reference``."""
    if len(k) == 1:
        flat = k[0].flatten(1)
        low, high = (part.cpu().numpy() for part in (flat.amin(1), flat.amax(1)))
        middle = (low * high) ** 0.5
        return Reference(middle[:, None], low / middle, high / middle)
    voigt, resistive = (
        to_tensors(torch.stack([part.flatten(1).mean(1) for part in field], 1).cpu().numpy())
        for field in (k, inverse(k))
    )
    reuss = torch.linalg.inv(torch.as_tensor(resistive)).numpy()
    middle = geometric_mean(0.5 * (reuss + reuss.swapaxes(-1, -2)), voigt)
    factor = torch.linalg.cholesky(torch.as_tensor(middle, device=k[0].device))
    root = torch.linalg.inv(factor)[:, None]
    values = torch.linalg.eigvalsh(root @ _matrices(k) @ root.mT).cpu().numpy()
    return Reference(to_components(middle), values[..., 0].min(1), values[..., -1].max(1))


def _matrices(k: Field) -> Tensor:
    """Fields (n, ...) -> (n, pixels, m, m)."""
    m = 2 if len(k) == 3 else 3
    number = {pair: place for place, pair in enumerate(PAIRS[m])}
    rows = [torch.stack([k[number[min(i, j), max(i, j)]] for j in range(m)], -1) for i in range(m)]
    return torch.stack(rows, -2).flatten(1, -3)


class LeastEnergies(torch.autograd.Function):
    """``apply(solve, slopes, *properties)``: least energies of fields with these properties.

    ``solve``: property fields -> what was found. ``slopes``: fluctuations and the symmetric weights
    W (n, m, m) -> derivatives of the sum of W_ij U_ij by each of the properties, in their shapes.
    Returns the energies (n, m, m), and whether they converged, (n,).
    """

    @staticmethod
    def forward(
        ctx: Any, solve: Callable[..., Minimum], slopes: Slopes, *properties: Tensor
    ) -> tuple[Tensor, Tensor]:
        with one_thread():
            found = solve(*properties)
        ctx.slopes = slopes
        ctx.save_for_backward(found.fields)
        ctx.mark_non_differentiable(found.converged)
        return found.energies, found.converged

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (fields,) = ctx.saved_tensors
        with one_thread():
            return None, None, *ctx.slopes(fields, 0.5 * (wanted + wanted.mT))


def _potential_slopes(components: int, fields: Tensor, weights: Tensor) -> list[Tensor]:
    if fields.ndim == 4:
        slopes = _flat_slopes(conductivity2d.total_gradient(fields), weights)
    else:
        slopes = _solid_slopes(conductivity3d.total_gradient(fields), weights)
    return _gathered(slopes, components)


def _flux_slopes(components: int, fields: Tensor, weights: Tensor) -> list[Tensor]:
    means, slopes = conductivity3d.total_flux(fields)
    own = [
        _paired(mean, mean, weights) + grid3d.MOMENT * _paired(slope, slope, weights)
        for mean, slope in zip(means, slopes, strict=True)
    ]
    if components == 1:
        return _gathered(own, 1)
    # Slopes run along different axes and average out between components.
    cross = [2 * _paired(means[a], means[b], weights) for a, b in PAIRS[3][3:]]
    return _gathered([*own, *cross], components)


def _paired(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Sum over the load cases of W_ij a_i b_j for symmetric ``weights`` W: (n, ...)."""
    shape = (len(a), *[1] * (a.ndim - 2))
    total = torch.zeros_like(a[:, 0])
    for i in range(a.shape[1]):
        row = torch.zeros_like(total)
        for j in range(a.shape[1]):
            row.addcmul_(b[:, j], weights[:, i, j].reshape(shape))
        total.addcmul_(a[:, i], row)
    return total


def _flat_slopes(g: grid.Modes, weights: Tensor) -> list[Tensor]:
    """Pixel means of e_a e_b, weighted, in the order of ``PAIRS[2]``."""
    twist = grid.TWIST_WEIGHT * _paired(g.twist, g.twist, weights)
    return [
        _paired(g.x, g.x, weights) + twist,
        _paired(g.y, g.y, weights) + twist,
        2 * _paired(g.x, g.y, weights),
    ]


def _solid_slopes(g: grid3d.Modes, weights: Tensor) -> list[Tensor]:
    """Voxel means of e_a e_b, weighted, in the order of ``PAIRS[3]``."""
    twist = {
        name: grid3d.MOMENT * _paired(mode, mode, weights)
        for name, mode in (("yz", g.yz), ("xz", g.xz), ("xy", g.xy))
    }
    last = grid3d.MOMENT**2 * _paired(g.xyz, g.xyz, weights)
    return [
        _paired(g.x, g.x, weights) + twist["xz"] + twist["xy"] + last,
        _paired(g.y, g.y, weights) + twist["yz"] + twist["xy"] + last,
        _paired(g.z, g.z, weights) + twist["yz"] + twist["xz"] + last,
        2 * (_paired(g.y, g.z, weights) + grid3d.MOMENT * _paired(g.xz, g.xy, weights)),
        2 * (_paired(g.x, g.z, weights) + grid3d.MOMENT * _paired(g.yz, g.xy, weights)),
        2 * (_paired(g.x, g.y, weights) + grid3d.MOMENT * _paired(g.yz, g.xz, weights)),
    ]


def _gathered(slopes: Sequence[Tensor], components: int) -> list[Tensor]:
    """Per pixel of the mean; those of the diagonal together where pixels are isotropic."""
    pixels = slopes[0][0].numel()
    if components > 1:
        return [slope / pixels for slope in slopes]
    m = slopes[0].ndim - 1
    return [torch.stack(list(slopes[:m])).sum(0) / pixels]
