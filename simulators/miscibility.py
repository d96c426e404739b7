"""Binary solutions: spinodal, consolute point, miscibility gap and common tangents.

The second element's fraction is x. Within an interval where G is convex, the slope m = dG/dx
is a monotone coordinate, and the potential of the first element, omega(m) = G - m x, falls with
slope -x. Two compositions share a tangent where their omegas meet at one m, so a common tangent
is the root of one function of one variable, and the stable ones lie on the least omega. Fractions
are carried as ln(x / (1 - x)), so that solubilities of 1e-30 are as safe as those of one half.

Source: M. Hillert, Phase Equilibria, Phase Diagrams and Phase Transformations, 2nd ed. 2007,
chapter 4 (tangents and potentials) and section 7.5 (spinodal).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from loop.errors import InvalidInputError
from simulators.solution import GAS_CONSTANT, Solution

FloatArray = NDArray[np.float64]

FURTHEST = 700.0  # ln(x / (1 - x)) of the last composition looked at: x = 1e-304
SAMPLES = 1500  # of a branch, to see how often two of them cross


def excess_polynomials(solution: Solution) -> tuple[Polynomial, Polynomial]:
    """A and B of a binary's excess energy A(x) + T B(x), x the fraction of the second element.

    Raises InvalidInputError for a solution that is not binary.
    """
    if len(solution.elements) != 2:
        raise InvalidInputError(
            f"solution {solution.name!r} has elements {', '.join(solution.elements)}; this needs "
            "two, take a subset"
        )
    a, b = Polynomial([0.0]), Polynomial([0.0])
    for (i, _), terms in solution.pair_terms().items():
        difference = Polynomial([1.0, -2.0]) if i == 0 else Polynomial([-1.0, 2.0])
        for v, (constant, slope) in enumerate(terms):
            a += constant * difference**v
            b += slope * difference**v
    mixing = Polynomial([0.0, 1.0, -1.0])
    return mixing * a, mixing * b


def spinodal(solution: Solution, temperature_K: float) -> FloatArray:
    """Unstable intervals of a binary, (m, 2): where d2G/dx2 < 0, x of the second element.

    x (1 - x) d2G/dx2 = R T + x (1 - x) Gex''(x) is a polynomial; the ends are its roots.
    """
    a, b = excess_polynomials(solution)
    solution.checked([1.0, 0.0], temperature_K)
    energy = a + temperature_K * b
    stability = GAS_CONSTANT * temperature_K + Polynomial([0, 1, -1]) * energy.deriv(2)
    inside = [x for x in real_roots(stability) if 0 < x < 1]
    edges = np.array([0.0, *inside, 1.0])
    signs = stability((edges[:-1] + edges[1:]) / 2)
    intervals: list[list[float]] = []
    for low, high, sign in zip(edges[:-1], edges[1:], signs, strict=True):
        if sign >= 0:
            continue
        if intervals and intervals[-1][1] == low:  # a root that only touches zero
            intervals[-1][1] = float(high)
        else:
            intervals.append([float(low), float(high)])
    return np.array(intervals, dtype=np.float64).reshape(-1, 2)


def consolute_point(solution: Solution) -> tuple[float, float]:
    """Highest temperature, K, at which a binary is unstable anywhere, and the composition there.

    (0, nan) when it never is; (inf, nan) when heating only makes it worse.
    """
    a, b = excess_polynomials(solution)
    mixing = Polynomial([0.0, 1.0, -1.0])
    above = -mixing * a.deriv(2)
    below = GAS_CONSTANT + mixing * b.deriv(2)
    x = np.linspace(0, 1, 1001)
    if np.any(below(x) <= 0):
        return math.inf, math.nan
    # T(x) = above / below on the spinodal: its greatest value is where the derivative vanishes.
    stationary = real_roots(above.deriv() * below - above * below.deriv())
    found = [(float(above(x) / below(x)), x) for x in stationary if 0 < x < 1]
    best = max(found, default=(0.0, math.nan))
    return best if best[0] > 0 else (0.0, math.nan)


def real_roots(polynomial: Polynomial) -> list[float]:
    """Real roots in ascending order, nearly double ones included, each polished by Newton."""
    trimmed = polynomial.trim(1e-14 * float(np.abs(polynomial.coef).max()))
    if trimmed.degree() < 1:
        return []
    derivative = polynomial.deriv()
    found = []
    for root in trimmed.roots():
        if abs(root.imag) > 1e-6:
            continue
        x = float(root.real)
        for _ in range(3):
            slope = float(derivative(x))
            step = float(polynomial(x)) / slope if slope else 0.0
            if abs(step) > 1e-6:
                break
            x -= step
        found.append(x)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class TieLine:
    """Two compositions in equilibrium: fractions of the second element, ascending.

    ``phases``: places of the two phases in the list given. ``potentials``: J/mol of the elements.
    """

    compositions: tuple[float, float]
    phases: tuple[int, int]
    potentials: tuple[float, float]


class _Branch:
    """An interval of ln(x / (1 - x)) on which one phase's G is convex."""

    def __init__(
        self, phase: int, solution: Solution, temperature: float, low: float, high: float
    ) -> None:
        a, b = excess_polynomials(solution)
        self.phase, self.low, self.high = phase, low, high
        self.rt = GAS_CONSTANT * temperature
        self.excess = a + temperature * b
        self.excess_slope = self.excess.deriv()
        reference = solution.reference_terms() @ [1.0, temperature]
        self.base, self.step = float(reference[0]), float(reference[1] - reference[0])

    def slope(self, u: FloatArray | float) -> FloatArray:
        """dG/dx at u = ln(x / (1 - x)); rises with u."""
        result: FloatArray = np.asarray(self.step + self.rt * u + self.excess_slope(expit(u)))
        return result

    def omega(self, u: FloatArray | float) -> FloatArray:
        """Chemical potential of the first element, which is G - x dG/dx."""
        x = expit(u)
        result: FloatArray = np.asarray(
            self.base - self.rt * np.logaddexp(0, u) + self.excess(x) - x * self.excess_slope(x)
        )
        return result

    def at_slope(self, m: float) -> float:
        """u where dG/dx = m; the nearer end of the branch where m is outside it."""
        if m <= self.slope(self.low):
            return self.low
        if m >= self.slope(self.high):
            return self.high
        root = brentq(lambda u: float(self.slope(u)) - m, self.low, self.high, xtol=1e-13)
        return float(root)

    def covers(self, m: float) -> bool:
        return bool(self.slope(self.low) <= m <= self.slope(self.high))


