"""Equilibrium of a multicomponent solution, and how far a proposed state is from it.

The state of least Gibbs energy at a composition z: the lower convex hull of G over the simplex. A
linear programme over sampled compositions finds which phases there are, wherever they are;
minimising the distance to the tangent plane adds the compositions that the samples missed; Newton
makes potentials equal and balances exact; and the answer is accepted when no composition lies
below its tangent plane. Binaries need none of that: see ``miscibility``.

Sources: M. L. Michelsen, Fluid Phase Equilib. 9, 1 (1982) (tangent plane distance); M. Hillert,
Phase Equilibria, Phase Diagrams and Phase Transformations, 2nd ed. 2007, chapters 4 and 10.
"""

# ruff: noqa: N815  units in the names of fields keep their case
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment, linprog, minimize, root

from loop.errors import InvalidInputError
from simulators.miscibility import binodal
from simulators.solution import GAS_CONSTANT, Solution

FloatArray = NDArray[np.float64]

SAMPLES = 800  # compositions that the linear programme starts with, at most
DEPTH = 1e-9  # below the tangent plane, in R T, that is none
SAME_PHASE = 1e-3  # compositions that differ by less in every fraction
ROUNDS = 40


@dataclass(frozen=True, slots=True)
class Equilibrium:
    """p phases in equilibrium.

    ``phases``: their names (two of one name: a miscibility gap). ``fractions``: (p,), molar, sum
    1. ``compositions``: (p, c). ``potentials``: (c,) J/mol, nan for an absent element.
    ``energy``: J/mol. Phases are in descending order of the first element's fraction.
    """

    phases: tuple[str, ...]
    fractions: FloatArray
    compositions: FloatArray
    potentials: FloatArray
    energy: float


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How far proposed phases are from equilibrium at their own overall composition.

    ``energy_J_per_mol``: Gibbs energy above the state of equilibrium, >= 0.
    ``composition``: greatest difference of an atomic fraction between a proposed phase and the
    equilibrium phase next to it. ``missing``: phases of the equilibrium with no proposed phase
    next to them, or proposed ones beyond their number.
    """

    energy_J_per_mol: float
    composition: float
    missing: int


def equilibrium(solution: Solution, composition: ArrayLike, temperature_K: float) -> Equilibrium:
    """Phases of one solution at an overall composition, (c,) atomic fractions.

    Raises InvalidInputError for a composition or temperature that cannot be used, and
    ArithmeticError where the search does not end (not seen for up to five elements).
    """
    z, t = solution.checked(composition, temperature_K)
    if z.ndim != 1 or t.ndim != 0:
        raise InvalidInputError(
            f"equilibrium got a composition of shape {z.shape}; expected one, (c,), and one "
            "temperature"
        )
    present = np.flatnonzero(z > 0)
    part = np.array(z[present])
    if len(present) == 1:
        fractions, inner = np.ones(1), np.ones((1, 1))
        potentials = np.array([float(solution.gibbs_energy(z, t))])
    else:
        inner_solution = solution.subset([solution.elements[i] for i in present])
        if len(present) == 2:
            fractions, inner = _binary(inner_solution, part, float(t))
        else:
            fractions, inner = _search(inner_solution, part / part.sum(), float(t))
        potentials = inner_solution.chemical_potentials(inner[0], t)
    order = np.argsort(-inner[:, 0], kind="stable")
    compositions = np.zeros((len(fractions), len(z)))
    compositions[:, present] = inner[order]
    all_potentials = np.full(len(z), math.nan)
    all_potentials[present] = potentials
    return Equilibrium(
        phases=(solution.name,) * len(fractions),
        fractions=fractions[order],
        compositions=compositions,
        potentials=all_potentials,
        energy=float(fractions[order] @ solution.gibbs_energy(compositions, t)),
    )


def _binary(solution: Solution, z: FloatArray, t: float) -> tuple[FloatArray, FloatArray]:
    for low, high in binodal(solution, t):
        if low < z[1] < high:
            share = (z[1] - low) / (high - low)
            return np.array([1 - share, share]), np.array([[1 - low, low], [1 - high, high]])
    return np.ones(1), z[None]


def _search(solution: Solution, z: FloatArray, t: float) -> tuple[FloatArray, FloatArray]:
    """Fractions (p,) and compositions (p, c), all of z > 0, c >= 3."""
    rt = GAS_CONSTANT * t
    samples = _lattice(len(z))
    potentials = solution.chemical_potentials(z, t)
    found = _below(
        solution, potentials, t, [z, *samples[_deepest(solution, potentials, t, samples)]]
    )
    if not found:
        return np.ones(1), z[None]
    points = np.concatenate((samples, z[None], np.array(found)))
    for turn in range(ROUNDS):
        energies = solution.gibbs_energy(points, t) / rt
        solved = linprog(energies, A_eq=points.T, b_eq=z, bounds=(0, None), method="highs")
        if not solved.success:
            break
        weights, plane = np.asarray(solved.x), rt * np.asarray(solved.eqlin.marginals)
        fractions, compositions = _merged(weights, points)
        polished = _best_polished(solution, z, t, fractions, compositions)
        found = []
        if polished is not None:
            fractions, compositions = polished
            tangent = solution.chemical_potentials(compositions[0], t)
            starts = [*compositions, *samples[_deepest(solution, tangent, t, samples)]]
            found = _below(solution, tangent, t, starts)
            if not found:
                return polished
        starts = [*compositions, *samples[_deepest(solution, plane, t, samples)]]
        found += _below(solution, plane, t, starts)
        if not found:  # the programme's plane touches but is not unique: look between its points
            found = [np.average(pair, axis=0) for pair in combinations(compositions, 2)] or [z]
        # With neighbours on all sides, so that the programme can shift a phase to admit another.
        centres = np.concatenate((compositions, np.array(found)))
        reach = max(0.05 * 0.6**turn, 1e-4)
        around = centres[:, None] + reach * (np.eye(len(z)) - centres[:, None])
        points = np.concatenate((points, centres, around.reshape(-1, len(z))))
    raise ArithmeticError(
        f"equilibrium of {solution.name} at {t:g} K, {z.tolist()}, was not found in {ROUNDS} rounds"
    )


def _lattice(c: int) -> FloatArray:
    """(k, c) compositions evenly over the simplex, corners and sides included."""
    n = 1
    while math.comb(n + c, c - 1) <= SAMPLES:
        n += 1
    bars = np.array(list(combinations(range(n + c - 1), c - 1)))
    edges = np.concatenate(
        (np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), n + c - 1)), axis=1
    )
    lattice: FloatArray = (np.diff(edges, axis=1) - 1) / n
    return lattice


def _distance(solution: Solution, potentials: FloatArray, t: float, x: FloatArray) -> FloatArray:
    """Height of G over the plane of the potentials, in R T, (k, c) -> (k,)."""
    result: FloatArray = (solution.gibbs_energy(x, t) - x @ potentials) / (GAS_CONSTANT * t)
    return result


def _deepest(
    solution: Solution, potentials: FloatArray, t: float, x: FloatArray
) -> NDArray[np.int64]:
    """Places of a few samples to start from: the lowest, and the lowest of each element's half."""
    height = _distance(solution, potentials, t, x)
    rich = [np.flatnonzero(x[:, i] >= 0.5) for i in range(x.shape[1])]
    return np.unique([int(height.argmin()), *(int(own[height[own].argmin()]) for own in rich)])


