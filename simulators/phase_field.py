"""Cahn-Hilliard evolution of binary and multicomponent alloys, spectral, batched, energy-stable.

    dc_i/dt = div sum_j M_ij grad mu_j,    mu_j = df/dc_j - sum_k K_jk laplace c_k,
    F = integral of f(c) + 1/2 sum_jk K_jk grad c_j . grad c_k,

periodic in two dimensions, m independent fractions. Space: Fourier collocation; the discrete
flow descends the discrete energy and keeps every mean. M and K are brought to diagonal form
together, so the stiff part is a number per mode and fraction; s K, which bounds the curvature of
f, is added to the stiff part and taken off the rest. Time: the stiff part exactly, the rest as a
line or a parabola through its last values (exponential Adams-Bashforth, second or third order,
whichever allows the longer step; second where the mobility varies), one evaluation a step. Each
system has its own step, from the change that one value more would have made; s follows the field
every few steps. A step after which the energy were higher is not taken but repeated, shorter, with
the rest held constant: that first-order scheme cannot raise the energy where s is at least half
the curvature met, whatever the step (constant mobility), because it gives
dE <= -(s + k^2)|d|^2 + (f'' + k^2)|d|^2 / 2.

Sources: J. W. Cahn and J. E. Hilliard, J. Chem. Phys. 28, 258 (1958); S. M. Cox and P. C. Matthews,
J. Comput. Phys. 176, 430 (2002) (exponential time differencing); L. Ju, J. Zhang, L. Zhu and Q. Du,
J. Sci. Comput. 62, 431 (2015) (multistep, stabilised); L. Q. Chen and J. Shen, Comput. Phys.
Commun. 108, 147 (1998) (semi-implicit Fourier).

Units are the caller's: lengths, energies per volume, and K in energy per volume times length
squared, M in length squared per energy per volume and time. Choose them so that numbers are near
one; float32 wants that. ``annealing`` does it for alloys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError
from simulators.fields import VALUES_CPU, VALUES_GPU, one_thread
from simulators.free_energy import FreeEnergy, Mobility
from simulators.spectral_flow import Flow
from simulators.spectral_step import advance

FloatArray = NDArray[np.float64]

TOLERANCE = 2e-2
MAX_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Evolution:
    """n systems at their s times.

    ``fields``: (n, s, m, h, w). ``times``, ``energies``: (n, s), mean free energy density,
    gradients included. ``steps``, ``rejected``: (n,), taken and taken back. ``rise``: (n,) the
    greatest rise of the energy in any step, relative to the mean size of its terms; rounding only.
    ``finished``: (n,); where it is false the steps ran out, and the times not reached are nan.
    """

    fields: NDArray[np.floating]
    times: FloatArray
    energies: FloatArray
    steps: NDArray[np.int64]
    rejected: NDArray[np.int64]
    rise: FloatArray
    finished: NDArray[np.bool_]


def evolve(
    initial: ArrayLike,
    energy: FreeEnergy,
    *,
    times: ArrayLike,
    gradient: ArrayLike,
    mobility: ArrayLike | Mobility,
    spacing: float = 1.0,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Evolution:
    """Evolve n periodic fields to the given times, every system with a step of its own.

    ``initial``: (n, m, h, w), or (n, h, w) where m = 1. ``times``: (s,) or (n, s), >= 0 and
    ascending; time 0 returns the start. ``gradient``: K, a number or (m, m) or (n, m, m),
    symmetric positive definite. ``mobility``: M, likewise but may be semidefinite, or a
    ``Mobility``. ``spacing``: of the grid points. ``tolerance``: error of a step relative to its
    change, both root mean square over the field.
    Raises InvalidInputError for wrong shapes and values. Steps that run out are not an error: see
    ``finished``.
    """
    c = np.asarray(initial, dtype=np.float64)
    if c.ndim == 3:
        c = c[:, None]
    m = energy.components
    if c.ndim != 4 or c.size == 0 or c.shape[1] != m or not np.all(np.isfinite(c)):
        raise InvalidInputError(
            f"initial field has shape {np.shape(initial)} or values that are not finite; expected "
            f"(n, {m}, h, w)" + (" or (n, h, w)" if m == 1 else "")
        )
    n = len(c)
    stops = _checked_times(times, n)
    if not (math.isfinite(spacing) and spacing > 0 and math.isfinite(tolerance) and tolerance > 0):
        raise InvalidInputError(
            f"spacing is {spacing:g} and tolerance {tolerance:g}; expected finite values > 0"
        )
    if energy.size not in (None, n):
        raise InvalidInputError(f"energy is of {energy.size} systems, the initial field of {n}")
    stiffness = checked_matrices("gradient", gradient, n, m, definite=True)
    varying = None
    if isinstance(mobility, Mobility):
        varying = mobility
        if varying.size not in (None, n):
            raise InvalidInputError(
                f"mobility is of {varying.size} systems, the initial field of {n}"
            )
        means = torch.as_tensor(c.mean((2, 3), keepdims=True))
        uniform = varying.on(torch.device("cpu"), torch.float64).evaluate(means)
        transport = np.array(uniform[..., 0, 0].numpy())
    else:
        transport = checked_matrices("mobility", mobility, n, m, definite=False)
    place = torch.device(device)
    order = np.argsort(stops[:, -1], kind="stable")  # those that end together run together
    limit = VALUES_CPU if place.type == "cpu" else VALUES_GPU
    size = max(1, limit // c[0].size)
    parts: list[tuple[NDArray[np.int64], list[NDArray[np.generic]]]] = []
    with one_thread(), torch.no_grad():
        for start in range(0, n, size):
            index = order[start : start + size]
            flow = Flow.build(
                energy.take(index),
                stiffness[index],
                transport[index],
                None if varying is None else varying.take(index),
                shape=(c.shape[2], c.shape[3]),
                spacing=spacing,
                device=place,
                dtype=dtype,
            )
            parts.append((index, _run(flow, c[index], stops[index], tolerance, max_steps)))
    back = np.argsort(np.concatenate([index for index, _ in parts]), kind="stable")
    fields, energies, steps, rejected, rise, finished = (
        np.concatenate(column)[back] for column in zip(*(part for _, part in parts), strict=True)
    )
    return Evolution(
        fields=fields.astype(np.float32 if dtype == torch.float32 else np.float64),
        times=stops,
        energies=energies.astype(np.float64),
        steps=steps.astype(np.int64),
        rejected=rejected.astype(np.int64),
        rise=rise.astype(np.float64),
        finished=finished.astype(np.bool_),
    )


def _run(
    flow: Flow, c: FloatArray, stops: FloatArray, tolerance: float, max_steps: int
) -> list[NDArray[np.generic]]:
    """One chunk of systems -> the columns of Evolution but for its times."""
    n, s = stops.shape
    fields = np.full((n, s, *c.shape[1:]), np.nan)
    energies = np.full((n, s), np.nan)
    totals = [np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n)]
    reached = np.zeros(n, dtype=np.int64)  # how many of its times each system has passed
    state = flow.start(c)
    alive = np.arange(n)
    while True:
        for column, own in zip(totals, (state.steps, state.rejected, state.rise), strict=True):
            column[alive] = own
        # A system that is short of steps stays where it is.
        running = state.steps + state.rejected < max_steps
        due = np.array(
            [
                r < s and stops[i, min(r, s - 1)] <= t
                for i, r, t in zip(alive, reached[alive], state.time, strict=True)
            ]
        )
        if due.any():
            found = flow.fields(state)
            for place in np.flatnonzero(due):
                i = alive[place]
                while reached[i] < s and stops[i, reached[i]] <= state.time[place]:
                    fields[i, reached[i]] = found[place]
                    energies[i, reached[i]] = state.now.energy[place]
                    reached[i] += 1
        running &= reached[alive] < s
        if not running.any():
            break
        if 2 * int(running.sum()) <= len(alive):
            kept = np.flatnonzero(running)
            flow, state, alive = flow.take(kept), state.take(kept), alive[kept]
            running = running[kept]
        until = np.array([stops[i, min(reached[i], s - 1)] for i in alive])
        advance(flow, state, np.where(running, until, state.time), tolerance)
    return [fields, energies, *totals, reached == s]


def growth_rates(
    wavenumbers: ArrayLike, curvature: ArrayLike, gradient: ArrayLike, mobility: ArrayLike
) -> FloatArray:
    """Rates at which small waves on a uniform field grow, (q, m) in descending order.

    ``wavenumbers``: (q,), angular. ``curvature``: d2f/dc_i dc_j of the uniform field, a number or
    (m, m), as ``gradient`` and ``mobility``. The eigenvalues of -k^2 M (f'' + k^2 K), for m = 1
    -M k^2 (f'' + K k^2). Source: J. W. Cahn, Acta Metall. 9, 795 (1961); D. de Fontaine, J. Phys.
    Chem. Solids 34, 1285 (1973) (several components).
    """
    k2 = np.atleast_1d(np.asarray(wavenumbers, dtype=np.float64)) ** 2
    f, stiff, transport = (
        np.atleast_2d(np.asarray(matrix, dtype=np.float64))
        for matrix in (curvature, gradient, mobility)
    )
    operators = -k2[:, None, None] * (transport @ (f + k2[:, None, None] * stiff))
    rates = np.linalg.eigvals(operators).real.astype(np.float64)
    return np.sort(rates, axis=1)[:, ::-1]


def fastest_wavelength(curvature: ArrayLike, gradient: ArrayLike, mobility: ArrayLike) -> float:
    """Wavelength that grows fastest on a uniform field; inf where none grows.

    For m = 1 2 pi sqrt(2 K / -f''). Arguments as in ``growth_rates``.
    """
    f, stiff = (np.atleast_2d(np.asarray(a, dtype=np.float64)) for a in (curvature, gradient))
    # Waves grow below the wavenumber where f'' + k^2 K becomes positive definite.
    root = np.linalg.inv(np.linalg.cholesky(stiff))
    least = float(np.linalg.eigvalsh(root @ f @ root.T)[0])
    if least >= 0:
        return math.inf
    k = np.linspace(0, math.sqrt(-least), 2001)[1:]
    rates = growth_rates(k, f, stiff, mobility)[:, 0]
    if rates.max() <= 0:
        return math.inf
    return 2 * math.pi / float(k[np.argmax(rates)])


def checked_matrices(name: str, given: ArrayLike, n: int, m: int, *, definite: bool) -> FloatArray:
    """A number (times the identity), (m, m) or (n, m, m) as symmetric (n, m, m)."""
    table = np.asarray(given, dtype=np.float64)
    if table.ndim == 0:
        table = table * np.eye(m)
    if table.shape not in ((m, m), (n, m, m)) or not np.all(np.isfinite(table)):
        raise InvalidInputError(
            f"{name} has shape {np.shape(given)} or values that are not finite; expected a number, "
            f"({m}, {m}) or ({n}, {m}, {m})"
        )
    matrices: FloatArray = np.array(np.broadcast_to(table, (n, m, m)))
    scale = np.abs(matrices).max((1, 2))
    if np.any(np.abs(matrices - matrices.swapaxes(1, 2)).max((1, 2)) > 1e-12 * scale):
        raise InvalidInputError(f"{name} is not symmetric; expected equal entries ij and ji")
    least = np.linalg.eigvalsh(matrices)[:, 0]
    if np.any(least <= 0 if definite else least < -1e-12 * scale):
        wanted = "> 0" if definite else ">= 0"
        raise InvalidInputError(
            f"{name} has an eigenvalue of {least.min():g}; expected all of them {wanted}"
        )
    return matrices


def _checked_times(times: ArrayLike, n: int) -> FloatArray:
    stops = np.asarray(times, dtype=np.float64)
    if stops.ndim == 1:
        stops = np.broadcast_to(stops, (n, len(stops)))
    if stops.ndim != 2 or len(stops) != n or stops.shape[1] == 0:
        raise InvalidInputError(f"times have shape {stops.shape}; expected (s,) or ({n}, s)")
    if not np.all(np.isfinite(stops)) or np.any(stops < 0) or np.any(np.diff(stops, axis=1) <= 0):
        raise InvalidInputError("times are negative, not finite or not ascending; sort them")
    return np.array(stops)
