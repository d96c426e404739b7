"""Least strain energies of pixel and voxel images: compatible strains, any anisotropy.

Displacements are bilinear in pixels, trilinear in voxels (``grid``, ``grid3d``), three components
in both: an image (n, 1, h, w) of one layer is the cross-section of a columnar body in generalised
plane strain, nothing varying along z. Load cases are the six unit mean strains in Voigt's order.

Inside a voxel the strain is a sum of functions 1, t, s, r, t r, s r, s t of the local coordinates
that are orthogonal, so the energy is the sum of those of the parts: integration is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from simulators import grid, grid3d
from simulators.fields import irfft3, rfft3
from simulators.grid3d import MOMENT, laplacian
from simulators.krylov import System
from simulators.stiffness_tensors import ENTRIES, SIZE, VOIGT


class Block(NamedTuple):
    """Load cases (and stress components) and displacements that go together, nothing else."""

    cases: tuple[int, ...]
    axes: tuple[int, ...]


WHOLE = Block((0, 1, 2, 3, 4, 5), (0, 1, 2))
PLANE = Block((0, 1, 2, 5), (0, 1))
ALONG = Block((3, 4), (2,))

# Field of stiffness or compliance: entries (n, d, h, w) of a symmetric 6 x 6 matrix, None where 0.
Law = tuple[tuple[Tensor | None, ...], ...]
Voigt = list[Tensor | None]  # six components, None where 0

# Parts of the strain: mean square of the function, then (axis of the derivative, its mode).
Parts = tuple[tuple[float, tuple[tuple[int, int], ...]], ...]
FLAT: Parts = ((1.0, ((0, 0), (1, 1))), (MOMENT, ((0, 2),)), (MOMENT, ((1, 2),)))
SOLID: Parts = (
    (1.0, ((0, 0), (1, 1), (2, 2))),
    (MOMENT, ((0, 5), (2, 3))),
    (MOMENT, ((1, 5), (2, 4))),
    (MOMENT, ((0, 4), (1, 3))),
    (MOMENT**2, ((0, 6),)),
    (MOMENT**2, ((1, 6),)),
    (MOMENT**2, ((2, 6),)),
)


def law_of(components: Sequence[Tensor | None]) -> Law:
    """21 components in the order of ``ENTRIES`` -> 6 x 6 entries."""
    table: list[list[Tensor | None]] = [[None] * SIZE for _ in range(SIZE)]
    for (i, j), entry in zip(ENTRIES, components, strict=True):
        table[i][j] = table[j][i] = entry
    return tuple(tuple(row) for row in table)


def sample(law: Law) -> Tensor:
    """Any entry: for shape, type and device."""
    entry = law[0][0]
    assert entry is not None  # positive definite
    return entry


def blocks(law: Law) -> tuple[Block, ...]:
    """Shear along z is a problem of its own in columns whose phases do not couple it."""
    if sample(law).shape[1] > 1:
        return (WHOLE,)
    coupled = any(law[i][j] is not None for i in PLANE.cases for j in ALONG.cases)
    return (WHOLE,) if coupled else (PLANE, ALONG)


def product(law: Law, vector: Voigt, rows: Sequence[int]) -> Voigt:
    """The given rows of law times vector; entries (n, d, h, w), components (n, l, d, h, w)."""
    found: Voigt = [None] * SIZE
    for i in rows:
        total: Tensor | None = None
        for entry, part in zip(law[i], vector, strict=True):
            if entry is None or part is None:
                continue
            field = entry[:, None]
            total = part * field if total is None else total.addcmul_(part, field)
        found[i] = total
    return found


def _parts(shape: Sequence[int]) -> Parts:
    return FLAT if shape[-3] == 1 else SOLID


def _gradient(u: Tensor) -> tuple[Tensor, ...]:
    return tuple(grid.gradient(u) if u.shape[-3] == 1 else grid3d.gradient(u))


def _divergence(modes: list[Tensor]) -> Tensor:
    if len(modes) == 3:
        return grid.divergence(grid.Modes(*modes))
    return grid3d.divergence(grid3d.Modes(*modes))


def _rows(pairs: tuple[tuple[int, int], ...], axes: Sequence[int]) -> list[int]:
    return sorted({VOIGT[c][axis] for axis, _ in pairs for c in axes})


def _strain(
    modes: tuple[Tensor, ...], pairs: tuple[tuple[int, int], ...], axes: Sequence[int]
) -> Voigt:
    """One part of the strain, (n, l, d, h, w) each, of modes (n, l, c, d, h, w)."""
    strain: Voigt = [None] * SIZE
    for axis, mode in pairs:
        for position, c in enumerate(axes):
            number, part = VOIGT[c][axis], modes[mode][:, :, position]
            before = strain[number]
            strain[number] = part if before is None else before + part
    return strain


class _Stresses:
    """Modes (n, l, c, d, h, w) from the parts of a stress: the adjoint of ``_strain``."""

    def __init__(self, like: tuple[Tensor, ...], axes: Sequence[int]) -> None:
        self.modes: list[Tensor | None] = [None] * len(like)
        self.like = like[0]
        self.axes = axes

    def add(self, stress: Voigt, weight: float, pairs: tuple[tuple[int, int], ...]) -> None:
        for axis, mode in pairs:
            target = self.modes[mode]
            fresh = target is None
            if target is None:
                target = self.modes[mode] = torch.empty_like(self.like)
            for position, c in enumerate(self.axes):
                view, part = target[:, :, position], stress[VOIGT[c][axis]]
                if part is None:
                    if fresh:
                        view.zero_()
                elif fresh:
                    torch.mul(part, weight, out=view)
                else:
                    view.add_(part, alpha=weight)

    def divergence(self) -> Tensor:
        return _divergence([mode for mode in self.modes if mode is not None])


def strain_system(c: Law, medium: Tensor, coercivity: Tensor, block: Block = WHOLE) -> System:
    """The minimum of the mean of e : C : e over periodic displacements, times the voxels.

    Unknowns: (n, l, c, d, h, w), load cases before components of the ``block``. ``medium``:
    (n, 6, 6) stiffness of the preconditioner; ``coercivity``: (n,), C >= coercivity times the
    medium in every voxel.
    """
    first = sample(c)
    n, shape = len(first), tuple(first.shape[1:])
    green = _green(medium, (shape[0], shape[1], shape[2]))
    parts = _parts(shape)
    cases, axes = block

    def apply(u: Tensor) -> Tensor:
        modes = _gradient(u)
        stresses = _Stresses(modes, axes)
        for weight, pairs in parts:
            strain = _strain(modes, pairs, axes)
            stresses.add(product(c, strain, _rows(pairs, axes)), weight, pairs)
        return stresses.divergence()

    def precondition(r: Tensor) -> Tensor:
        f = rfft3(r)
        found = torch.empty_like(f)
        for row, i in enumerate(axes):
            target = torch.mul(f[:, :, 0], green[VOIGT[i][axes[0]]], out=found[:, :, row])
            for column, j in enumerate(axes[1:], start=1):
                target.addcmul_(green[VOIGT[i][j]], f[:, :, column])
        return irfft3(found, (shape[0], shape[1], shape[2]))

    whole = (n, len(cases), len(axes), *shape)
    modes = [torch.zeros(whole, dtype=first.dtype, device=first.device)]
    modes += [torch.zeros_like(modes[0]) for _ in range(2 if parts is FLAT else 6)]
    for axis, mode in parts[0][1]:
        for position, component in enumerate(axes):
            for number, case in enumerate(cases):
                entry = c[VOIGT[component][axis]][case]
                if entry is not None:
                    modes[mode][:, number, position] = entry
    force = -_divergence(modes)
    energy = voigt_sums(c)[:, list(cases)]
    return System(apply, precondition, force, energy, coercivity[:, None].expand_as(energy))


def voigt_sums(law: Law) -> Tensor:
    """Sums of the diagonal entries over the voxels, (n, 6)."""
    sums = []
    for i in range(SIZE):
        entry = law[i][i]
        assert entry is not None  # positive definite
        sums.append(entry.flatten(1).sum(1))
    return torch.stack(sums, dim=1)


def _green(medium: Tensor, shape: grid3d.Shape) -> tuple[Tensor, ...]:
    """Inverse of the 3 x 3 symbol of the media, six entries (n, 1, d, h, w // 2 + 1).

    The symbol is real: the products of derivatives of (tri)linear elements are, see ``laplacian``.
    """
    unit = torch.eye(SIZE, dtype=torch.float64, device=medium.device)
    tables = laplacian(unit, shape)
    tables[3:] /= 2  # there the mixed derivatives count twice
    m = medium.double()

    def entry(i: int, k: int) -> Tensor:
        weights = torch.stack(
            [
                torch.stack([m[:, VOIGT[i][j], VOIGT[k][q]] for q in range(3)], dim=1)
                for j in range(3)
            ],
            dim=1,
        )
        pairs = torch.stack([weights[:, j, j] for j in range(3)], dim=1)
        mixed = torch.stack(
            [weights[:, j, q] + weights[:, q, j] for j, q in ((1, 2), (0, 2), (0, 1))], dim=1
        )
        return torch.einsum("nc,cdhw->ndhw", torch.cat((pairs, mixed), dim=1), tables)[:, None]

    a, b, c = entry(0, 0), entry(1, 1), entry(2, 2)
    d, e, f = entry(1, 2), entry(0, 2), entry(0, 1)
    inverse = inverse3(a, b, c, d, e, f)
    return tuple(part.to(medium.dtype) for part in inverse)


def inverse3(
    xx: Tensor, yy: Tensor, zz: Tensor, yz: Tensor, xz: Tensor, xy: Tensor
) -> tuple[Tensor, ...]:
    """Inverse of symmetric 3 x 3 matrices on the half-spectrum, 0 at wave number 0."""
    cofactors = (
        yy * zz - yz * yz,
        xx * zz - xz * xz,
        xx * yy - xy * xy,
        xz * xy - xx * yz,
        xy * yz - yy * xz,
        xz * yz - zz * xy,
    )
    determinant = xx * cofactors[0] + xy * cofactors[5] + xz * cofactors[4]
    determinant[..., 0, 0, 0] = torch.inf
    return tuple(cofactor / determinant for cofactor in cofactors)


def mean_strains(fields: Tensor) -> Tensor:
    """Strains at the voxel centres, which are the voxel means too: (n, 6, 6, d, h, w).

    Load case before component; of the fields (n, 6, 3, d, h, w) with their unit mean strains.
    """
    return torch.stack(_total(_gradient(fields), fields), dim=2)


def _total(modes: tuple[Tensor, ...], fields: Tensor) -> list[Tensor]:
    found = []
    for i, part in enumerate(_strain(modes, _parts(fields.shape)[0][1], WHOLE.axes)):
        whole = torch.zeros_like(fields[:, :, 0]) if part is None else part.clone()
        whole[:, i] += 1
        found.append(whole)
    return found


def strain_parts(fields: Tensor) -> list[tuple[float, Voigt]]:
    """Weight and strain of every part, the unit mean strains included."""
    modes = _gradient(fields)
    parts = _parts(fields.shape)
    found: list[tuple[float, Voigt]] = [(1.0, list(_total(modes, fields)))]
    return found + [(weight, _strain(modes, pairs, WHOLE.axes)) for weight, pairs in parts[1:]]


def energies(law: Law, parts: list[tuple[float, Voigt]]) -> Tensor:
    """Mean energies (n, 6, 6) of strains by stiffness or of stresses by compliance."""
    total: Tensor | None = None
    for weight, vector in parts:
        there = [i for i, part in enumerate(vector) if part is not None]
        answer = product(law, vector, there)
        for i in there:
            left, right = vector[i], answer[i]
            if left is None or right is None:
                continue
            term = torch.bmm(left.flatten(2), right.flatten(2).mT) * weight
            total = term if total is None else total + term
    assert total is not None
    total = total / sample(law)[0].numel()
    return 0.5 * (total + total.mT)
