"""Finite-volume potentials between two end faces: factorised or by conjugate gradients.

Factorised are plane images that are small, or of high contrast. The preconditioner of the
others is multigrid: ``aggregation`` image by image on a CPU, else ``multigrid`` in batches.

Diffusivities are (n, s0, ...), 0 outside what percolates; potentials are 1 on the first face of the
first axis and 0 on the last. Neighbours are joined by harmonic means, an end face is half a pixel
away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulators import banded
from simulators.aggregation import Aggregation, Graph, factorised
from simulators.krylov import minimise_by_estimate
from simulators.multigrid import Multigrid, Network
from simulators.transport_bounds import Branches, balanced_fluxes, part, series, thomson_conductance

FloatArray = NDArray[np.float64]
Span = tuple[int, int | None]
# (n, s0, ...) potentials, (n,) which are asked -> (n,) bounds on their relative errors
Certificate = Callable[[FloatArray, NDArray[np.bool_]], FloatArray]

# Plane images are factorised on a CPU while the banded factorisation takes at most this many
# multiplications: when the error is only estimated, when it is certified, and where the contrast
# of several conductors is high, which multigrid does not like.
DIRECT_ESTIMATED = 8e7
DIRECT_CERTIFIED = 1.5e8
DIRECT_CONTRAST = 2e10
HIGH_CONTRAST = 100.0
BANDED = 3e9  # multiplications beyond which a sparse factorisation is the faster


class Potentials(NamedTuple):
    """``u``: (n, s0, ...). ``conductance``, ``iterations``, ``error``: (n,), the last relative.

    ``fluxes``: balanced face fluxes of those images whose error they have bounded.
    """

    u: FloatArray
    conductance: FloatArray
    iterations: NDArray[np.int64]
    error: FloatArray
    fluxes: dict[int, list[FloatArray]]


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

    def two_coloured(self) -> bool:
        """Whether cells, and blocks of every size, have two colours that join each other only."""
        joined = zip(self.k.shape[1:], self.wraps, strict=True)
        return all(wrap is None or size & (size - 1) == 0 for size, wrap in joined)

    def graph(self) -> Graph:
        """Of the conducting cells of the first image, in their order."""
        inside = self.k[0] > 0
        number = np.full(inside.shape, -1, dtype=np.int32)
        number[inside] = np.arange(np.count_nonzero(inside))
        low, high, found = [], [], []
        for axis, (link, wrap) in enumerate(zip(self.links, self.wraps, strict=True)):
            pairs: list[tuple[FloatArray, Span, Span]] = [(link[0], (0, -1), (1, None))]
            if wrap is not None:
                pairs.append((wrap[0], (-1, None), (0, 1)))
            for values, below, above in pairs:
                used = values > 0
                low.append(part(number, axis, *below)[used])
                high.append(part(number, axis, *above)[used])
                found.append(values[used])
        place = tuple(index.astype(np.int32) for index in np.nonzero(inside))
        links = np.concatenate(low), np.concatenate(high), np.concatenate(found)
        return Graph(*links, self.ground()[0][inside], place)


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
    contrast = flat.max(1) / np.where(flat > 0, flat, np.inf).min(1)
    proven = (contrast > 1) | certified
    cpu = torch.device(device).type == "cpu"
    direct = np.zeros(n, dtype=np.bool_)
    if cpu and k.ndim == 3:
        limit = np.where(proven, DIRECT_CERTIFIED, DIRECT_ESTIMATED)
        limit[contrast > HIGH_CONTRAST] = DIRECT_CONTRAST
        direct = banded.operations(k.shape[1:], wrapped=periodic) <= limit
    found = Potentials(np.zeros_like(k), np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n), {})
    # Each image by its own merits, whatever stands beside it.
    for row in np.flatnonzero(direct):
        scheme = Scheme(k[row : row + 1], periodic)
        found.u[row] = _factorised(scheme)[0]
        found.conductance[row] = scheme.conductance(found.u[row : row + 1])[0]
    for group, proof in ((~direct & proven, True), (~direct & ~proven, False)):
        chosen = np.flatnonzero(group)
        together = 1 if cpu else max(1, len(chosen))
        for rows in (chosen[i : i + together] for i in range(0, len(chosen), together)):
            scheme = Scheme(k[rows], periodic)
            solve = _aggregated if cpu and scheme.two_coloured() else partial(_batch, device=device)
            solved = solve(scheme, tolerance, max_iterations, certified=proof)
            for whole, own in zip(found[:4], solved[:4], strict=True):
                whole[rows] = own
            found.fluxes.update({int(rows[i]): flux for i, flux in solved.fluxes.items()})
    return found


def _profile(k: FloatArray) -> FloatArray:
    """Straight potentials: exact in a uniform image, near elsewhere."""
    length = k.shape[1]
    profile = (length - np.arange(length) - 0.5) / length
    return np.where(k > 0, profile.reshape(-1, *[1] * (k.ndim - 2)), 0.0)


def _certificate(scheme: Scheme, fluxes: dict[int, list[FloatArray]]) -> Certificate:
    """Gaps between energies and Thomson's principle for the scheme; keeps the fluxes it finds."""
    branches: dict[int, Branches] = {}

    def certify(u: FloatArray, asked: NDArray[np.bool_]) -> FloatArray:
        high = scheme.conductance(u)
        gaps = np.zeros(len(u))
        for row in np.flatnonzero(asked).tolist():
            k = scheme.k[row]
            if row not in branches:
                branches[row] = Branches(k, periodic=scheme.periodic)
            fluxes[row] = balanced_fluxes(k, u[row], branches[row])
            gaps[row] = 1 - thomson_conductance(k, fluxes[row], lumped=True) / high[row]
        return gaps.clip(0)

    return certify


