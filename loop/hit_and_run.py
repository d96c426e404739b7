"""Uniform points of a polytope by hit-and-run, where no conditional distribution is at hand.

From a point a random direction is drawn and the next point uniformly on the whole chord through
the polytope (Smith 1984, Oper. Res. 32, 1296); the uniform distribution is its only limit. Three
directions of four exchange two elements, the longest chords of a simplex; the fourth is from the
Dikin ellipsoid of the analytic centre, to which a flat or long polytope looks round.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from loop.composition import FloatArray
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet
from loop.projection import SNAP, walls_of

CHAINS = 1024
FLAT = 1e-10  # a polytope thinner than this in a direction has no extent there


class Body(NamedTuple):
    """A polytope with an inside: x = origin + basis z, walls z >= offsets.

    Shapes (e,), (e, d), (m, d), (m,). ``centre``: (d,) analytic centre. ``shape``: (d, d),
    directions are shape g with g normal.
    ``pinned``: (e,), the value of elements that cannot vary, else NaN.
    """

    origin: FloatArray
    basis: FloatArray
    walls: FloatArray
    offsets: FloatArray
    centre: FloatArray
    shape: FloatArray
    pinned: FloatArray

    def compositions(self, z: FloatArray, space: CompositionSet) -> FloatArray:
        """Points (n, d) -> compositions (n, e), what is at a bound exactly there."""
        x = self.origin + z @ self.basis.T
        x = np.where(np.isnan(self.pinned), x, self.pinned)
        x = np.where(np.abs(x - space.low) <= SNAP, space.low, x)
        x = np.where(np.abs(x - space.high) <= SNAP, space.high, x)
        return np.clip(x, space.low, space.high)


@lru_cache(maxsize=256)
def body_of(space: CompositionSet) -> Body:
    """The polytope of a set (``at_most`` left aside) without what its constraints hold fixed.

    Raises InvalidInputError when it is empty.
    """
    origin, basis, walls, offsets, _, _ = walls_of(space)
    while True:
        inside, depth = _deepest(walls, offsets)
        if depth > FLAT or not basis.shape[1]:
            break
        # Some walls face each other: those without room before them are equations.
        flat = np.array([_room(walls, offsets, i) <= 10 * FLAT for i in range(len(walls))])
        if not flat.any():
            break
        _, s, vt = np.linalg.svd(walls[flat])
        kept = vt[int((s > 1e-9).sum()) :].T
        origin = origin + basis @ inside
        offsets = offsets - walls @ inside
        basis, walls = basis @ kept, walls @ kept
        length = np.linalg.norm(walls, axis=1)
        real = length > 1e-9
        walls, offsets = walls[real] / length[real, None], offsets[real] / length[real]
    centre, shape = _centre(walls, offsets, inside[: basis.shape[1]])
    still = np.linalg.norm(basis, axis=1) <= 1e-12 if basis.shape[1] else np.ones(len(origin), bool)
    pinned = np.where(still, origin, np.nan)
    pinned = np.where(np.abs(pinned - space.low) <= 1e-12, space.low, pinned)
    pinned = np.where(np.abs(pinned - space.high) <= 1e-12, space.high, pinned)
    return Body(origin, basis, walls, offsets, centre, shape, pinned)


def _deepest(walls: FloatArray, offsets: FloatArray) -> tuple[FloatArray, float]:
    """Centre and radius of the largest ball inside (a linear programme)."""
    from scipy.optimize import linprog

    d = walls.shape[1]
    if d == 0:
        return np.zeros(0), 0.0
    found = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack([-walls, np.ones(len(walls))]),
        b_ub=-offsets,
        bounds=[*[(None, None)] * d, (None, 1.0)],
    )
    if found.x is None or found.x[-1] < -1e-9:
        raise InvalidInputError("no composition meets all constraints; widen one of them")
    return np.asarray(found.x[:-1]), float(found.x[-1])


def _room(walls: FloatArray, offsets: FloatArray, i: int) -> float:
    from scipy.optimize import linprog

    free = [(None, None)] * walls.shape[1]
    found = linprog(-walls[i], A_ub=-walls, b_ub=-offsets, bounds=free)
    return float(walls[i] @ found.x - offsets[i]) if found.x is not None else np.inf


def _centre(walls: FloatArray, offsets: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Analytic centre by Newton's method with a step that stays inside, and its ellipsoid."""
    if not len(z):
        return z, np.zeros((0, 0))
    for _ in range(50):
        weights = 1.0 / (walls @ z - offsets)
        gradient = walls.T @ weights
        hessian = (walls * (weights**2)[:, None]).T @ walls
        step = np.linalg.solve(hessian, gradient)
        decrement = float(np.sqrt(gradient @ step))
        z = z + step / (1.0 + decrement)  # such a step never leaves the Dikin ellipsoid
        if decrement < 1e-6:
            break
    weights = 1.0 / (walls @ z - offsets)
    hessian = (walls * (weights**2)[:, None]).T @ walls
    factor = np.linalg.cholesky(hessian)
    return z, np.linalg.inv(factor).T


def _exchanges(body: Body) -> FloatArray:
    """Directions in which one element gives to another, seen in the plane of the body, (q, d)."""
    e = len(body.origin)
    first, second = np.triu_indices(e, 1)
    found = body.basis[first] - body.basis[second]
    length = np.linalg.norm(found, axis=1)
    return found[length > 1e-9]


def mixing_steps(d: int) -> int:
    """Steps between two kept points, and from the centre to the first: max(40, 16 d).

    On the simplex of 30 elements the largest fraction has its exact mean by then, within the
    error of 1,000 points.
    """
    return max(40, 16 * d)


def hit_and_run(
    space: CompositionSet, n: int, rng: np.random.Generator, *, steps: int | None = None
) -> FloatArray:
    """n points, uniform up to mixing, (n, e); ``at_most`` is left aside.

    Up to ``CHAINS`` chains run side by side from the analytic centre, ``steps`` steps (see
    ``mixing_steps``) before each kept point. Every point is feasible at once: mixing decides how
    near to uniform and independent they are, never whether they are allowed.
    """
    body = body_of(space)
    d = len(body.centre)
    if d == 0:
        return np.repeat(body.compositions(np.zeros((1, 0)), space), n, axis=0)
    steps = mixing_steps(d) if steps is None else steps
    chains = min(n, CHAINS)
    exchanges = _exchanges(body)
    z = np.tile(body.centre, (chains, 1))
    kept = []
    for _ in range(-(-n // chains)):
        slack = np.maximum(z @ body.walls.T - body.offsets, 0.0)  # afresh, against rounding
        for step in range(steps):
            if step % 4:
                direction = exchanges[rng.integers(len(exchanges), size=chains)]
            else:
                direction = rng.standard_normal((chains, d)) @ body.shape.T
            speed = direction @ body.walls.T
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = -slack / speed
            forward = np.where(speed < 0, reach, np.inf).min(axis=1)
            backward = np.where(speed > 0, reach, -np.inf).max(axis=1)
            t = backward + (forward - backward) * rng.random(chains)
            z += t[:, None] * direction
            slack = np.maximum(slack + t[:, None] * speed, 0.0)
        kept.append(body.compositions(z, space))
    points: FloatArray = np.concatenate(kept)[:n]
    return points
