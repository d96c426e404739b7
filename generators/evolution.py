"""The core of an evolutionary search: who is better, and what two parents give.

Non-dominated sorting and crowding: Deb et al. 2002, IEEE Trans. Evol. Comput. 6, 182 (NSGA-II).
Simulated binary crossover: Deb & Agrawal 1995, Complex Systems 9, 115. All objectives are to be
minimised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def non_dominated_ranks(objectives: FloatArray) -> IntArray:
    """(n,) front of each row of objectives (n, k): 0 where no other row dominates it.

    A row dominates another when it is nowhere larger and somewhere smaller; front i is what is
    left non-dominated once the fronts before it are gone. In lexicographic order a row can only
    be dominated by earlier ones, and where a front dominates it so do all fronts before: its own
    is found by bisection (Zhang et al. 2015, IEEE Trans. Evol. Comput. 19, 201).
    Raises InvalidInputError for objectives that are not finite.
    """
    f = np.asarray(objectives, dtype=np.float64)
    if f.ndim != 2 or not np.all(np.isfinite(f)):
        raise InvalidInputError(
            f"objectives have shape {f.shape}; expected (n, k), all of them finite"
        )
    ranks = np.zeros(len(f), dtype=np.int64)
    if f.shape[1] == 0:
        return ranks
    fronts: list[list[int]] = []
    for i in np.lexsort(f.T[::-1]).tolist():
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if _dominated(f[i], f[fronts[middle]]):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append([])
        fronts[low].append(i)
        ranks[i] = low
    return ranks


def _dominated(row: FloatArray, others: FloatArray) -> bool:
    return bool(np.any(np.all(others <= row, axis=1) & np.any(others < row, axis=1)))


def crowding_distances(objectives: FloatArray) -> FloatArray:
    """(n,) half the perimeter of the empty box around each row of one front, (n, k).

    Per objective the distance between the two neighbours over the front's range; the ends are
    infinite. An objective in which all are equal tells nobody apart and adds nothing.
    """
    n, _ = objectives.shape
    total = np.zeros(n)
    for column in objectives.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        extent = values[-1] - values[0] if n else 0.0
        if extent > 0:
            total[order[1:-1]] += (values[2:] - values[:-2]) / extent
            total[order[[0, -1]]] = np.inf
    return total


def crowded_order(objectives: FloatArray) -> IntArray:
    """(n,) rows from best to worst: by front, within a front the less crowded first.

    The first m of them are the survivors of NSGA-II, elitist: no better row is left out.
    """
    ranks = non_dominated_ranks(objectives)
    crowding = np.zeros(len(ranks))
    for rank in np.unique(ranks):
        mine = np.flatnonzero(ranks == rank)
        crowding[mine] = crowding_distances(objectives[mine])
    order: IntArray = np.lexsort((-crowding, ranks))
    return order


def tournament(n: int, count: int, rng: np.random.Generator) -> IntArray:
    """(count,) winners of binary tournaments among places 0 ... n - 1, of which 0 is the best."""
    return rng.integers(n, size=(count, 2)).min(axis=1)


def spread_factor(u: FloatArray, eta: float) -> FloatArray:
    """Distance of two children over that of their parents, from uniform numbers in [0, 1).

    Density ½(η + 1) β^η up to 1 and ½(η + 1) / β^(η + 2) beyond, the larger ``eta`` the nearer
    to 1. Deb & Agrawal 1995, equations 9 to 11.
    """
    inside, outside = np.minimum(2.0 * u, 1.0), np.maximum(2.0 * (1.0 - u), 1e-12)
    factor: FloatArray = np.where(
        u <= 0.5, inside ** (1.0 / (eta + 1.0)), np.minimum(outside, 1.0) ** (-1.0 / (eta + 1.0))
    )
    return factor


def blend(
    first: FloatArray, second: FloatArray, spread: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """Two children on the line through their parents, around the same mean, ``spread`` apart."""
    middle, half = 0.5 * (first + second), 0.5 * spread * (second - first)
    return middle - half, middle + half


def blend_sparse(
    first: FloatArray, second: FloatArray, spread: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """``blend`` of compositions (p, e); an element that one parent lacks goes to one child.

    Half of an alloying element is seldom what either parent was good for, and no child would
    lack it again. The children's mean is the parents' mean; rows need not sum to 1.
    """
    children = blend(first, second, spread)
    single = (first == 0) != (second == 0)
    swapped = rng.random(first.shape) < 0.5
    one = np.where(single, np.where(swapped, second, first), children[0])
    other = np.where(single, np.where(swapped, first, second), children[1])
    return one, other


def cut_mask(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(h, w) what is cut from an image: one side of a line, or a rectangle, as often.

    The line passes through the middle half of the image at any angle; the rectangle has sides
    between a quarter and three quarters of the image's.
    """
    h, w = shape
    y, x = np.mgrid[:h, :w] + 0.5
    if rng.random() < 0.5:
        angle = rng.uniform(0.0, 2.0 * np.pi)
        py, px = rng.uniform(0.25, 0.75, size=2) * (h, w)
        side: NDArray[np.bool_] = (y - py) * np.sin(angle) + (x - px) * np.cos(angle) > 0
        return side
    size = np.maximum(np.rint(rng.uniform(0.25, 0.75, size=2) * (h, w)).astype(int), 1)
    top, left = rng.integers(h - size[0] + 1), rng.integers(w - size[1] + 1)
    inside: NDArray[np.bool_] = (y > top) & (y < top + size[0]) & (x > left) & (x < left + size[1])
    return inside
