"""Multigrid for networks of conductances between the cells of regular grids.

The finite-volume operator of a pixel or voxel image: every cell is joined to its neighbours by
conductances that may be 0, and to fixed potentials by others. Coarse grids join blocks of two cells
along every axis; a link between blocks is the sum of the links that cross, halved because blocks
lie twice as far apart, which is the over-correction that constant interpolation needs. One V-cycle
is symmetric and positive definite: a preconditioner for conjugate gradients that sees insulators
and channels, and whose cost is a few operators, on batches, on a CPU or a GPU.

Sources: D. Braess, Computing 55, 379 (1995); U. Trottenberg, C. Oosterlee and A. Schueller,
Multigrid, 2001, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMOOTHING = 0.8  # damped Jacobi
SWEEPS = 1
DIRECT = 64  # cells of the coarsest grid, whose operator is inverted


@dataclass(frozen=True, slots=True)
class Network:
    """Conductances of n grids, (n, s1, ..., sm).

    ``links[a]``: between neighbours along axis a, one shorter there. ``wraps[a]``: between the last
    and the first cell along it, length 1 there, or None. ``ground``: to fixed potentials.
    """

    links: tuple[Tensor, ...]
    wraps: tuple[Tensor | None, ...]
    ground: Tensor

    def diagonal(self) -> Tensor:
        """Sums of the conductances of every cell."""
        total = self.ground.clone()
        for axis, (link, wrap) in enumerate(zip(self.links, self.wraps, strict=True)):
            dim, size = axis + 1, total.shape[axis + 1]
            total.narrow(dim, 0, size - 1).add_(link)
            total.narrow(dim, 1, size - 1).add_(link)
            if wrap is not None:
                total.narrow(dim, 0, 1).add_(wrap)
                total.narrow(dim, size - 1, 1).add_(wrap)
        return total

    def apply(self, u: Tensor, diagonal: Tensor, out: Tensor | None = None) -> Tensor:
        """Net currents out of the cells at potentials u, the fixed potentials being 0."""
        out = torch.mul(diagonal, u, out=out)
        for axis, (link, wrap) in enumerate(zip(self.links, self.wraps, strict=True)):
            dim, size = axis + 1, u.shape[axis + 1]
            below, above = u.narrow(dim, 0, size - 1), u.narrow(dim, 1, size - 1)
            out.narrow(dim, 0, size - 1).addcmul_(link, above, value=-1)
            out.narrow(dim, 1, size - 1).addcmul_(link, below, value=-1)
            if wrap is not None:
                first, last = u.narrow(dim, 0, 1), u.narrow(dim, size - 1, 1)
                out.narrow(dim, 0, 1).addcmul_(wrap, last, value=-1)
                out.narrow(dim, size - 1, 1).addcmul_(wrap, first, value=-1)
        return out

    def coarse(self, driven: int) -> Network:
        """The network of blocks; ``driven``: the axis whose ends are the fixed potentials."""
        links, wraps = [], []
        for axis, (link, wrap) in enumerate(zip(self.links, self.wraps, strict=True)):
            crossing = link[(slice(None),) * (axis + 1) + (slice(1, None, 2),)]
            links.append(_summed(crossing, skip=axis) * 0.5)
            wide = self.ground.shape[axis + 1] > 2
            wraps.append(_summed(wrap, skip=axis) * 0.5 if wrap is not None and wide else None)
        ground = _summed(self.ground)
        if self.ground.shape[driven + 1] > 1:
            ground = ground * 0.5
        return Network(tuple(links), tuple(wraps), ground)


def _summed(field: Tensor, skip: int = -1) -> Tensor:
    """Sums over blocks of two along every axis but ``skip``; a last odd cell stands alone."""
    for axis in range(field.ndim - 1):
        size = field.shape[axis + 1]
        if axis == skip or size == 1:
            continue
        head = (slice(None),) * (axis + 1)
        odd = field[(*head, slice(1, None, 2))]
        even = field[(*head, slice(0, size - size % 2, 2))]
        last = field[(*head, slice(size - 1, None))]
        field = even + odd if size % 2 == 0 else torch.cat((even + odd, last), axis + 1)
    return field


def _spread(field: Tensor, shape: torch.Size) -> Tensor:
    """Adjoint of ``_summed``: every block's value in its cells."""
    doubled, split, merged = field, list[int](), list[int]()
    for dim in range(1, field.ndim):
        doubled = doubled.unsqueeze(2 * dim)
        split += [field.shape[dim], 2 if shape[dim] > 1 else 1]
        merged.append(split[-2] * split[-1])
    field = doubled.expand(len(field), *split).reshape(len(field), *merged)
    for dim in range(1, field.ndim):
        field = field.narrow(dim, 0, shape[dim])
    return field


