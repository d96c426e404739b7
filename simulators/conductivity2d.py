"""The Dirichlet principle on pixel images: systems for ``krylov`` and energies of their fields.

A field of conductivities is a tuple of tensors (n, h, w): one for isotropic pixels, three in the
order of ``tensors.PAIRS`` (xx, yy, xy) for anisotropic ones. Discretisation: ``grid``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from simulators.fields import irfft2, one_by_one, rfft2
from simulators.grid import TWIST_WEIGHT, Modes, divergence, gradient, symbols
from simulators.krylov import System

CASES = 2  # mean gradients along x and y

Field = tuple[Tensor, ...]


class Medium(NamedTuple):
    """Homogeneous media of the preconditioner.

    ``components``: (n, c) in the order of ``PAIRS``. ``coercivity``: (n,), k >= coercivity times
    the medium in every pixel.
    """

    components: Tensor
    coercivity: Tensor


def dirichlet_system(k: Field, medium: Medium) -> System:
    """The minimum of the mean of E : k : E over periodic potentials, times the pixels.

    Isotropic pixels take the geometric mean of their extremes for a medium, whatever is given.
    """
    return _isotropic(k[0]) if len(k) == 1 else _anisotropic(k, medium)


def _isotropic(k: Tensor) -> System:
    n, h, w = k.shape
    low, high = k.amin((1, 2)), k.amax((1, 2))
    middle = (low * high).sqrt()
    k1 = k[:, None]
    s = symbols((h, w), dtype=k.dtype, device=k.device)
    laplacian = s.xx + s.yy + 2 * TWIST_WEIGHT * s.twist
    green = torch.where(laplacian > 0, 1 / laplacian, 0.0) / middle[:, None, None, None]

    def currents(u: Tensor, k1: Tensor) -> Tensor:
        g = gradient(u)
        g.twist.mul_(2 * TWIST_WEIGHT)
        return divergence(Modes(g.x.mul_(k1), g.y.mul_(k1), g.twist.mul_(k1)))

    def potentials(r: Tensor, green: Tensor) -> Tensor:
        return irfft2(rfft2(r).mul_(green), (h, w))

    def apply(u: Tensor) -> Tensor:
        return one_by_one(currents, u, k1)

    def precondition(r: Tensor) -> Tensor:
        return one_by_one(potentials, r, green)

    none = torch.zeros_like(k)
    force = -torch.stack(
        (divergence(Modes(k, none, none)), divergence(Modes(none, k, none))), dim=1
    )
    # Mean energies times the number of pixels: the sums that the solver works with.
    voigt = k.sum((1, 2))[:, None].expand(n, CASES)
    return System(apply, precondition, force, voigt, (low / middle)[:, None].expand(n, CASES))


def _anisotropic(k: Field, medium: Medium) -> System:
    xx, yy, xy = k
    n, h, w = xx.shape
    k_xx, k_yy, k_xy = (component[:, None] for component in k)
    k_twist = (k_xx + k_yy) * TWIST_WEIGHT
    s = symbols((h, w), dtype=xx.dtype, device=xx.device)
    r_xx, r_yy, r_xy = (c[:, None, None, None] for c in medium.components.unbind(1))
    symbol = r_xx * s.xx + r_yy * s.yy + 2 * r_xy * s.xy
    symbol = symbol + (r_xx + r_yy) * TWIST_WEIGHT * s.twist
    green = 1 / symbol
    green[..., 0, 0] = 0.0  # a uniform potential drives nothing

    def apply(u: Tensor) -> Tensor:
        g = gradient(u)
        x = (g.x * k_xx).addcmul_(g.y, k_xy)
        y = g.x.mul_(k_xy).addcmul_(g.y, k_yy)
        return divergence(Modes(x, y, g.twist.mul_(k_twist)))

    def precondition(r: Tensor) -> Tensor:
        return irfft2(rfft2(r).mul_(green), (h, w))

    none = torch.zeros_like(xx)
    force = -torch.stack((divergence(Modes(xx, xy, none)), divergence(Modes(xy, yy, none))), dim=1)
    voigt = torch.stack((xx.sum((1, 2)), yy.sum((1, 2))), dim=1)
    return System(apply, precondition, force, voigt, medium.coercivity[:, None].expand(n, CASES))


def total_gradient(fields: Tensor) -> Modes:
    """Modes of the unit mean gradients plus those of the fields, (n, 2, h, w) each."""
    g = gradient(fields)
    g.x[:, 0] += 1
    g.y[:, 1] += 1
    return g


def dirichlet_energies(fields: Tensor, k: Field) -> Tensor:
    """Mean energies (n, 2, 2) of the fields (n, 2, h, w) plus their unit mean gradients."""
    n, h, w = k[0].shape
    g = total_gradient(fields)
    energies = torch.zeros(n, CASES, CASES, dtype=fields.dtype, device=fields.device)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        density = isotropic_density(g, i, j) * k[0] if len(k) == 1 else _density(g, k, i, j)
        total = density.flatten(1).sum(-1) / (h * w)
        energies[:, i, j] = total
        energies[:, j, i] = total
    return energies


def isotropic_density(g: Modes, i: int, j: int) -> Tensor:
    """Pixel means of e_i . e_j, (n, h, w): the energy's derivative by the conductivity."""
    density = g.x[:, i] * g.x[:, j]
    density = density + g.y[:, i] * g.y[:, j]
    return density + 2 * TWIST_WEIGHT * g.twist[:, i] * g.twist[:, j]


def _density(g: Modes, k: Field, i: int, j: int) -> Tensor:
    xx, yy, xy = k
    twist = g.twist[:, i] * g.twist[:, j] * TWIST_WEIGHT
    density = xx * (g.x[:, i] * g.x[:, j] + twist) + yy * (g.y[:, i] * g.y[:, j] + twist)
    return density + xy * (g.x[:, i] * g.y[:, j] + g.y[:, i] * g.x[:, j])