def _below(
    solution: Solution, potentials: FloatArray, t: float, starts: Sequence[FloatArray]
) -> list[FloatArray]:
    """Compositions below the plane of the potentials, local minima each once.

    Michelsen's tm(Y) = 1 + sum Y_i (ln Y_i + ln gamma_i(x) - d_i - 1), x = Y / sum Y, which has
    no constraint but Y > 0 and whose stationary points are those of the distance; in the variables
    2 sqrt(Y_i) it is well scaled.
    """
    rt = GAS_CONSTANT * t

    def tm(alpha: FloatArray) -> tuple[float, FloatArray]:
        root_y = np.maximum(np.abs(alpha) / 2, 1e-100)
        y = root_y**2
        x = y / y.sum()
        slope = (solution.chemical_potentials(x, t) - potentials) / rt + math.log(y.sum())
        return 1 + float(y @ (slope - 1)), root_y * slope * np.sign(alpha)

    found: list[FloatArray] = []
    for start in starts:
        y = np.maximum(start, 1e-8)
        best = minimize(tm, 2 * np.sqrt(y), jac=True, method="BFGS", options={"gtol": 1e-10})
        y = np.maximum(np.abs(best.x) / 2, 1e-100) ** 2
        x = y / y.sum()
        if float(_distance(solution, potentials, t, x[None])[0]) < -DEPTH and all(
            np.abs(x - other).max() > SAME_PHASE for other in found
        ):
            found.append(x)
    return found


