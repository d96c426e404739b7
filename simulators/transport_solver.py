"""Finite-volume potentials between two end faces: factorised in the plane, else multigrid.

Diffusivities are (n, s0, ...), 0 outside what percolates; potentials are 1 on the first face of the
first axis and 0 on the last. Neighbours are joined by harmonic means, an end face is half a pixel
away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from simulators.krylov import minimise_by_estimate
from simulators.multigrid import Multigrid, Network
from simulators.transport_bounds import Branches, balanced_fluxes, part, series, thomson_conductance

FloatArray = NDArray[np.float64]
Span = tuple[int, int | None]

# Conducting pixels of a plane image up to which factorising it is the faster on a CPU: for one
# conductor when the error is only estimated, or is certified, and for several conductors, whose
# contrast multigrid does not like.
DIRECT_ESTIMATED = 8_000
DIRECT_CERTIFIED = 20_000
DIRECT_CONTRAST = 200_000


class Potentials(NamedTuple):
    """``u``: (n, s0, ...). ``conductance``, ``iterations``, ``error``: (n,), the last relative.

    ``branches``: the spanning trees of those images that have been certified by one.
    """

    u: FloatArray
    conductance: FloatArray
    iterations: NDArray[np.int64]
    error: FloatArray
    branches: dict[int, Branches]


class Scheme:
    """Finite volumes of n images (n, s0, ...): conductances between cells along every axis."""

    def __init__(self, k: FloatArray, periodic: bool) -> None:
        self.k = k
        self.periodic = periodic
        self.links: list[FloatArray] = []
        self.wraps: list[FloatArray | None] = []
        for axis in range(1, k.ndim):
            self.links.append(series(part(k, axis, 0, -1), part(k, axis, 1, None)))
            joined = periodic and axis > 1 and k.shape[axis] > 1
            ends = part(k, axis, -1, None), part(k, axis, 0, 1)
            self.wraps.append(series(*ends) if joined else None)

    def ground(self) -> FloatArray:
        """Conductances to the end faces, (n, s0, ...)."""
        ground = np.zeros_like(self.k)
        ground[:, 0] += 2 * self.k[:, 0]
        ground[:, -1] += 2 * self.k[:, -1]
        return ground

    def source(self) -> FloatArray:
        """Currents that the first face, at potential 1, drives into cells at 0."""
        source = np.zeros_like(self.k)
        source[:, 0] = 2 * self.k[:, 0]
        return source

    def conductance(self, u: FloatArray) -> FloatArray:
        """(n,) energies of potentials (n, s0, ...): never below the scheme's conductance."""
        n, k = len(u), self.k
        total = 2 * (k[:, 0] * (1 - u[:, 0]) ** 2 + k[:, -1] * u[:, -1] ** 2).reshape(n, -1).sum(1)
        for axis, (link, wrap) in enumerate(zip(self.links, self.wraps, strict=True), start=1):
            total += (link * np.diff(u, axis=axis) ** 2).reshape(n, -1).sum(1)
            if wrap is not None:
                jump = part(u, axis, 0, 1) - part(u, axis, -1, None)
                total += (wrap * jump**2).reshape(n, -1).sum(1)
        return np.asarray(total, dtype=np.float64)

    def network(self, device: str) -> Network:
        def there(array: FloatArray) -> Tensor:
            return torch.as_tensor(array, device=device)

        return Network(
            tuple(there(link) for link in self.links),
            tuple(None if wrap is None else there(wrap) for wrap in self.wraps),
            there(self.ground()),
        )


def potentials(
    k: FloatArray,
    *,
    periodic: bool,
    tolerance: float,
    max_iterations: int,
    device: str,
    certified: bool,
) -> Potentials:
    """Solve the scheme of (n, s0, ...) diffusivities.

    ``error``: 0 stands for the rounding of a factorisation. Iterations bound it by the gap between
    the energy of the potentials and Thomson's principle for the scheme's own fluxes. Only where all
    pixels of an image conduct alike and ``certified`` is False do they estimate it.
    """
    n = len(k)
    flat = k.reshape(n, -1)
    alike = np.where(flat > 0, flat, np.inf).min(1) == flat.max(1)
    proven = ~alike | certified
    limit = np.where(alike, DIRECT_CERTIFIED if certified else DIRECT_ESTIMATED, DIRECT_CONTRAST)
    plane = torch.device(device).type == "cpu" and k.ndim == 3
    direct = ((flat > 0).sum(1) <= limit) & plane
    found = Potentials(np.zeros_like(k), np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n), {})
    # Each image by its own merits, whatever stands beside it.
    for row in np.flatnonzero(direct):
        scheme = Scheme(k[row : row + 1], periodic)
        found.u[row] = _factorised(scheme)[0]
        found.conductance[row] = scheme.conductance(found.u[row : row + 1])[0]
    for group, proof in ((~direct & proven, True), (~direct & ~proven, False)):
        rows = np.flatnonzero(group)
        if len(rows):
            solved = _iterated(Scheme(k[rows], periodic), tolerance, max_iterations, device, proof)
            for whole, own in zip(found[:4], solved[:4], strict=True):
                whole[rows] = own
            found.branches.update({int(rows[i]): tree for i, tree in solved.branches.items()})
    return found


