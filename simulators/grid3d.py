"""Trilinear elements and face fluxes on a periodic voxel grid, one element per voxel.

Arrays are (..., d, h, w), indices modulo the shape; x runs along w, y along h, z along d, the
voxel is the unit of length, -1/2 <= s, t, r <= 1/2 are its local coordinates along x, y, z.

Potentials (Q1): nodal values; inside a voxel

    du/dx = gx + gxy t + gxz r + gxyz t r,    du/dy = gy + gxy s + gyz r + gxyz s r,
    du/dz = gz + gxz s + gyz t + gxyz s t,

seven numbers per voxel, its *modes*, which make integrals of quadratic forms exact.

Fluxes (lowest-order Raviart-Thomas): component c lives on the lower face of every voxel along
axis c and is linear along that axis inside: mean (J[i] + J[i+1]) / 2, slope J[i+1] - J[i]. Its
divergence in a voxel is the sum of the three slopes; where they cancel, the flux is divergence-free
at every point, which is what makes energies of fluxes bounds.

Sources: P.-A. Raviart and J.-M. Thomas, Lecture Notes in Mathematics 606, 292 (1977);
J.-C. Nedelec, Numer. Math. 35, 315 (1980).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from simulators.fields import irfft3, rfft3

MOMENT = 1.0 / 12.0  # <s^2> over a voxel
AXES = (-1, -2, -3)  # array dimensions of x, y, z

Shape = tuple[int, int, int]


class Modes(NamedTuple):
    """Gradient modes of nodal fields, each (..., d, h, w)."""

    x: Tensor
    y: Tensor
    z: Tensor
    yz: Tensor
    xz: Tensor
    xy: Tensor
    xyz: Tensor


def split(field: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and difference of every value and the next one along ``dim``."""
    after = torch.roll(field, -1, dim)
    return torch.lerp(field, after, 0.5), after.sub_(field)


def join(mean: Tensor | None, difference: Tensor | None, dim: int) -> Tensor:
    """Adjoint of ``split``; None stands for zeros."""
    if difference is None:
        if mean is None:
            raise ValueError("nothing to join")
        return torch.roll(mean, 1, dim).add_(mean).mul_(0.5)
    if mean is None:
        return torch.roll(difference, 1, dim).sub_(difference)
    after = torch.roll(torch.add(difference, mean, alpha=0.5), 1, dim)
    return after.add_(mean, alpha=0.5).sub_(difference)


def gradient(u: Tensor) -> Modes:
    """Nodal fields (..., d, h, w) -> modes of their gradient in every voxel."""
    mean, along = split(u, -1)
    mean, y = split(mean, -2)
    along, xy = split(along, -2)
    z = torch.roll(mean, -1, -3).sub_(mean)
    y, yz = split(y, -3)
    x, xz = split(along, -3)
    xy, xyz = split(xy, -3)
    return Modes(x, y, z, yz, xz, xy, xyz)


def divergence(m: Modes) -> Tensor:
    """Adjoint of ``gradient``: modes -> nodal fields (..., d, h, w)."""
    along = join(join(m.x, m.xz, -3), join(m.xy, m.xyz, -3), -2)
    across = join(join(None, m.z, -3), join(m.y, m.yz, -3), -2)
    return join(across, along, -1)


