"""Nearest feasible composition: the Euclidean projection onto a CompositionSet."""

from __future__ import annotations

import heapq
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.composition import FloatArray, project_to_bounds
from loop.errors import InvalidInputError
from loop.polytope import TOLERANCE, CompositionSet, feasible_point

SNAP = 1e-13  # what is so near to a bound is on it
NODES = 200  # projections that the search for the nearest support may take


class Walls(NamedTuple):
    """A polytope in its own plane: x = origin + basis z, with walls z >= offsets row by row.

    ``origin`` (e,), ``basis`` (e, d) orthonormal, ``walls`` (m, d) of unit length, ``offsets``
    (m,). ``element`` (m,): whose bound a wall is, -1 for a group; ``at``: that bound.
    """

    origin: FloatArray
    basis: FloatArray
    walls: FloatArray
    offsets: FloatArray
    element: NDArray[np.int64]
    at: FloatArray


@lru_cache(maxsize=256)
def walls_of(space: CompositionSet) -> Walls:
    """The polytope of a set (``at_most`` left aside), its equalities used up."""
    e = space.size
    rows = space.rows
    equal = rows.low == rows.high
    fixed = space.low == space.high
    equalities = np.concatenate([np.ones((1, e)), rows.matrix[equal], np.eye(e)[fixed]])
    values = np.concatenate([[1.0], rows.low[equal], space.low[fixed]])
    # One decomposition gives a point and an orthonormal basis of what is left free.
    u, s, vt = np.linalg.svd(equalities)
    rank = int((s > 1e-12 * s[0]).sum())
    origin = vt[:rank].T @ ((u[:, :rank].T @ values) / s[:rank])
    basis = vt[rank:].T
    free, others = ~fixed, ~equal
    places = np.flatnonzero(free)
    none = np.full(int(others.sum()), -1)
    matrix = np.concatenate(
        [np.eye(e)[free], -np.eye(e)[free], rows.matrix[others], -rows.matrix[others]]
    )
    low = np.concatenate([space.low[free], -space.high[free], rows.low[others], -rows.high[others]])
    element = np.concatenate([places, places, none, none])
    at = np.concatenate([space.low[free], space.high[free], np.zeros(2 * len(none))])
    walls = matrix @ basis
    length = np.linalg.norm(walls, axis=1)
    real = (length > 1e-12) & np.isfinite(low)
    length = length[real, None]
    return Walls(
        origin,
        basis,
        walls[real] / length,
        (low - matrix @ origin)[real] / length[:, 0],
        element[real],
        at[real],
    )


