"""Compositions among which a batch is searched: drawn, on faces, and neighbours of the best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loop.batch_acquisition import Acquisition
from loop.composition import BoolArray, FloatArray, project_to_bounds
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet
from loop.projection import project, support_set
from loop.sampling import sample, sobol

POOL, SPARSE_POOL = 512, 64  # compositions drawn from the whole set; every support costs a table
PARENTS, CHILDREN = 16, 256  # the best, and how many neighbours they have, in each of two turns
GROUPED_CHILDREN = 128  # where a projection is a programme of its own for each composition
EDGES, CORNER = 64, 100.0  # compositions on faces, and how far away what is projected may be
NARROWEST, WIDEST = 0.003, 0.3  # sizes of a neighbour's random steps, atomic fractions
DUST = 1e-12  # what is below is an element that is absent, but for rounding


def candidates(
    space: CompositionSet, x: FloatArray, acquisition: Acquisition, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Feasible compositions (n, e) and what each alone is worth (n,)."""
    if _sparse(space):
        pool = sample(space, SPARSE_POOL, rng)
    else:
        pool = sobol(space, POOL, seed=int(rng.integers(2**31)))
    pool = np.concatenate([pool, _edges(space, pool, rng)])
    records = np.unique(x[space.is_feasible(x)], axis=0)
    quality = acquisition.single(pool)
    worth = acquisition.single(records) if len(records) else np.zeros(0)
    children = GROUPED_CHILDREN if space.groups or space.ratios else CHILDREN
    for _ in range(2):
        # Records are parents too: near the best of them is where most improvements are.
        everything = np.concatenate([pool, records])
        order = np.argsort(-np.concatenate([quality, worth]), kind="stable")
        own = np.argsort(-worth, kind="stable")[: PARENTS // 2]
        parents = np.concatenate([everything[order[:PARENTS]], records[own]])
        born = _neighbours(space, parents, children, rng)
        pool = np.concatenate([pool, born])
        quality = np.concatenate([quality, acquisition.single(born)])
    pool = without_dust(pool, space)
    _, first = np.unique(pool, axis=0, return_index=True)
    first.sort()
    return pool[first], quality[first]


def without_dust(x: FloatArray, space: CompositionSet) -> FloatArray:
    """Compositions (..., e) in which what only rounding has left of an element is exactly 0."""
    found: FloatArray = np.where((x < DUST) & (space.low <= 0), 0.0, x)
    return found


def _sparse(space: CompositionSet) -> bool:
    return space.at_most is not None and space.at_most < space.size


def _edges(space: CompositionSet, pool: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Compositions on faces of all dimensions, where a surrogate is least certain, (m, e).

    Projections of far points: those farthest toward each element, and random ones from so near
    that few elements vanish to so far that the projection is a corner.
    """
    e = space.size
    far = np.exp(rng.uniform(np.log(0.1), np.log(CORNER), (EDGES, 1)))
    ahead = np.concatenate([CORNER * np.eye(e), far * rng.standard_normal((EDGES, e))])
    start = pool[rng.integers(len(pool), size=len(ahead))]
    free = start > 0 if _sparse(space) else np.ones(start.shape, dtype=bool)
    points = _onto_faces(np.where(free, start + ahead, 0.0), free, space)
    found: FloatArray = points[np.isfinite(points).all(1)]
    return found


def _neighbours(
    space: CompositionSet, parents: FloatArray, n: int, rng: np.random.Generator
) -> FloatArray:
    """At most n feasible compositions near the parents, (m, e).

    In each, one element gives to another (all it has in a third of them, so that elements come
    and go), half are moved by normal steps besides, and all are projected onto the set.
    """
    x = parents[rng.integers(len(parents), size=n)]
    e, rows = space.size, np.arange(n)
    giver = np.where(x > space.low, rng.random((n, e)), -1.0).argmax(1)
    keys = np.where(x < space.high, rng.random((n, e)), -1.0)
    keys[rows, giver] = -2.0
    taker = keys.argmax(1)
    share = np.where(rng.random(n) < 1 / 3, 1.0, rng.random(n) ** 2)
    if _sparse(space):  # a place for an element that comes is one that another has left
        assert space.at_most is not None
        full = (np.count_nonzero(x, axis=1) >= space.at_most) & (x[rows, taker] == 0)
        share = np.where(full, 1.0, share)
    amount = share * (x[rows, giver] - space.low[giver])
    x[rows, giver] = np.where(share == 1.0, space.low[giver], x[rows, giver] - amount)
    x[rows, taker] += amount
    size = np.exp(rng.uniform(np.log(NARROWEST), np.log(WIDEST), n)) * (rng.random(n) < 0.5)
    free = x > 0 if _sparse(space) else np.ones((n, e), dtype=bool)
    x = x + size[:, None] * rng.standard_normal((n, e)) / np.sqrt(e) * free
    kept = np.ones(n, dtype=bool)
    if _sparse(space):
        assert space.at_most is not None
        kept = free.sum(1) <= space.at_most
    x, free = x[kept], free[kept]
    points = _onto_faces(x, free, space)
    found: FloatArray = points[np.isfinite(points).all(1)]
    return found


def _onto_faces(x: FloatArray, free: BoolArray, space: CompositionSet) -> FloatArray:
    """Nearest feasible points to (n, e) without the elements that are not ``free`` (n, e).

    NaN where there are none.
    """
    found = np.full_like(x, np.nan)
    if not space.groups and not space.ratios:
        high = np.where(free, space.high, 0.0)
        there = (high.sum(1) >= 1.0) & np.all(space.low <= high, axis=1)
        found[there] = project_to_bounds(x[there], space.low, high[there])
        return found
    faces, of = np.unique(free, axis=0, return_inverse=True)
    for i, face in enumerate(faces):
        rows, support = np.flatnonzero(of.ravel() == i), np.flatnonzero(face)
        try:
            part = project(x[rows][:, support], support_set(space, tuple(support.tolist())))
        except InvalidInputError:  # no composition of these elements meets the groups
            continue
        found[rows] = 0.0
        found[np.ix_(rows, support)] = part
    return found


def projector(space: CompositionSet, starts: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Projection of batches (r, q, e); of at most k elements, onto those each start has."""
    flat = starts.reshape(-1, space.size)
    free = flat > 0 if _sparse(space) else np.ones(flat.shape, dtype=bool)

    def onto(x: FloatArray) -> FloatArray:
        return _onto_faces(x.reshape(flat.shape), free, space).reshape(starts.shape)

    return onto
