"""Least stress energies of pixel and voxel images: stresses in equilibrium at every point.

Tensor-product B-splines, one coefficient per voxel and component. Along x, sigma_xx is quadratic
and continuously differentiable, and constant within a voxel along y and z; sigma_yz is constant
along x and linear and continuous along y and z; the others by exchange of the axes. Then

    d sigma_xx / dx,  d sigma_xy / dy,  d sigma_xz / dz

lie in one space, linear along x and constant along y and z, and are differences of coefficients:
where those of an axis add up to 0 the stress has no divergence inside voxels, and its traction is
continuous across faces because every component is continuous along the axes it acts on. So the
energy of any such field is an upper bound on that of the true stress of the same mean, for the
image as it stands, and by Castigliano's principle its inverse a lower bound on the stiffness. The
fields are all second derivatives (Beltrami) of spline potentials; in the plane they are Airy's,
for a biquadratic function, and along z the stress is free in every pixel.

Normal stresses are stored at voxel centres, shear stresses at the middles of edges, on the lower
side of the voxel of the same index. An image of one layer, d = 1, is a columnar body.

Sources: M. E. Gurtin, The Linear Theory of Elasticity, 1972, sections 17, 18 and 34; C. de Boor,
A Practical Guide to Splines, 2001; A. Buffa, J. Rivas, G. Sangalli and R. Vazquez, SIAM J. Numer.
Anal. 49, 818 (2011) (derivatives of spline spaces).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from simulators.fields import irfft3, rfft3
from simulators.grid3d import AXES, MOMENT, Shape, join, split
from simulators.krylov import System
from simulators.stiffness_primal import (
    WHOLE,
    Block,
    Law,
    Voigt,
    inverse3,
    product,
    sample,
    voigt_sums,
)
from simulators.stiffness_tensors import ORDER, SIZE, VOIGT

CURVE = 1.0 / 180.0  # mean square of s^2 - 1/12 over a voxel

# Parts of a component: which local coordinates it is linear in; (a, a) is s^2 - 1/12 of axis a.
Key = tuple[int, ...]
WEIGHTS: dict[Key, float] = {
    (): 1.0,
    (0,): MOMENT,
    (1,): MOMENT,
    (2,): MOMENT,
    (1, 2): MOMENT**2,
    (0, 2): MOMENT**2,
    (0, 1): MOMENT**2,
    (0, 0): CURVE,
    (1, 1): CURVE,
    (2, 2): CURVE,
}


def _parts(stress: Tensor, components: Sequence[int]) -> dict[Key, Voigt]:
    """Coefficients (n, l, c, d, h, w) -> parts of the stress in every voxel."""
    found: dict[Key, Voigt] = {}

    def put(key: Key, component: int, part: Tensor) -> None:
        found.setdefault(key, [None] * SIZE)[component] = part

    for position, number in enumerate(components):
        a, b = ORDER[number]
        field = stress[:, :, position]
        if a == b:
            dim = AXES[a]
            if field.shape[dim] == 1:
                put((), number, field)
                continue
            before, after = torch.roll(field, 1, dim), torch.roll(field, -1, dim)
            both = before + after
            put((), number, torch.add(both, field, alpha=4).div_(6))
            put((a, a), number, both.sub_(field, alpha=2).mul_(0.5))
            put((a,), number, after.sub_(before).mul_(0.5))
            continue
        low, high = min(a, b), max(a, b)
        parts: dict[Key, Tensor] = {(): field}
        for axis in (low, high):
            if field.shape[AXES[axis]] == 1:
                continue
            for key, part in list(parts.items()):
                parts[key], parts[(*key, axis)] = split(part, AXES[axis])
        for key, part in parts.items():
            put(key, number, part)
    return found


def _collect(parts: dict[Key, Voigt], out: Tensor, components: Sequence[int]) -> Tensor:
    """Adjoint of ``_parts``, into (n, l, c, d, h, w)."""

    def get(key: Key, component: int) -> Tensor | None:
        vector = parts.get(key)
        return None if vector is None else vector[component]

    for position, number in enumerate(components):
        a, b = ORDER[number]
        if a == b:
            mean = get((), number)
            assert mean is not None  # the compliance is positive
            dim = AXES[a]
            slope, curve = get((a,), number), get((a, a), number)
            if out.shape[dim] == 1:
                out[:, :, position] = mean
                continue
            centre = mean * (2 / 3)
            side = mean / 6
            if curve is not None:
                centre.sub_(curve)
                side.add_(curve, alpha=0.5)
            if slope is None:
                forward = backward = side
            else:
                forward = torch.add(side, slope, alpha=0.5)
                backward = side.sub_(slope, alpha=0.5)
            out[:, :, position] = centre.add_(torch.roll(forward, 1, dim)).add_(
                torch.roll(backward, -1, dim)
            )
            continue
        low, high = min(a, b), max(a, b)

        def joined(keys: tuple[Key, Key], axis: int, component: int = number) -> Tensor | None:
            mean, slope = (get(key, component) for key in keys)
            return _join(mean, slope, axis)

        first = joined(((), (low,)), low)
        second = joined(((high,), (low, high)), low)
        whole = _join(first, second, high)
        out[:, :, position] = 0.0 if whole is None else whole
    return out


def _join(mean: Tensor | None, slope: Tensor | None, axis: int) -> Tensor | None:
    if mean is None and slope is None:
        return None
    dim = AXES[axis]
    like = mean if mean is not None else slope
    assert like is not None
    return mean if like.shape[dim] == 1 else join(mean, slope, dim)


def _applied(law: Law, parts: dict[Key, Voigt]) -> dict[Key, Voigt]:
    """Strain parts, weighted, of the components that each stress part has."""
    found = {}
    for key, vector in parts.items():
        there = [i for i, part in enumerate(vector) if part is not None]
        strain = product(law, vector, there)
        if key:
            for i in there:
                part = strain[i]
                strain[i] = None if part is None else part.mul_(WEIGHTS[key])
        found[key] = strain
    return found


class Equilibrium(NamedTuple):
    """Stress fields without divergence, in Fourier space, on a (d, h, w) grid.

    ``frame``: [6][3] real (d, h, w // 2 + 1), a basis of them at every wave number, None where 0;
    ``shift``: [6] complex factors, from where a component stands to its coefficients.
    """

    frame: list[list[Tensor | None]]
    shift: list[Tensor]

    def to(self, kind: torch.dtype) -> Equilibrium:
        """The same in single or double precision."""
        frame = [[None if f is None else f.to(kind) for f in row] for row in self.frame]
        return Equilibrium(frame, [shift.to(kind.to_complex()) for shift in self.shift])

    def project(self, f: Tensor, middle: tuple[Tensor, ...], components: Sequence[int]) -> Tensor:
        """Spectra (n, l, c, d, h, w // 2 + 1) times frame middle frame^T.

        ``middle``: six entries (n, 1, ...) of 3 x 3 matrices.
        """
        frame = [self.frame[c] for c in components]
        shift = [self.shift[c] for c in components]
        own = [f[:, :, c] * part.conj() for c, part in enumerate(shift)]
        inside = [_combined([row[a] for row in frame], own) for a in range(3)]
        inner = [
            None
            if inside[a] is None
            else _combined([middle[VOIGT[a][b]] for b in range(3)], inside)
            for a in range(3)
        ]
        found = torch.zeros_like(f)
        for c, (row, part) in enumerate(zip(frame, shift, strict=True)):
            total = _combined(row, inner)
            if total is not None:
                torch.mul(total, part, out=found[:, :, c])
        return found


def _combined(weights: Sequence[Tensor | None], parts: Sequence[Tensor | None]) -> Tensor | None:
    total: Tensor | None = None
    for weight, part in zip(weights, parts, strict=True):
        if weight is not None and part is not None:
            total = part * weight if total is None else total.addcmul_(part, weight)
    return total


def _waves(shape: Shape, device: torch.device) -> list[Tensor]:
    """Wave numbers (x, y, z) of the half-spectrum, (d, h, w // 2 + 1) each, float64."""
    d, h, w = shape
    q = (torch.fft.rfftfreq(w), torch.fft.fftfreq(h), torch.fft.fftfreq(d))
    sizes = ((1, 1, -1), (1, -1, 1), (-1, 1, 1))
    steps = [torch.round(part.double() * n) for part, n in zip(q, (w, h, d), strict=True)]
    exact = [
        (2 * math.pi * step / n).reshape(size).to(device)
        for step, n, size in zip(steps, (w, h, d), sizes, strict=True)
    ]
    return list(torch.broadcast_tensors(*exact))


def equilibrium(shape: Shape, device: torch.device) -> Equilibrium:
    """All stresses without divergence or mean on a grid, float64.

    With every coefficient taken to where it stands, the divergence is i sigma . d with the real
    direction d = 2 sin(q / 2): what it leaves are the stresses in the plane across d.
    """
    q = _waves(shape, device)
    direction = torch.stack([2 * torch.sin(wave / 2) for wave in q])
    length = direction.norm(dim=0, keepdim=True)
    length[:, 0, 0, 0] = 1.0
    normal = direction / length
    # The axis across which the direction is least never lies along it.
    least = normal.abs().argmin(0)
    helper = torch.nn.functional.one_hot(least, 3).movedim(-1, 0).to(normal.dtype)
    first = torch.linalg.cross(normal, helper, dim=0)
    size = first.norm(dim=0, keepdim=True)
    size[:, 0, 0, 0] = 1.0
    first = first / size
    second = torch.linalg.cross(normal, first, dim=0)
    pairs = ((first, first), (second, second), (first, second))
    frame: list[list[Tensor | None]] = []
    for i, j in ORDER:
        row = [0.5 * (a[i] * b[j] + a[j] * b[i]) for a, b in pairs]
        for entry in row:
            entry[0, 0, 0] = 0.0  # the mean stress is prescribed
        # A columnar body has no wave along z, and half of the entries vanish.
        frame.append([entry if bool(entry.any()) else None for entry in row])
    shifts = []
    for i, j in ORDER:
        angle = torch.zeros_like(q[0]) if i == j else -(q[i] + q[j]) / 2
        shifts.append(torch.polar(torch.ones_like(angle), angle))
    return Equilibrium(frame, shifts)


def _gram(q: Tensor, a: int, b: int) -> Tensor:
    """Fourier symbol of the mean of the product of B-splines of degrees a and b on one axis."""
    low, high = min(a, b), max(a, b)
    s = 4 * torch.sin(q / 2) ** 2
    if (low, high) == (0, 0):
        return torch.ones_like(q)
    if (low, high) in ((1, 1), (0, 2)):
        return 1 - s / 6
    if (low, high) == (0, 1):
        return torch.cos(q / 2)
    if (low, high) == (1, 2):
        return (11 * torch.cos(q / 2) + torch.cos(3 * q / 2)) / 12
    return 1 - s / 4 + s**2 / 120


def _degree(component: int, axis: int) -> int:
    i, j = ORDER[component]
    return (i == axis) + (j == axis)


def _inner(
    medium: Tensor, shape: Shape, space: Equilibrium, components: Sequence[int]
) -> tuple[Tensor, ...]:
    """Inverse of the energy of the ``frame`` in the media (n, 6, 6), six entries (n, 1, ...)."""
    q = _waves(shape, medium.device)
    m = medium.double()
    frame = space.frame
    sums = [torch.zeros(len(m), 1, *q[0].shape, dtype=m.dtype, device=m.device) for _ in ORDER]
    for i in components:
        for j in components:
            overlap = torch.ones_like(q[0])
            for axis in range(3):
                overlap = overlap * _gram(q[axis], _degree(i, axis), _degree(j, axis))
            weight = m[:, i, j].reshape(-1, 1, 1, 1, 1)
            for number, (a, b) in enumerate(ORDER):
                left, right = frame[i][a], frame[j][b]
                if left is not None and right is not None:
                    sums[number].addcmul_(weight, overlap * left * right)
    return _inverse(sums)


def _inverse(sums: list[Tensor]) -> tuple[Tensor, ...]:
    """Of 3 x 3 matrices; what no component has a share in is 0 and does not matter."""
    for entry in sums[:3]:
        entry[..., 0, 0, 0] = 1.0
        if not bool(entry[..., 1:].any() or entry[..., 1:, :].any() or entry[..., 1:, :, :].any()):
            entry.fill_(1.0)
    return inverse3(*sums)


def equilibrated(stress: Tensor) -> Tensor:
    """Orthogonal projection of coefficients (n, l, 6, d, h, w): no divergence, no mean."""
    shape: Shape = (stress.shape[-3], stress.shape[-2], stress.shape[-1])
    space = equilibrium(shape, stress.device).to(stress.dtype)
    return _projected(stress, space, WHOLE.cases)


def _projected(stress: Tensor, space: Equilibrium, components: Sequence[int]) -> Tensor:
    """Orthogonal as so many numbers, not as a tensor: residuals are projected too."""
    shape: Shape = (stress.shape[-3], stress.shape[-2], stress.shape[-1])
    gram: list[Tensor] = []
    for a, b in ORDER:
        total = torch.zeros_like(space.shift[0].real)
        for c in components:
            left, right = space.frame[c][a], space.frame[c][b]
            if left is not None and right is not None:
                total = total + left * right
        gram.append(total)
    return irfft3(space.project(rfft3(stress), _inverse(gram), components), shape)


def stress_system(s: Law, medium: Tensor, coercivity: Tensor, block: Block = WHOLE) -> System:
    """The minimum of the mean of sigma : S : sigma over stresses in equilibrium, times the voxels.

    Unknowns: fluctuations (n, l, l, d, h, w), load case (unit mean stress) before component, both
    those of the ``block``. ``medium``: (n, 6, 6) compliance; ``coercivity``: (n,), S >= coercivity
    times the medium. Iterates stay in equilibrium because the preconditioner projects.
    """
    first = sample(s)
    n, cases = len(first), block.cases
    shape: Shape = (first.shape[1], first.shape[2], first.shape[3])
    exact = equilibrium(shape, first.device)
    middle = tuple(part.to(first.dtype) for part in _inner(medium, shape, exact, cases))
    space = exact.to(first.dtype)

    def clean(r: Tensor) -> Tensor:
        return _projected(r, space, cases)

    def apply(stress: Tensor) -> Tensor:
        found = _collect(_applied(s, _parts(stress, cases)), torch.empty_like(stress), cases)
        # A compatible strain does not matter here, but it is large, and in float32 its rounding
        # does.
        return clean(found) if found.dtype == torch.float32 else found

    def precondition(r: Tensor) -> Tensor:
        return irfft3(space.project(rfft3(r), middle, cases), shape)

    none = torch.zeros_like(first)
    mean: Voigt = [None] * SIZE
    for i in cases:
        column = [s[i][case] for case in cases]
        mean[i] = torch.stack([none if entry is None else entry for entry in column], dim=1)
    force = torch.empty(n, len(cases), len(cases), *shape, dtype=first.dtype, device=first.device)
    force = _collect({(): mean}, force, cases).neg_()
    energy = voigt_sums(s)[:, list(cases)]
    return System(apply, precondition, force, energy, coercivity[:, None].expand_as(energy), clean)


def stress_parts(fields: Tensor) -> list[tuple[float, Voigt]]:
    """Weight and stress of every part of the fields (n, 6, 6, d, h, w) plus their unit means.

    Whatever divergence rounding has left is taken out first.
    """
    stress = equilibrated(fields)
    for case in range(SIZE):
        stress[:, case, case] += 1
    return [(WEIGHTS[key], vector) for key, vector in _parts(stress, WHOLE.cases).items()]
