"""Paths between compositions: lever-rule line, Aitchison geodesic, path in a feasible set.

Every path is n points (n, ..., e) whose ends are the given compositions to the last digit; absent
elements are exactly 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from loop.candidate import SUM_TOLERANCE
from loop.composition import (
    BoolArray,
    FloatArray,
    closure,
    euclidean_distance,
    present_distance,
)
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet
from loop.projection import project


def positions(n: int) -> FloatArray:
    """n even positions from 0 to 1, (n,). Raises InvalidInputError for n below 2."""
    if n < 2:
        raise InvalidInputError(
            f"a path of {n} points was asked for; expected at least 2, its ends"
        )
    return np.linspace(0.0, 1.0, n)


def straight_path(a: ArrayLike, b: ArrayLike, t: ArrayLike) -> FloatArray:
    """Mixtures (1 - t) a + t b (the lever rule), t (n,) -> (n, ..., e). Ends are exact."""
    a, b, t = _end(a), _end(b), _steps(t)
    t = t.reshape(t.shape + (1,) * a.ndim)
    path: FloatArray = (1.0 - t) * a + t * b
    return path


def geodesic_path(
    a: ArrayLike, b: ArrayLike, t: ArrayLike, *, delta: float | None = None
) -> FloatArray:
    """Aitchison geodesic, proportional to a^(1-t) b^t, t (n,) -> (n, ..., e). Ends are exact.

    Its length is the Aitchison distance of its ends (Egozcue et al. 2003). Elements absent from
    both ends stay exactly 0. An element absent from one end only has no geodesic: it would jump
    there. Given ``delta``, such an element enters at the amount ``delta`` (multiplicative
    replacement, ``replace_zeros``, of that end alone), so the path jumps by about delta between
    the end, which stays exactly as given, and its neighbour. Otherwise InvalidInputError is
    raised.
    """
    a, b, t = _end(a), _end(b), _steps(t)
    absent = (a == 0) & (b == 0)
    from_a, from_b = a, b
    missing = (a == 0) != (b == 0)
    if np.any(missing):
        if delta is None:
            element = int(np.argwhere(missing)[0][-1])
            raise InvalidInputError(
                f"element number {element} is absent from one end only, where a geodesic jumps; "
                "take the straight path or replace zeros first"
            )
        from_a, from_b = (_filled(x, missing & (x == 0), delta) for x in (a, b))
    log_a, log_b = (np.log(np.where(absent, 1.0, x)) for x in (from_a, from_b))
    t = t.reshape(t.shape + (1,) * a.ndim)
    logs = np.where(absent, -np.inf, (1.0 - t) * log_a + t * log_b)
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    path: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    path = np.where(t == 0, a, path)
    return np.where(t == 1, b, path)


def _filled(x: FloatArray, where: BoolArray, delta: float) -> FloatArray:
    taken = delta * where.sum(axis=-1, keepdims=True)
    if not delta > 0 or np.any(taken >= 1):
        raise InvalidInputError(
            f"zero replacement is {delta:g}; expected above 0 and, times the number of elements "
            "absent from one end, below 1"
        )
    filled: FloatArray = np.where(where, delta, x * (1.0 - taken))
    return filled


def _end(x: ArrayLike) -> FloatArray:
    """As given where its sum is 1 up to rounding, so that ends stay what they are; else closed."""
    closed = closure(x)
    given = np.asarray(x, dtype=np.float64)
    off = np.abs(given.sum(axis=-1, keepdims=True) - 1.0)
    return np.where(off <= SUM_TOLERANCE, given, closed)


def _steps(t: ArrayLike) -> FloatArray:
    t = np.atleast_1d(np.asarray(t, dtype=np.float64))
    if not np.all((t >= 0) & (t <= 1)):
        raise InvalidInputError("path positions t lie outside [0, 1]")
    return t


def feasible_path(
    a: ArrayLike,
    b: ArrayLike,
    t: ArrayLike,
    space: CompositionSet,
    *,
    geodesic: bool = False,
    delta: float | None = None,
) -> FloatArray:
    """Path from a to b (e,) within a set, t (n,) -> (n, e); every point feasible within 1e-9.

    Bounds, groups and ratios make a convex set, in which the straight line is the shortest path
    and stays inside. ``geodesic``: the Aitchison geodesic, each point that lies outside replaced
    by the nearest feasible one (``projection.project``); the order of t is kept. "At most k
    elements" is not convex: where both ends together have more, each point of the line is
    replaced by the nearest allowed one, and the path jumps where the elements change.
    Raises InvalidInputError, with the constraints that are broken, when an end is not feasible.
    """
    a, b = _end(a), _end(b)
    for name, end in (("first", a), ("last", b)):
        broken = space.violations(end)
        if broken:
            raise InvalidInputError(
                f"the {name} composition is not allowed: {'; '.join(broken)}; project it onto the "
                "set, or widen the constraints"
            )
    path = geodesic_path(a, b, t, delta=delta) if geodesic else straight_path(a, b, t)
    steps = _steps(t)[:, None]
    return np.where(steps == 0, a, np.where(steps == 1, b, project(path, space)))


def path_length(path: ArrayLike, *, aitchison: bool = False) -> float:
    """Length of a path of n points (n, e): sum of the distances between neighbours.

    ``aitchison``: in that distance (infinite where an element comes or goes), else Euclidean.
    """
    path = np.asarray(path, dtype=np.float64)
    distance = present_distance if aitchison else euclidean_distance
    return float(distance(path[1:], path[:-1]).sum())