def _merged(weights: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Points of the programme that are one phase put together: (p,), (p, c)."""
    used = np.flatnonzero(weights > 1e-12)
    used = used[np.argsort(-weights[used], kind="stable")]
    groups: list[list[int]] = []
    near = 1.5 * np.abs(np.diff(np.unique(_lattice(points.shape[1])[:, 0]))).max()
    for i in used:
        home = next((g for g in groups if np.abs(points[g[0]] - points[i]).max() < near), None)
        if home is None:
            groups.append([int(i)])
        else:
            home.append(int(i))
    fractions = np.array([weights[g].sum() for g in groups])
    compositions = np.array([weights[g] @ points[g] / weights[g].sum() for g in groups])
    return fractions / fractions.sum(), compositions


def _best_polished(
    solution: Solution, z: FloatArray, t: float, fractions: FloatArray, compositions: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """All the phases of the guess if that goes, else those of its subsets of least energy."""
    for count in range(len(fractions), 1, -1):
        states = []
        for kept in combinations(range(len(fractions)), count):
            chosen = list(kept)
            state = _polished(solution, z, t, fractions[chosen], compositions[chosen])
            if state is not None:
                states.append((float(state[0] @ solution.gibbs_energy(state[1], t)), state))
        if states:
            return min(states, key=lambda own: own[0])[1]
    return None


def _polished(
    solution: Solution, z: FloatArray, t: float, fractions: FloatArray, compositions: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Equal potentials and exact balances from a guess; None where that leads nowhere."""
    p, c = compositions.shape
    rt = GAS_CONSTANT * t

    def unpack(v: FloatArray) -> tuple[FloatArray, FloatArray]:
        logs = v[p:].reshape(p, c)
        y = np.exp(logs - logs.max(1, keepdims=True))
        return v[:p], y / y.sum(1, keepdims=True)

    def residual(v: FloatArray) -> FloatArray:
        shares, x = unpack(v)
        mu = solution.chemical_potentials(np.maximum(x, 1e-300), t) / rt
        scale = v[p:].reshape(p, c).max(1)  # the logarithms are defined up to a constant
        return np.concatenate(((mu[1:] - mu[:1]).ravel(), shares @ x - z, scale))

    start = np.concatenate((fractions, np.log(np.maximum(compositions, 1e-12)).ravel()))
    start[p:] -= np.repeat(start[p:].reshape(p, c).max(1), c)
    with np.errstate(all="ignore"):
        solved = root(residual, start, method="hybr", tol=1e-13)
    shares, x = unpack(np.asarray(solved.x))
    if not np.all(np.isfinite(x)) or np.abs(residual(np.asarray(solved.x))).max() > 1e-8:
        return None
    apart = all(np.abs(a - b).max() > SAME_PHASE / 10 for a, b in combinations(x, 2))
    if not apart or np.any(shares <= 0):
        return None
    return shares / shares.sum(), x


def phase_mismatch(
    solution: Solution, fractions: ArrayLike, compositions: ArrayLike, temperature_K: float
) -> Mismatch:
    """How far phases of the given molar fractions (p,) and compositions (p, c) are from rest.

    All phases belong to the one solution (a miscibility gap). Phases of fraction 0 do not count.
    Raises InvalidInputError as ``equilibrium`` does, and for fractions that do not sum to 1.
    """
    shares, x = checked_phases(fractions, compositions)
    x, t = solution.checked(x, temperature_K)
    rest = equilibrium(solution, _normalised(shares @ x), float(t.flat[0]))
    return mismatch(rest, shares, x, float(shares @ solution.gibbs_energy(x, t)))


def checked_phases(fractions: ArrayLike, compositions: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Fractions (p,) and compositions (p, c) of the phases that are there."""
    shares = np.asarray(fractions, dtype=np.float64)
    x = np.asarray(compositions, dtype=np.float64)
    if shares.ndim != 1 or x.ndim != 2 or len(shares) != len(x):
        raise InvalidInputError(
            f"phase fractions have shape {shares.shape} and compositions {x.shape}; expected (p,) "
            "and (p, c)"
        )
    if not np.all(shares >= 0) or abs(float(shares.sum()) - 1) > 1e-9:
        raise InvalidInputError("phase fractions are negative or do not sum to 1; normalise them")
    return shares[shares > 0], x[shares > 0]


def mismatch(
    rest: Equilibrium, fractions: FloatArray, compositions: FloatArray, energy: float
) -> Mismatch:
    """Compares phases (p,), (p, c) of a mean energy, J/mol, with their equilibrium."""
    apart = np.abs(compositions[:, None] - rest.compositions[None]).max(2)
    rows, columns = linear_sum_assignment(apart)
    greatest = float(apart[rows, columns].max())
    left = np.setdiff1d(np.arange(len(fractions)), rows)
    if left.size:
        greatest = max(greatest, float(apart[left].min(1).max()))
    return Mismatch(
        energy_J_per_mol=max(0.0, energy - rest.energy),
        composition=greatest,
        missing=abs(len(fractions) - len(rest.fractions)),
    )


def _normalised(x: FloatArray) -> FloatArray:
    result: FloatArray = x / x.sum()
    return result