def _batch(
    scheme: Scheme, tolerance: float, max_iterations: int, *, certified: bool, device: str
) -> Potentials:
    """Multigrid for all images of the scheme together."""
    network = scheme.network(device)
    diagonal = network.diagonal()
    grid = Multigrid(network, driven=0)
    start = _profile(scheme.k)
    begun = torch.as_tensor(start, device=device)
    fluxes: dict[int, list[FloatArray]] = {}
    certificate = _certificate(scheme, fluxes)

    def certify(x: Tensor, asked: Tensor) -> Tensor:
        u = (begun + x[:, 0]).cpu().numpy()
        gaps = certificate(u, asked[:, 0].cpu().numpy())
        return torch.as_tensor(gaps[:, None], device=device)

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
    return Potentials(u, scheme.conductance(u), iterations, error, fluxes)


def _aggregated(
    scheme: Scheme, tolerance: float, max_iterations: int, *, certified: bool
) -> Potentials:
    """Multigrid by aggregation for the one image of the scheme, on a CPU."""
    inside = scheme.k > 0
    grid = Aggregation(scheme.graph())
    currents = scheme.source()[inside]
    start = _profile(scheme.k)[inside][grid.black] * grid.black_roots
    fluxes: dict[int, list[FloatArray]] = {}
    certificate = _certificate(scheme, fluxes)

    def potential(v: FloatArray) -> FloatArray:
        u = np.zeros(inside.shape)
        u[inside] = grid.complete(start + v, currents)
        return u

    def certify(x: Tensor, asked: Tensor) -> Tensor:
        gaps = certificate(potential(x.numpy().ravel()), asked.numpy().ravel())
        return torch.as_tensor(gaps[:, None])

    def mapped(function: Callable[[FloatArray], FloatArray]) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.from_numpy(function(x.numpy().ravel())).reshape(x.shape)

    force = grid.reduced(currents) - start + grid.across(start)
    solution = minimise_by_estimate(
        mapped(lambda v: v - grid.across(v)),
        mapped(grid.cycle),
        torch.from_numpy(force)[None, None],
        energy=torch.as_tensor(scheme.conductance(potential(np.zeros_like(start)))[:, None]),
        tolerance=tolerance,
        max_iterations=max_iterations,
        certify=certify if certified else None,
    )
    u = potential(solution.fields.numpy().ravel())
    iterations, error = (x[:, 0].numpy() for x in (solution.iterations, solution.error))
    return Potentials(u, scheme.conductance(u), iterations, error, fluxes)


def _factorised(scheme: Scheme) -> FloatArray:
    """Potentials (1, s0, ...) of one plane image by a banded or a sparse factorisation."""
    ground, source = scheme.ground(), scheme.source()
    (down, across), wrap = scheme.links, scheme.wraps[1]
    shape, wrapped = ground.shape[1:], wrap is not None
    narrow = banded.operations(shape, wrapped=wrapped) <= BANDED
    if narrow and banded.solvable(shape, wrapped=wrapped):
        side = None if wrap is None else wrap[0]
        return banded.solve(down[0], across[0], side, ground[0], source[0])[None]
    inside = scheme.k > 0
    u = np.zeros(inside.shape)
    u[inside] = factorised(scheme.graph()).solve(source[inside])
    return u
