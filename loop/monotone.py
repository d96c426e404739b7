"""Paths on which a property moves one way: points brought to iso-values by its derivative.

The values that the points of a path have are replaced by the nearest that rise (or fall), and each
point whose value changes is moved to the nearest feasible composition that has it: Gauss-Newton
steps of least length, each the solution of min |y - x| over the feasible set with g (y - x) = r,
g the derivative and r what is missing. Its dual has one unknown, y = P(x + l g) with the
projection P onto the set, and g P(x + l g) never falls with l (Moreau 1965, Bull. Soc. Math. France
93, 273: projections are monotone), so l is found by a search in one dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from loop.composition import BoolArray, FloatArray
from loop.errors import InvalidInputError
from loop.polytope import CompositionSet
from loop.projection import project, support_set

Values = Callable[[FloatArray, FloatArray], FloatArray]  # (m, p, e), positions (m,) -> (m,)
Gradients = Callable[[FloatArray, FloatArray], FloatArray]  # the same -> (m, p, e)
Rows = NDArray[np.intp]

EVEN = 0.2  # share of equal steps in the values aimed at: without it pooled values would be equal
TURNS = 30
REACH = 0.1  # atomic fractions, length of the longest step
DIFFERENCE = 1e-3  # atomic fractions, of a forward difference
BETWEEN = 0.1  # of the dent that is mended: what may remain halfway between two points
FLAT = 1e-9  # relative: values that differ by less are equal
SEARCH = 40


@dataclass(frozen=True, eq=False)
class Monotone:
    """``path``: (n, p, e); ``values``, ``before``: (n,), of it and of the path that was given.

    ``moved``: (n,) Euclidean distance of each point from where it was, over all phases.
    """

    path: FloatArray
    values: FloatArray
    before: FloatArray
    moved: FloatArray


def monotone_path(
    path: ArrayLike,
    t: ArrayLike,
    values: Values,
    spaces: Sequence[CompositionSet],
    *,
    gradients: Gradients | None = None,
    joined: BoolArray | None = None,
    name: str = "the property",
) -> Monotone:
    """The path (n, p, e) at positions t (n,), mended until the property moves one way along it.

    ``values``: the property of compositions (m, p, e) at positions (m,), NaN where there is none.
    ``gradients``: its derivatives by the atomic fractions, else forward differences, kept up with
    C. G. Broyden's update (Math. Comp. 19, 577, 1965). ``spaces``: what is allowed of each phase.
    ``joined``: (n - 1,) whether nothing but the composition and what moves evenly with t differs
    from one point to the next, default all; another image does.
    Ends stay as they are, absent elements absent, every point within its set. A path that is
    monotone already comes back unchanged.
    Raises InvalidInputError where a point has no value, where both ends have the same, where no
    feasible composition near a point has the value that it needs, and where the path would jump:
    the property halfway between two joined neighbours must not leave what lies between theirs by
    more than a tenth of what was to be mended.
    """
    x, t = np.array(path, dtype=np.float64), np.asarray(t, dtype=np.float64)
    start = values(x, t)
    if np.any(np.isnan(start)):
        where = float(t[np.flatnonzero(np.isnan(start))[0]])
        raise InvalidInputError(f"the point at t = {where:g} has no {name}")
    sign = 1.0 if start[-1] >= start[0] else -1.0
    dent, scale = _dent(start), float(np.abs(start).max())
    if moves_one_way(start):
        return Monotone(x, start, start, np.zeros(len(t)))
    if abs(start[-1] - start[0]) <= FLAT * scale:
        most = start[np.abs(start - start[0]).argmax()]
        raise InvalidInputError(
            f"{name} is {start[0]:.6g} at both ends and {most:.6g} between them; between equal "
            "ends no path rises or falls"
        )
    aims = _aims(start, t)
    close = 0.25 * float(np.abs(np.diff(aims)).min())
    search = _Search(x, t, start, values, gradients, spaces)
    search.run(aims, close)
    missed = np.abs(aims - search.v)
    if np.any(missed > close):
        i = int(missed.argmax())
        word = "rise" if sign > 0 else "fall"
        raise InvalidInputError(
            f"{name} does not {word} all the way from {start[0]:.6g} to {start[-1]:.6g}: at t = "
            f"{t[i]:g} it is {start[i]:.6g}, and the nearest feasible compositions come to "
            f"{search.v[i]:.6g}, not {aims[i]:.6g}; widen the bounds, or take another path or ends"
        )
    between = np.flatnonzero(np.ones(len(t) - 1, dtype=bool) if joined is None else joined)
    if len(between):
        _check_between(search.x, t, search.v, values, between, BETWEEN * dent, name)
    moved = np.sqrt(((search.x - np.asarray(path)) ** 2).sum(axis=(1, 2)))
    return Monotone(search.x, search.v, start, moved)


def moves_one_way(values: FloatArray) -> bool:
    """Whether values (n,) never turn back on the way to the last; not where one is NaN."""
    return _dent(values) <= FLAT * float(np.abs(values).max())


def _dent(values: FloatArray) -> float:
    """By how much they turn back at most."""
    way = values if values[-1] >= values[0] else -values
    return float(np.max(np.maximum.accumulate(way) - way))


def _aims(start: FloatArray, t: FloatArray) -> FloatArray:
    """(n,) strictly monotone values from the first to the last, near those that there are."""
    low, high = sorted((float(start[0]), float(start[-1])))
    rises = bool(start[-1] > start[0])
    nearest = isotonic_regression(np.clip(start, low, high), increasing=rises).x
    even = start[0] + (t - t[0]) / (t[-1] - t[0]) * (start[-1] - start[0])
    aims: FloatArray = (1 - EVEN) * np.asarray(nearest) + EVEN * even
    aims[0], aims[-1] = start[0], start[-1]
    return aims


def _check_between(
    x: FloatArray,
    t: FloatArray,
    v: FloatArray,
    values: Values,
    after: Rows,
    allowed: float,
    name: str,
) -> None:
    """Halfway from the points ``after`` to their next ones."""
    found = values((x[after] + x[after + 1]) / 2, (t[after] + t[after + 1]) / 2)
    low, high = np.minimum(v[after], v[after + 1]), np.maximum(v[after], v[after + 1])
    outside = np.where(np.isnan(found), np.inf, np.maximum(low - found, found - high))
    worst = int(outside.argmax())
    i, middle = int(after[worst]), float(found[worst])
    if outside[worst] > allowed:
        raise InvalidInputError(
            f"{name} would jump: from t = {t[i]:g} to {t[i + 1]:g} it goes from {v[i]:.6g} to "
            f"{v[i + 1]:.6g}, but halfway it is {middle:.6g}; no path on which it only "
            f"{'rises' if v[-1] > v[0] else 'falls'} lies near this one (take more --steps if "
            "there are few, widen the bounds, or take other ends)"
        )


class _Search:
    """Points, their values, and the derivatives known for them."""

    def __init__(
        self,
        x: FloatArray,
        t: FloatArray,
        start: FloatArray,
        values: Values,
        gradients: Gradients | None,
        spaces: Sequence[CompositionSet],
    ) -> None:
        self.values, self.gradients, self.spaces, self.t = values, gradients, spaces, t
        self.present: BoolArray = x > 0
        self.x, self.v = x.copy(), start.copy()
        inner = np.arange(1, len(t) - 1)
        inside = self._projected(x[inner], inner)
        outside = inner[np.abs(inside - x[inner]).max(axis=(1, 2)) > 0]
        self.x[inner] = inside
        if len(outside):
            self.v[outside] = values(self.x[outside], t[outside])
        self.g = np.zeros_like(x)

    def run(self, aims: FloatArray, close: float) -> None:
        """Steps until every value is within ``close`` of its aim, or none comes nearer."""
        n = len(self.t)
        share, stuck, fresh = np.ones(n), np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
        for _ in range(TURNS):
            rows = np.flatnonzero((np.abs(aims - self.v) > close) & ~stuck)
            if not len(rows):
                break
            new = rows[fresh[rows]]
            if len(new):
                self.g[new] = self._slopes(new)
                fresh[new] = False
            missing = share[rows] * (aims - self.v)[rows]
            trial = self._shifted(rows, missing)
            found = self.values(trial, self.t[rows])
            better = np.abs(aims[rows] - found) < np.abs(aims - self.v)[rows]
            self._learn(rows, trial, found)
            kept = rows[better]
            step = np.abs(trial - self.x[rows]).max(axis=(1, 2))
            self.x[kept], self.v[kept] = trial[better], found[better]
            share[rows] = np.where(better, np.minimum(1.0, 2 * share[rows]), 0.25 * share[rows])
            fresh[kept] = self.gradients is not None
            stuck[rows] = step < 1e-12

    def _slopes(self, rows: Rows) -> FloatArray:
        """(m, p, e) derivatives; forward differences are those toward each pure element."""
        x, t = self.x[rows], self.t[rows]
        if self.gradients is not None:
            return np.nan_to_num(self.gradients(x, t)) * self.present[rows]
        slopes = np.zeros_like(x)
        for i, j in np.argwhere(self.present[rows].any(axis=0)):
            there = np.flatnonzero(self.present[rows][:, i, j])
            y = x[there]
            y[:, i] *= 1 - DIFFERENCE
            y[:, i, j] += DIFFERENCE
            # Less x g, which is the same for all elements of a phase and drops out of every step.
            slopes[there, i, j] = (self.values(y, t[there]) - self.v[rows][there]) / DIFFERENCE
        return np.nan_to_num(slopes)

    def _learn(self, rows: Rows, trial: FloatArray, found: FloatArray) -> None:
        """Differences of steps that were taken for the derivatives, where none are given."""
        if self.gradients is not None:
            return
        step = trial - self.x[rows]
        size = (step**2).sum(axis=(1, 2))
        off = found - self.v[rows] - (self.g[rows] * step).sum(axis=(1, 2))
        good = np.isfinite(off) & (size > 1e-24)
        change = np.where(good, off / np.where(good, size, 1.0), 0.0)
        self.g[rows] += change[:, None, None] * step

    def _shifted(self, rows: Rows, missing: FloatArray) -> FloatArray:
        """(m, p, e) the nearest feasible points whose linearised value differs by ``missing``."""
        x, present = self.x[rows], self.present[rows]
        count = np.maximum(present.sum(axis=2, keepdims=True), 1)
        g = np.where(present, self.g[rows], 0.0)
        g = np.where(present, g - g.sum(axis=2, keepdims=True) / count, 0.0)
        size = (g**2).sum(axis=(1, 2))
        flat = size <= 1e-30
        wanted = np.abs(missing)
        g *= np.sign(missing)[:, None, None]
        most = np.where(flat, 0.0, REACH / np.sqrt(np.where(flat, 1.0, size)))
        lower, upper = np.zeros(len(rows)), most
        trial = np.minimum(np.where(flat, 0.0, wanted / np.where(flat, 1.0, size)), most)
        y = x
        for turn in range(SEARCH):
            y = self._projected(x + trial[:, None, None] * g, rows)
            gained = (g * (y - x)).sum(axis=(1, 2))
            off = gained - wanted
            done = (np.abs(off) <= 1e-3 * wanted) | flat | ((trial >= most) & (off < 0))
            if done.all():
                break
            lower, upper = np.where(off < 0, trial, lower), np.where(off < 0, upper, trial)
            # Walls only slow the gain down: a little farther at first, then halves.
            ahead = trial * wanted / np.maximum(gained, 1e-30)
            inside = (ahead > lower) & (ahead < upper) & (turn < SEARCH // 4)
            trial = np.where(done, trial, np.where(inside, ahead, (lower + upper) / 2))
        return y

    def _projected(self, x: FloatArray, rows: Rows) -> FloatArray:
        """The nearest points (m, p, e) of the sets, on the elements that are there."""
        y = np.zeros_like(x)
        for i, space in enumerate(self.spaces):
            patterns, which = np.unique(self.present[rows][:, i], axis=0, return_inverse=True)
            for number, pattern in enumerate(patterns):
                some = np.flatnonzero(which.reshape(-1) == number)
                support = np.flatnonzero(pattern)
                part = support_set(space, tuple(map(int, support)))
                y[np.ix_(some, np.array([i]), support)] = project(x[some][:, i, support], part)[
                    :, None
                ]
        return y