def _branches(phase: int, solution: Solution, temperature: float) -> Iterator[_Branch]:
    low = -FURTHEST
    for start, end in spinodal(solution, temperature):
        yield _Branch(phase, solution, temperature, low, float(logit(start)))
        low = float(logit(end))
    yield _Branch(phase, solution, temperature, low, FURTHEST)


def common_tangents(solutions: Sequence[Solution], temperature_K: float) -> list[TieLine]:
    """Stable two-phase equilibria among binary phases of the same two elements, from x = 0 up.

    Raises InvalidInputError for phases that are not binary or differ in their elements or their
    order, and for a temperature that is not > 0.
    """
    if len({s.elements for s in solutions}) != 1:
        given = "; ".join(", ".join(s.elements) for s in solutions) or "none"
        raise InvalidInputError(
            f"common_tangents got phases with elements {given}; expected one or more with the "
            "same two elements in the same order"
        )
    branches = [
        branch
        for phase, solution in enumerate(solutions)
        for branch in _branches(phase, solution, temperature_K)
    ]
    found = []
    for a, b in combinations_with_replacement(branches, 2):
        if a is b:
            continue
        for m in _crossings(a, b):
            least = min(float(c.omega(c.at_slope(m))) for c in branches if c.covers(m))
            u, v = sorted((a.at_slope(m), b.at_slope(m)))
            first = a if a.at_slope(m) <= b.at_slope(m) else b
            potential = float(first.omega(u))
            # Rounding of omega: a few units in the last place of its largest term.
            if potential > least + 1e-11 * (abs(m) + abs(potential) + a.rt) or v - u < 1e-12:
                continue
            found.append(
                TieLine(
                    (float(expit(u)), float(expit(v))),
                    (first.phase, (b if first is a else a).phase),
                    (potential, potential + m),
                )
            )
    return sorted(found, key=lambda line: line.compositions)


def _crossings(a: _Branch, b: _Branch) -> Iterator[float]:
    """Slopes at which the omegas of two branches meet."""
    low = max(float(a.slope(a.low)), float(b.slope(b.low)))
    high = min(float(a.slope(a.high)), float(b.slope(b.high)))
    if low >= high:
        return

    def difference(m: float) -> float:
        return float(a.omega(a.at_slope(m))) - float(b.omega(b.at_slope(m)))

    # Where the branches bend: evenly in ln(x / (1 - x)), dense where fractions are not tiny.
    places = np.concatenate(
        [c.slope(np.clip(np.sinh(np.linspace(-7.3, 7.3, SAMPLES)), c.low, c.high)) for c in (a, b)]
    )
    slopes = np.unique(np.concatenate(([low, high], places[(places > low) & (places < high)])))
    values = _omegas(a, slopes) - _omegas(b, slopes)
    values[[0, -1]] = difference(low), difference(high)
    for i in np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0):
        left, right = float(slopes[i]), float(slopes[i + 1])
        if difference(left) * difference(right) < 0:
            yield float(brentq(difference, left, right, xtol=1e-13, rtol=4 * np.finfo(float).eps))


def _omegas(branch: _Branch, slopes: FloatArray) -> FloatArray:
    """omega at many slopes, each found by bisection."""
    low = np.full_like(slopes, branch.low)
    high = np.full_like(slopes, branch.high)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = branch.slope(middle) < slopes
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return branch.omega(0.5 * (low + high))


def binodal(solution: Solution, temperature_K: float) -> FloatArray:
    """Miscibility gaps of a binary, (m, 2): compositions in equilibrium, (0, 2) where it mixes."""
    lines = common_tangents([solution], temperature_K)
    return np.array([line.compositions for line in lines], dtype=np.float64).reshape(-1, 2)
