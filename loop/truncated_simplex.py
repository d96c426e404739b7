"""Uniform points of {low <= x <= high, sum x = 1} through their conditional distributions.

The amounts u = x - low are independent and uniform on [0, c], c = high - low, conditioned on their
sum; so given what is left for the elements i, i + 1, …, the density of what is left after i is
proportional to the density F of the sum of the later ones, which a recursion gives:
F_i(r) = integral of F_{i+1} over [r - c_i, r] (up to a factor). Each coordinate is one inverse
distribution function of one uniform number (Devroye 1986, Non-Uniform Random Variate Generation,
ch. XI): nothing is rejected, and Sobol points go the same way. The densities are tables, linear
between ``CELLS`` nodes; the points are feasible whatever their accuracy.
"""

from __future__ import annotations

import numpy as np

from loop.composition import FloatArray
from loop.errors import InvalidInputError

CELLS = 8192


class TruncatedSimplex:
    """The map from the unit cube (e - 1 numbers) onto the bounded simplex over e elements.

    ``low``, ``high``: (e,). ``totals``: what the sum may be, (least, most); 1 by default.
    Raises InvalidInputError where no such sum can be.
    """

    def __init__(
        self, low: FloatArray, high: FloatArray, totals: tuple[float, float] = (1.0, 1.0)
    ) -> None:
        self.low, self._high = low, high
        self.least = float(low.sum())
        self.most = float(high.sum())
        if totals[1] < self.least - 1e-9 or totals[0] > self.most + 1e-9:
            raise InvalidInputError("no composition with sum 1 lies within the bounds; widen them")
        # The narrowest first: the tables then begin with the smoothest density.
        self._order = np.argsort(high - low, kind="stable")
        self._c = (high - low)[self._order]
        self._after = np.concatenate([np.cumsum(self._c[::-1])[::-1][1:], [0.0]])
        self._capacity = float(self._c.sum())
        self.dimension = len(low) - 1
        # Counted from the nearer end of the range, by u -> c - u: in the far tail of a density
        # rounding would leave nothing.
        ends = np.clip(np.array(totals) - self.least, 0.0, self._capacity)
        across = ends[0] <= 0.5 * self._capacity <= ends[1]
        reach = np.minimum(ends, self._capacity - ends).max()
        self._range = float(0.5 * self._capacity if across else reach)
        self._step = self._range / CELLS
        self._tables: list[tuple[FloatArray, FloatArray]] = []
        self._whole = np.ones(CELLS + 1)
        if self._range > 0 and self.dimension > 0:
            self._make_tables()

    def _make_tables(self) -> None:
        """(density F, its integral) of the sum of the elements after i, for i = 0 … e - 3."""
        nodes = np.linspace(0.0, self._range, CELLS + 1)
        a, b = self._c[-2], self._c[-1]
        density = np.minimum(np.minimum(nodes, a), np.maximum(a + b - nodes, 0.0))
        for c in self._c[-3::-1]:
            if c == 0:  # adds nothing, and is never drawn
                self._tables.append((density, density))
                continue
            density = density / max(float(density.max()), 1e-300)
            # In cells; exact for the linear table.
            integral = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
            self._tables.append((density, integral))
            shifted = _integral_at(density, integral, (nodes - c) / self._step)
            density = np.maximum(integral - shifted, 0.0)
        self._tables.reverse()
        self._whole = density / max(float(density.max()), 1e-300)

    def sum_density(self, total: FloatArray) -> FloatArray:
        """Density of the sum of uniform independent amounts, up to a factor, at ``total``."""
        s = np.clip(total - self.least, 0.0, self._capacity)
        s = np.minimum(s, self._capacity - s)
        nodes = np.linspace(0.0, self._range, CELLS + 1)
        density: FloatArray = np.interp(s, nodes, self._whole)
        return density

    def points(self, uniform: FloatArray, total: FloatArray | float = 1.0) -> FloatArray:
        """Points (n, e) of numbers in [0, 1], (n, e - 1), and their sums; uniform if those are."""
        n, e = len(uniform), len(self._c)
        slack = np.clip(np.broadcast_to(total, n) - self.least, 0.0, self._capacity)
        mirrored = slack > 0.5 * self._capacity
        left = np.where(mirrored, self._capacity - slack, slack)
        amounts = np.zeros((n, e))
        for i in range(e - 1 if self._range > 0 else 0):
            # What is left after this element lies between these two.
            most = np.minimum(left, self._after[i])
            least = np.minimum(np.maximum(left - self._c[i], 0.0), most)
            if self._c[i] == 0:
                later = left
            elif i < e - 2:
                later = self._quantile(*self._tables[i], least, most, uniform[:, i])
            else:
                later = least + (most - least) * uniform[:, i]
            amounts[:, i] = left - later
            left = later
        amounts[:, e - 1] = left
        amounts = np.clip(amounts, 0.0, self._c)
        amounts = np.where(mirrored[:, None], self._c - amounts, amounts)
        points = np.empty_like(amounts)
        points[:, self._order] = amounts
        points = self.low + points
        return np.clip(points, self.low, self._high)

    def _quantile(
        self,
        density: FloatArray,
        integral: FloatArray,
        least: FloatArray,
        most: FloatArray,
        uniform: FloatArray,
    ) -> FloatArray:
        below = _integral_at(density, integral, least / self._step)
        above = _integral_at(density, integral, most / self._step)
        wanted = below + uniform * (above - below)
        cell = np.clip(np.searchsorted(integral, wanted, side="right") - 1, 0, CELLS - 1)
        rest = wanted - integral[cell]
        f, rise = density[cell], density[cell + 1] - density[cell]
        # Inverse of rest = f t + rise t^2 / 2 in the form without cancellation.
        root = np.sqrt(np.maximum(f * f + 2.0 * rise * rest, 0.0))
        t = np.divide(2.0 * rest, f + root, out=np.zeros_like(rest), where=f + root > 0)
        # Where the table holds nothing any more the range is far in a tail: take it evenly.
        found = np.where(
            above > below,
            (cell + np.clip(t, 0.0, 1.0)) * self._step,
            least + uniform * (most - least),
        )
        return np.clip(found, least, most)

    def log_density(self, points: FloatArray) -> FloatArray:
        """ln of the density with which ``points`` draws compositions (n, e), up to a constant.

        Equal for all of one sum but for the error of the tables: the measure of how uniform it is.
        """
        u = (points - self.low)[:, self._order]
        mirrored = u.sum(axis=1) > 0.5 * self._capacity
        u = np.where(mirrored[:, None], self._c - u, u)
        left = u.sum(axis=1)
        logs = np.zeros(len(u))
        for i in range(u.shape[1] - 1):
            if self._c[i] == 0:
                continue
            later = left - u[:, i]
            least, most = np.maximum(left - self._c[i], 0.0), np.minimum(left, self._after[i])
            if i < u.shape[1] - 2:
                density, integral = self._tables[i]
                at = np.interp(later / self._step, np.arange(CELLS + 1), density)
                mass = _integral_at(density, integral, most / self._step)
                mass = mass - _integral_at(density, integral, least / self._step)
                logs += np.log(at) - np.log(mass)
            else:
                logs -= np.log(most - least)
            left = later
        return logs


def _integral_at(density: FloatArray, integral: FloatArray, place: FloatArray) -> FloatArray:
    """Integral of the piecewise linear density up to ``place`` (in cells), 0 before its start."""
    place = np.clip(place, 0.0, CELLS)
    cell = np.minimum(place.astype(np.int64), CELLS - 1)
    t = place - cell
    found: FloatArray = (
        integral[cell] + t * density[cell] + 0.5 * t * t * (density[cell + 1] - density[cell])
    )
    return found
