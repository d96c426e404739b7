"""Uniform and Sobol compositions in a CompositionSet, up to 30 elements and more.

Bounds, fixed ratios and bounds on sums that do not overlap: conditional distribution functions
(``grouped_simplex``), one uniform number a coordinate. Other linear groups: hit-and-run. "At most
k elements": which elements, then how much (``draw_supports``). A set of elements may be drawn in
vain, a point of ``sample`` never is. Every point is feasible within 1e-9, absent
elements are exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from loop.composition import FloatArray
from loop.errors import InvalidInputError
from loop.grouped_simplex import GroupedSimplex
from loop.hit_and_run import body_of, hit_and_run
from loop.polytope import CompositionSet, feasible_point
from loop.projection import support_set

SUPPORTS = 256  # different sets of elements in one call, at most
LISTED = 4096  # sets of elements that are all looked at; of more, some are drawn
TRIES = 40  # drawn sets per wanted one before feasible ones are looked for
KEEPS = 32  # of so many Sobol points at least one must meet the groups to be thinned

Support = tuple[int, ...]


@lru_cache(maxsize=16)  # the tables of 30 elements take 4 MB
def _map_of(space: CompositionSet) -> GroupedSimplex | None:
    return GroupedSimplex.made(space)


def sample(
    space: CompositionSet, n: int, rng: np.random.Generator, *, steps: int | None = None
) -> FloatArray:
    """n compositions drawn uniformly from the set, (n, e).

    With ``at_most``: sets of exactly so many elements (fewer only where the constraints admit no
    more), each as likely as any other that is feasible, and uniform within the polytope of each;
    at most ``SUPPORTS`` different ones in one call. ``steps``: of hit-and-run where it is needed
    (``hit_and_run.mixing_steps``). Raises InvalidInputError for n below 0.
    """
    if n < 0:
        raise InvalidInputError(f"{n} compositions were asked for; expected at least 0")
    if space.at_most is None or space.at_most >= space.size:
        return _uniform(support_set(space, tuple(range(space.size))), n, rng, steps)
    supports = draw_supports(space, min(n, SUPPORTS), rng)
    chosen = rng.permutation(np.arange(n) % max(len(supports), 1))
    points = np.zeros((n, space.size))
    for i, support in enumerate(supports):
        rows = np.flatnonzero(chosen == i)
        part = _uniform(support_set(space, support), len(rows), rng, steps)
        points[np.ix_(rows, np.array(support))] = part
    return points


def _uniform(
    space: CompositionSet, n: int, rng: np.random.Generator, steps: int | None
) -> FloatArray:
    simplex = _map_of(space)
    if simplex is None:
        return hit_and_run(space, n, rng, steps=steps)
    return simplex.points(rng.random((n, simplex.dimension)))


def sobol(space: CompositionSet, n: int, *, seed: int) -> FloatArray:
    """n scrambled Sobol points in the set, (n, e): the same for the same seed.

    Where ``sample`` uses conditional distribution functions so does this, and the points are
    uniform. Other groups: Sobol points of the set without those that are in the way, thinned to
    the ones that meet them, uniform too; but where fewer than one in ``KEEPS`` does, points along
    rays from the analytic centre (direction from normal quantiles, distance from the root of the
    last number): feasible and spread out, not uniform.
    With ``at_most`` one more Sobol number picks the set of elements among those of
    ``draw_supports``.
    """
    if n < 0:
        raise InvalidInputError(f"{n} compositions were asked for; expected at least 0")
    if space.at_most is None or space.at_most >= space.size:
        return _spread(support_set(space, tuple(range(space.size))), n, seed)
    rng = np.random.default_rng(seed)
    supports = draw_supports(space, min(n, SUPPORTS), rng)
    picked = (_sobol_numbers(n, 1, seed)[:, 0] * len(supports)).astype(np.int64)
    points = np.zeros((n, space.size))
    for i, support in enumerate(supports):
        rows = np.flatnonzero(picked == i)
        part = _spread(support_set(space, support), len(rows), seed + i + 1)
        points[np.ix_(rows, np.array(support))] = part
    return points


def _sobol_blocks(block: int, d: int, seed: int) -> Iterator[FloatArray]:
    """Scrambled Sobol numbers inside (0, 1), ``block`` (a power of two) after ``block``."""
    from scipy.stats import qmc

    engine = qmc.Sobol(d, scramble=True, rng=np.random.default_rng(seed))
    while True:
        # Quantiles of exactly 0 and 1 would be corners, which a uniform point never is.
        yield np.clip(engine.random(block), 2.0**-54, 1.0 - 2.0**-53)


def _sobol_numbers(n: int, d: int, seed: int) -> FloatArray:
    if d == 0 or n == 0:
        return np.zeros((n, d))
    return next(_sobol_blocks(_power(n), d, seed))[:n]


def _power(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def _spread(space: CompositionSet, n: int, seed: int) -> FloatArray:
    simplex = _map_of(space)
    if simplex is not None:
        return simplex.points(_sobol_numbers(n, simplex.dimension, seed))
    thinned = _thinned(space, n, seed)
    return _along_rays(space, n, seed) if thinned is None else thinned


def _thinned(space: CompositionSet, n: int, seed: int) -> FloatArray | None:
    """The first n Sobol points of the set without its groups that meet them; None if too rare."""
    simplex = _map_of(CompositionSet(space.elements, space.bounds, (), space.ratios))
    if simplex is None or simplex.dimension == 0:
        return None
    kept: list[FloatArray] = []
    seen = met = 0
    for numbers in _sobol_blocks(min(max(_power(n), 1024), 16384), simplex.dimension, seed):
        points = simplex.points(numbers)
        kept.append(points[space.is_feasible(points)])
        seen, met = seen + len(points), met + len(kept[-1])
        if met >= n:
            return np.concatenate(kept)[:n]
        if met < seen / KEEPS:
            break
    return None


def _along_rays(space: CompositionSet, n: int, seed: int) -> FloatArray:
    from scipy.special import ndtri

    body = body_of(space)
    d = len(body.centre)
    numbers = _sobol_numbers(n, d + 1, seed) if d else np.zeros((n, 1))
    direction = ndtri(numbers[:, :d]) @ body.shape.T
    speed = direction @ body.walls.T
    slack = body.walls @ body.centre - body.offsets
    with np.errstate(divide="ignore"):
        reach = np.where(speed < 0, -slack / speed, np.inf).min(axis=1, initial=np.inf)
    reach = np.where(np.isfinite(reach), reach, 0.0)
    share = numbers[:, -1:] ** (1.0 / max(d, 1))
    return body.compositions(body.centre + share * reach[:, None] * direction, space)


# Which elements


def draw_supports(space: CompositionSet, n: int, rng: np.random.Generator) -> list[Support]:
    """Up to n different sets of at_most elements on which the set is not empty.

    Every such set is as likely as any other, where at most ``LISTED`` sets are to be looked at or
    at least one in ``TRIES`` of all sets is feasible. What is missing after that comes from
    mixed-integer programmes with random objectives: feasible, but not equally likely. Elements
    that must be there are; those that cannot be are not; the elements of a ratio go together.
    """
    if n == 0:
        return []
    required = tuple(map(int, np.flatnonzero(space.low > 0)))
    free = tuple(int(i) for i in np.flatnonzero((space.low <= 0) & (space.high > 0)))
    assert space.at_most is not None
    more = max(min(space.at_most - len(required), len(free)), 0)
    found: dict[Support, None] = {}
    listed = comb(len(free), more) <= LISTED
    if listed:
        every = list(combinations(free, more))
        for at in rng.permutation(len(every)):
            support = tuple(sorted(required + every[at]))
            if _holds(space, support):
                found[support] = None
                if len(found) == n:
                    break
    else:
        tries = 0
        while len(found) < n and tries < TRIES * (len(found) + 4):
            tries += 1
            chosen = tuple(int(i) for i in rng.choice(free, size=more, replace=False))
            support = tuple(sorted(required + chosen))
            if support not in found and _holds(space, support):
                found[support] = None
    if listed and found:  # all sets of that size are known
        return list(found)
    rows = space.all_rows()
    for _ in range(n - len(found)):
        # Rare, or smaller, sets: the programme finds one whatever their share is.
        objective = rng.standard_normal(space.size)
        point = feasible_point(rows, space.size, space.at_most, objective=objective)
        if point is not None:
            found[tuple(map(int, np.flatnonzero(point > 1e-9)))] = None
    return list(found)


def _holds(space: CompositionSet, support: Support) -> bool:
    """Whether compositions of just these elements exist."""
    at = np.array(support, dtype=np.int64)
    if not len(at) or space.low[at].sum() > 1 + 1e-12 or space.high[at].sum() < 1 - 1e-12:
        return False
    kept = {space.elements[i] for i in support}
    if any((ratio.first in kept) != (ratio.second in kept) for ratio in space.ratios):
        return False
    if not space.groups and not space.ratios:
        return True
    groups = space.rows
    there = groups.matrix[:, at]  # a mean of these is what a group comes to
    if np.any(there.max(axis=1) < groups.low - 1e-12) or np.any(
        there.min(axis=1) > groups.high + 1e-12
    ):
        return False
    try:
        part = support_set(space, support)
    except InvalidInputError:
        return False
    return feasible_point(part.all_rows(), part.size) is not None