def project(x: ArrayLike, space: CompositionSet, *, nodes: int = NODES) -> FloatArray:
    """Nearest point (Euclidean) of the set to each row, (..., e) -> (..., e).

    Every constraint of the result holds within 1e-9 and what is at a bound is exactly there, so
    absent elements are exactly 0. What is feasible already comes back unchanged.

    Bounds alone: ``project_to_bounds``. With groups and ratios it is a least-distance programme
    (Lawson & Hanson 1974, Solving Least Squares Problems, ch. 23), an active-set method that ends
    with the exact face, on which the point is then computed once more.
    "At most k elements": where all elements have the same bounds and nothing else limits them, the
    k largest stay (exact; Kyrillidis et al. 2013, ICML 28(2), 235). Otherwise supports are searched
    by branch and bound, starting from the one left when the smallest element goes again and again:
    exact unless the search ends at ``nodes`` projections a row, and then the nearest met so far.
    Raises InvalidInputError for values that are not finite and another number of elements.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim == 0 or x.shape[-1] != space.size:
        raise InvalidInputError(
            f"compositions have shape {x.shape}; expected (..., {space.size}), one per element"
        )
    if not np.all(np.isfinite(x)):
        raise InvalidInputError("cannot project a composition with a value that is not finite")
    flat = x.reshape(-1, space.size)
    result = np.array(flat)
    todo = np.flatnonzero(~space.is_feasible(flat, tolerance=1e-12))
    if space.at_most is None or space.at_most >= space.size:
        result[todo] = _project_convex(flat[todo], space)
    else:
        for i in todo:
            result[i] = _project_sparse(flat[i], space, nodes)
    return result.reshape(x.shape)


def _project_convex(x: FloatArray, space: CompositionSet) -> FloatArray:
    # Nearest within the bounds; where that meets the groups too, it is nearest in the smaller set.
    result = project_to_bounds(x, space.low, space.high)
    rows = space.rows
    values = result @ rows.matrix.T
    met = np.all((values >= rows.low - 1e-13) & (values <= rows.high + 1e-13), axis=1)
    if met.all():
        return result
    walls = walls_of(space)
    for i in np.flatnonzero(~met):
        result[i] = _least_distance(x[i], walls)
    if not space.is_feasible(result, tolerance=TOLERANCE).all():
        raise InvalidInputError(
            "the constraints leave less than rounding can hold "
            f"({'; '.join(space.constraints)}); widen one of them"
        )
    return result


def _least_distance(x: FloatArray, walls: Walls) -> FloatArray:
    """min |z - z0| with walls z >= offsets, z0 the point of the plane nearest to x."""
    from scipy.optimize import nnls

    origin, basis, a, offsets, element, at = walls
    z = basis.T @ (x - origin)
    missing = offsets - a @ z
    scale = float(missing.max(initial=0.0))
    active = np.zeros(len(a), dtype=bool)
    if scale > 0:
        matrix = np.concatenate([a.T, missing[None] / scale])
        aim = np.zeros(len(matrix))
        aim[-1] = 1.0
        multipliers, _ = nnls(matrix, aim, maxiter=30 * len(a))
        active = multipliers > 0
        residual = matrix @ multipliers - aim
        if -residual[-1] < 1e-14:  # then no point is behind all walls (same source)
            raise InvalidInputError("no composition meets all constraints; widen one of them")
        step = -scale * residual[:-1] / residual[-1]
        # On the face that was found the point follows from equations alone, to the last digit.
        exact = np.linalg.lstsq(a[active], missing[active], rcond=None)[0]
        if (missing - a @ exact).max() <= max((missing - a @ step).max(), 1e-13 * max(1.0, scale)):
            step = exact
        z = z + step
    nearest: FloatArray = origin + basis @ z
    bound = active & (element >= 0)
    nearest[element[bound]] = at[bound]
    on = (np.abs(a @ z - offsets) <= SNAP) & (element >= 0)
    nearest[element[on]] = at[on]
    return nearest


# At most k elements


def _project_sparse(x: FloatArray, space: CompositionSet, nodes: int) -> FloatArray:
    assert space.at_most is not None
    k = space.at_most
    if _alike(space):
        kept = np.sort(np.argsort(-x, kind="stable")[:k])
        return _on(x, space, kept)
    convex = support_set(space, tuple(range(space.size)))
    relaxed = _project_convex(x[None], convex)[0]
    if np.count_nonzero(relaxed) <= k:
        return relaxed
    best = _first_support(x, space, relaxed)
    reach = float(np.sum((best - x) ** 2))
    # A node is what must be absent and what is decided to stay; its bound is the distance of the
    # set without those that are absent.
    queue: list[tuple[float, int, frozenset[int], frozenset[int], FloatArray]] = [
        (float(np.sum((relaxed - x) ** 2)), 0, frozenset(), frozenset(), relaxed)
    ]
    made, order = 0, count(1)  # equal distances come out in the order they were found
    while queue and made < nodes:
        bound, _, absent, stays, point = heapq.heappop(queue)
        if bound >= reach - 1e-15:
            break
        open_ = [int(i) for i in np.flatnonzero(point) if i not in stays]
        branch = min(open_, key=lambda i: point[i])
        for gone, held in ((absent | {branch}, stays), (absent, stays | {branch})):
            if len(held) == k:
                gone = frozenset(range(space.size)) - held
            if gone == absent:
                child: FloatArray | None = point
            else:
                made += 1
                child = _without(x, space, gone)
            if child is None:
                continue
            distance = float(np.sum((child - x) ** 2))
            if distance >= reach - 1e-15:
                continue
            if np.count_nonzero(child) <= k:
                best, reach = child, distance
            elif len(held) < k:
                heapq.heappush(queue, (distance, next(order), gone, held, child))
    return best


def _alike(space: CompositionSet) -> bool:
    """Whether the set does not change when elements change places."""
    same = bool(np.all(space.low == space.low[0]) and np.all(space.high == space.high[0]))
    return same and not space.groups and not space.ratios


def _on(x: FloatArray, space: CompositionSet, kept: NDArray[np.int64]) -> FloatArray:
    result = np.zeros(space.size)
    result[kept] = _project_convex(x[kept][None], support_set(space, tuple(map(int, kept))))[0]
    return result


def _without(x: FloatArray, space: CompositionSet, gone: frozenset[int]) -> FloatArray | None:
    kept = np.array([i for i in range(space.size) if i not in gone], dtype=np.int64)
    if not kept.size:
        return None
    try:
        return _on(x, space, kept)
    except InvalidInputError:  # nothing is feasible without those elements
        return None


@lru_cache(maxsize=4096)
def support_set(space: CompositionSet, support: tuple[int, ...]) -> CompositionSet:
    """The set on the elements ``support`` only, ``at_most`` left aside; see ``on_support``."""
    return space.on_support(support)


def _first_support(x: FloatArray, space: CompositionSet, relaxed: FloatArray) -> FloatArray:
    """A feasible point of at most k elements, to start from: the smallest goes, again and again."""
    assert space.at_most is not None
    point, gone, needed = relaxed, frozenset[int](), set[int]()
    while np.count_nonzero(point) > space.at_most:
        left = [int(i) for i in np.flatnonzero(point) if i not in needed]
        if not left:
            break
        least = min(left, key=lambda i: point[i])
        fewer = _without(x, space, gone | {least})
        if fewer is None:
            needed.add(least)
        else:
            point, gone = fewer, gone | {least}
    else:
        return point
    found = feasible_point(space.all_rows(), space.size, space.at_most, objective=-x)
    if found is None:  # the constructor found one, so this is rounding at the edge
        raise InvalidInputError(
            f"no support found for {'; '.join(space.constraints)}; widen one of them"
        )
    return _on(x, space, np.flatnonzero(found > TOLERANCE))