@dataclass(frozen=True, slots=True)
class _Level:
    network: Network
    diagonal: Tensor
    inverse: Tensor  # of the diagonal, damped; 0 in cells without conductance
    used: Tensor  # 1 in cells with conductance, else 0
    # Kept from cycle to cycle: fresh pages cost more than the arithmetic.
    x: Tensor
    left: Tensor


class Multigrid:
    """V-cycles for one batch of networks."""

    def __init__(self, network: Network, driven: int) -> None:
        self.levels: list[_Level] = []
        while True:
            diagonal = network.diagonal()
            inverse = torch.where(diagonal > 0, SMOOTHING / diagonal, 0.0)
            used = (diagonal > 0).to(diagonal.dtype)
            spare = torch.empty_like(diagonal), torch.empty_like(diagonal)
            self.levels.append(_Level(network, diagonal, inverse, used, *spare))
            if diagonal[0].numel() <= DIRECT:
                break
            network = network.coarse(driven)
        self.coarsest = self._inverted(self.levels[-1])

    def _inverted(self, level: _Level) -> Tensor:
        """(n, c, c) inverse operators of the coarsest grid; empty cells stay at 0."""
        diagonal = level.diagonal.flatten(1)
        # 1 in the row of an empty cell, which is 0 otherwise, until it is inverted.
        empty = torch.diag_embed((diagonal <= 0).to(diagonal.dtype))
        matrix = torch.diag_embed(diagonal) + empty
        number = torch.arange(diagonal.shape[1], device=diagonal.device)
        number = number.reshape(level.diagonal.shape[1:])
        network = level.network
        for axis, (link, wrap) in enumerate(zip(network.links, network.wraps, strict=True)):
            size = number.shape[axis]
            pairs = [(link, number.narrow(axis, 0, size - 1), number.narrow(axis, 1, size - 1))]
            if wrap is not None:
                pairs.append((wrap, number.narrow(axis, size - 1, 1), number.narrow(axis, 0, 1)))
            for values, one, other in pairs:
                i, j = one.flatten(), other.flatten()
                matrix[:, i, j] -= values.flatten(1)
                matrix[:, j, i] -= values.flatten(1)
        return torch.linalg.inv(matrix) - empty

    def cycle(self, r: Tensor, number: int = 0) -> Tensor:
        """Approximate potentials of the currents r, (n, s1, ..., sm), until the next cycle."""
        level = self.levels[number]
        if number == len(self.levels) - 1:
            return (self.coarsest @ r.flatten(1)[..., None]).reshape(r.shape)
        x = torch.mul(r, level.inverse, out=level.x)
        for _ in range(SWEEPS - 1):
            x.addcmul_(level.inverse, self._left(level, r))
        correction = self.cycle(_summed(self._left(level, r)), number + 1)
        # Empty cells have no potential, whatever their block has.
        x.addcmul_(_spread(correction, r.shape), level.used)
        for _ in range(SWEEPS):
            x.addcmul_(level.inverse, self._left(level, r))
        return x

    @staticmethod
    def _left(level: _Level, r: Tensor) -> Tensor:
        level.network.apply(level.x, level.diagonal, level.left)
        return torch.sub(r, level.left, out=level.left)