def _waves(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Wave numbers (x, y, z) of the half-spectrum, each ready to broadcast, float64."""
    d, h, w = shape
    qx = torch.arange(w // 2 + 1, dtype=torch.float64) / w
    qy = (torch.fft.fftfreq(h, dtype=torch.float64))[:, None]
    qz = (torch.fft.fftfreq(d, dtype=torch.float64))[:, None, None]
    return 2 * math.pi * qx, 2 * math.pi * qy, 2 * math.pi * qz


def laplacian(components: Tensor, shape: Shape) -> Tensor:
    """Fourier symbol (n, d, h, w // 2 + 1) of the trilinear operator of homogeneous media.

    ``components``: (n, 1) or (n, 6). A tensor product: differences along one axis, consistent
    mass 1 - S/6 along the others, S = 4 sin^2(q/2).
    """
    q = [wave.to(components.device) for wave in _waves(shape)]
    stiff = [4 * torch.sin(wave / 2) ** 2 for wave in q]
    mass = [1 - 2 * MOMENT * s for s in stiff]
    skew = [torch.sin(wave) for wave in q]
    k = components.double()[:, :, None, None, None]
    main = [
        stiff[0] * mass[1] * mass[2],
        mass[0] * stiff[1] * mass[2],
        mass[0] * mass[1] * stiff[2],
    ]
    if k.shape[1] == 1:
        symbol = k[:, 0] * (main[0] + main[1] + main[2])
    else:
        symbol = k[:, 0] * main[0] + k[:, 1] * main[1] + k[:, 2] * main[2]
        symbol = symbol + 2 * k[:, 3] * (mass[0] * skew[1] * skew[2])
        symbol = symbol + 2 * k[:, 4] * (skew[0] * mass[1] * skew[2])
        symbol = symbol + 2 * k[:, 5] * (skew[0] * skew[1] * mass[2])
    return symbol.to(components.dtype)


class FluxGreen(NamedTuple):
    """Hermitian multipliers on the half-spectrum: the best divergence-free flux for a force.

    ``diagonal``: real (n, 3, d, h, w // 2 + 1) xx, yy, zz; ``off``: complex yz, xz, xy.
    """

    diagonal: Tensor
    off: Tensor

    def apply(self, r: Tensor) -> Tensor:
        """Face fields (n, l, 3, d, h, w) -> divergence-free face fluxes without a mean."""
        spectrum = rfft3(r)
        x, y, z = (spectrum[:, :, c] for c in range(3))
        (xx, yy, zz), (yz, xz, xy) = (
            [part[:, c, None] for c in range(3)] for part in (self.diagonal, self.off)
        )
        found = torch.stack(
            (
                xx * x + xy * y + xz * z,
                xy.conj() * x + yy * y + yz * z,
                xz.conj() * x + yz.conj() * y + zz * z,
            ),
            dim=2,
        )
        d, h, w = r.shape[-3:]
        return irfft3(found, (d, h, w))


def flux_green(components: Tensor, shape: Shape) -> FluxGreen:
    """Minimiser of z : M z / 2 - (force, z) over divergence-free z without a mean.

    M is the energy of face fluxes in homogeneous media of the resistivities ``components``, (n, 1)
    or (n, 6). In half-voxel phases M and the divergence d = 2 sin(q/2) are real, and the minimiser
    is [d] M [d]^T / (d . adj(M) d), [d] the matrix of the cross product: the curl of a potential.
    """
    q = [wave.to(components.device) for wave in _waves(shape)]
    d1, d2, d3 = torch.broadcast_tensors(*(2 * torch.sin(wave / 2) for wave in q))
    cosines = [torch.cos(wave / 2) for wave in q]
    rho = components.double()[:, :, None, None, None]
    same = rho.shape[1] == 1
    m11, m22, m33 = (
        rho[:, 0 if same else c] * (1 - 2 * MOMENT * d**2) for c, d in enumerate((d1, d2, d3))
    )
    if same:
        m23 = m13 = m12 = torch.zeros_like(m11)
    else:
        m23 = rho[:, 3] * cosines[1] * cosines[2]
        m13 = rho[:, 4] * cosines[0] * cosines[2]
        m12 = rho[:, 5] * cosines[0] * cosines[1]
    scale = (
        d1**2 * (m22 * m33 - m23**2)
        + d2**2 * (m11 * m33 - m13**2)
        + d3**2 * (m11 * m22 - m12**2)
        + 2 * d2 * d3 * (m13 * m12 - m11 * m23)
        + 2 * d1 * d3 * (m12 * m23 - m22 * m13)
        + 2 * d1 * d2 * (m13 * m23 - m33 * m12)
    )
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    inverse[..., 0, 0, 0] = 0.0  # the mean flux is prescribed
    diagonal = torch.stack(
        (
            d3**2 * m22 - 2 * d2 * d3 * m23 + d2**2 * m33,
            d3**2 * m11 - 2 * d1 * d3 * m13 + d1**2 * m33,
            d2**2 * m11 - 2 * d1 * d2 * m12 + d1**2 * m22,
        ),
        dim=1,
    )
    off = torch.stack(
        (
            -(d1**2) * m23 + d1 * d2 * m13 + d1 * d3 * m12 - d2 * d3 * m11,
            -(d2**2) * m13 + d1 * d2 * m23 + d2 * d3 * m12 - d1 * d3 * m22,
            -(d3**2) * m12 + d1 * d3 * m23 + d2 * d3 * m13 - d1 * d2 * m33,
        ),
        dim=1,
    )
    half = [torch.polar(torch.ones_like(wave), wave / 2) for wave in q]
    phases = torch.stack(
        torch.broadcast_tensors(
            half[1].conj() * half[2], half[0].conj() * half[2], half[0].conj() * half[1]
        )
    )
    inverse = inverse[:, None]
    real, complex_ = components.dtype, torch.complex(components[:1, :1], components[:1, :1]).dtype
    return FluxGreen((diagonal * inverse).to(real), (off * inverse * phases).to(complex_))


def equilibrated(flux: Tensor) -> Tensor:
    """Orthogonal projection of face fluxes (..., 3, d, h, w): no divergence, no mean."""
    shape: Shape = (flux.shape[-3], flux.shape[-2], flux.shape[-1])
    x, y, z = (4 * torch.sin(wave.to(flux.device) / 2) ** 2 for wave in _waves(shape))
    symbol = (x + y + z).to(flux.dtype)
    symbol[..., 0, 0, 0] = torch.inf
    parts = (flux - flux.mean((-3, -2, -1), keepdim=True)).unbind(-4)
    x, y, z = (torch.roll(part, -1, dim) - part for part, dim in zip(parts, AXES, strict=True))
    excess = x + y + z
    potential = irfft3(rfft3(excess) / symbol, shape)
    return torch.stack(
        [
            part - (torch.roll(potential, 1, dim) - potential)
            for part, dim in zip(parts, AXES, strict=True)
        ],
        dim=-4,
    )