def _iterated(
    scheme: Scheme, tolerance: float, max_iterations: int, device: str, certified: bool
) -> Potentials:
    k = scheme.k
    network = scheme.network(device)
    diagonal = network.diagonal()
    grid = Multigrid(network, driven=0)
    # From the straight profile: exact in a uniform image, near elsewhere.
    profile = (k.shape[1] - np.arange(k.shape[1]) - 0.5) / k.shape[1]
    start = np.where(k > 0, profile.reshape(-1, *[1] * (k.ndim - 2)), 0.0)
    begun = torch.as_tensor(start, device=device)
    branches: dict[int, Branches] = {}

    def certify(x: Tensor, asked: Tensor) -> Tensor:
        u = (begun + x[:, 0]).cpu().numpy()
        high = scheme.conductance(u)
        gaps = np.zeros(len(k))
        for row in np.flatnonzero(asked[:, 0].cpu().numpy()).tolist():
            if row not in branches:
                branches[row] = Branches(k[row], periodic=scheme.periodic)
            flux = balanced_fluxes(k[row], u[row], branches[row])
            gaps[row] = 1 - thomson_conductance(k[row], flux, lumped=True) / high[row]
        return torch.as_tensor(gaps.clip(0)[:, None], device=device)

    currents = torch.empty_like(begun)
    source = torch.as_tensor(scheme.source(), device=device)
    solution = minimise_by_estimate(
        lambda x: network.apply(x[:, 0], diagonal, currents)[:, None],
        lambda r: grid.cycle(r[:, 0])[:, None],
        (source - network.apply(begun, diagonal))[:, None],
        energy=torch.as_tensor(scheme.conductance(start)[:, None], device=device),
        tolerance=tolerance,
        max_iterations=max_iterations,
        certify=certify if certified else None,
    )
    u = (begun + solution.fields[:, 0]).cpu().numpy()
    iterations, error = (x[:, 0].cpu().numpy() for x in (solution.iterations, solution.error))
    return Potentials(u, scheme.conductance(u), iterations, error, branches)


def _factorised(scheme: Scheme) -> FloatArray:
    """Potentials (1, s0, ...) of one image by sparse factorisation."""
    inside = scheme.k > 0
    number = np.full(inside.shape, -1, dtype=np.int32)
    count = int(inside.sum())
    number[inside] = np.arange(count)
    diagonal = scheme.ground()
    rows, columns, entries = [], [], []
    for axis, (link, wrap) in enumerate(zip(scheme.links, scheme.wraps, strict=True), start=1):
        pairs: list[tuple[FloatArray, Span, Span]] = [(link, (0, -1), (1, None))]
        if wrap is not None:
            pairs.append((wrap, (-1, None), (0, 1)))
        for values, low, high in pairs:
            used = values > 0
            rows.append(part(number, axis, *low)[used])
            columns.append(part(number, axis, *high)[used])
            entries.append(values[used])
            for side in (low, high):
                own = part(diagonal, axis, *side)
                own += values
    i, j, values = np.concatenate(rows), np.concatenate(columns), np.concatenate(entries)
    own = np.arange(count, dtype=np.int32)
    matrix = sparse.csc_array(
        (
            np.concatenate((-values, -values, diagonal[inside])),
            (np.concatenate((i, j, own)), np.concatenate((j, i, own))),
        ),
        shape=(count, count),
    )
    # A symmetric M-matrix needs no pivoting.
    factors = splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    u = np.zeros(inside.shape)
    u[inside] = factors.solve(scheme.source()[inside])
    return u
