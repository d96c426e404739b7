"""Regular and sub-regular solutions: Gibbs energy, chemical potentials, second derivatives.

    G(x, T) = sum x_i g_i + R T sum x_i ln x_i + sum_{i<j} x_i x_j sum_v L^v_ij (x_i - x_j)^v

in J per mole of atoms, with g_i = a + b T and L^v_ij = a + b T. One L^0 per pair is the regular
solution, L^0 and L^1 the sub-regular one. Everything is analytic in the composition.

Sources: O. Redlich and A. T. Kister, Ind. Eng. Chem. 40, 345 (1948); M. Hillert, Phase Equilibria,
Phase Diagrams and Phase Transformations, 2nd ed. 2007, chapters 7 and 20.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from torch import Tensor

from loop.errors import InvalidInputError, unknown_name

FloatArray = NDArray[np.float64]
Array = TypeVar("Array", NDArray[np.float64], Tensor)
Pair = tuple[int, int]
Linear = tuple[float, float]  # (a, b) of a + b T

GAS_CONSTANT = 8.31446261815324  # J/(mol K), exact since 2019
SUM_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Solution:
    """A phase in which c elements mix on one lattice.

    ``elements``: c >= 2 symbols. ``interactions``: (A, B) -> ((a, b), ...), one pair of numbers
    per power v, L^v = a + b T in J/mol, of (x_A - x_B)^v; a pair that is left out mixes ideally.
    ``references``: element -> (a, b) of its g in this phase, 0 where left out; needed only where
    several phases compete. ``source``: where the numbers come from.
    Raises InvalidInputError for unknown or repeated names and numbers that are not finite.
    """

    elements: tuple[str, ...]
    interactions: Mapping[tuple[str, str], Sequence[Linear]]
    references: Mapping[str, Linear] = field(default_factory=dict)
    name: str = "solution"
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.elements) < 2 or len(set(self.elements)) < len(self.elements):
            raise InvalidInputError(
                f"solution {self.name!r} has elements {', '.join(self.elements) or 'none'}; "
                "expected at least two, each once"
            )
        seen: set[frozenset[str]] = set()
        for pair, terms in self.interactions.items():
            self._known(pair)
            if len(set(pair)) != 2 or frozenset(pair) in seen:
                raise InvalidInputError(
                    f"interaction {'-'.join(pair)} is given twice or has one element only; give "
                    "each pair of two elements once"
                )
            seen.add(frozenset(pair))
            for term in terms:
                _finite_pair(f"interaction {'-'.join(pair)}", term)
        self._known(tuple(self.references))
        for element, term in self.references.items():
            _finite_pair(f"reference of {element}", term)
        terms_of = {pair: tuple(terms) for pair, terms in self.interactions.items()}
        object.__setattr__(self, "interactions", MappingProxyType(terms_of))
        object.__setattr__(self, "references", MappingProxyType(dict(self.references)))

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.elements:
                raise InvalidInputError(
                    f"solution {self.name!r}: " + unknown_name("element", name, self.elements)
                )

    def subset(self, elements: Sequence[str]) -> Solution:
        """The same phase with some of its elements only, in the given order."""
        self._known(elements)
        kept = set(elements)
        return Solution(
            tuple(elements),
            {pair: terms for pair, terms in self.interactions.items() if kept >= set(pair)},
            {name: term for name, term in self.references.items() if name in kept},
            self.name,
            self.source,
        )

    def pair_terms(self) -> dict[Pair, tuple[Linear, ...]]:
        """(i, j) -> ((a, b), ...) with the places of the elements in place of their names."""
        place = self.elements.index
        return {(place(a), place(b)): tuple(t) for (a, b), t in self.interactions.items()}

    def reference_terms(self) -> FloatArray:
        """(c, 2) a and b of the elements' g."""
        return np.array([self.references.get(e, (0.0, 0.0)) for e in self.elements])

    def gibbs_energy(self, x: ArrayLike, temperature_K: ArrayLike) -> FloatArray:
        """(..., c) atomic fractions -> (...) J/mol; an absent element is allowed.

        Raises InvalidInputError for fractions that are no composition or temperatures <= 0.
        """
        x, t = self.checked(x, temperature_K)
        parts, terms, reference = self._numpy(x, t)
        ideal = GAS_CONSTANT * t * xlogy(x, x).sum(-1)
        result: FloatArray = (x * reference).sum(-1) + ideal + excess(parts, terms)
        return result

    def chemical_potentials(self, x: ArrayLike, temperature_K: ArrayLike) -> FloatArray:
        """(..., c) -> (..., c) J/mol, mu_i = G + dG/dx_i - sum x_j dG/dx_j; -inf where x_i = 0."""
        x, t = self.checked(x, temperature_K)
        parts, terms, reference = self._numpy(x, t)
        slope = np.stack(excess_gradient(parts, terms), axis=-1)
        with np.errstate(divide="ignore"):
            ideal = GAS_CONSTANT * t[..., None] * np.log(x)
        mixed = excess(parts, terms) - (x * slope).sum(-1)
        result: FloatArray = reference + ideal + slope + mixed[..., None]
        return result

    def curvature(self, x: ArrayLike, temperature_K: ArrayLike) -> FloatArray:
        """(..., c) -> (..., c - 1, c - 1) J/mol, d2G / dx_k dx_l with the first element the rest.

        Not positive definite: the solution is unstable against small fluctuations (inside the
        spinodal). Infinite where a fraction is 0.
        """
        x, t = self.checked(x, temperature_K)
        parts, terms, _ = self._numpy(x, t)
        h = excess_hessian(parts, terms)
        full = np.stack([np.stack(row, axis=-1) for row in h], axis=-2)
        with np.errstate(divide="ignore"):
            ideal = GAS_CONSTANT * t[..., None] / x
        places = np.arange(x.shape[-1])
        full[..., places, places] += ideal
        rest = full[..., 1:, 1:] - full[..., 1:, :1] - full[..., :1, 1:] + full[..., :1, :1]
        result: FloatArray = rest
        return result

    def checked(self, x: ArrayLike, temperature_K: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Compositions (..., c) and temperatures (...) as arrays, or InvalidInputError."""
        fractions = np.asarray(x, dtype=np.float64)
        t = np.asarray(temperature_K, dtype=np.float64)
        c = len(self.elements)
        if fractions.ndim < 1 or fractions.shape[-1] != c:
            raise InvalidInputError(
                f"compositions have shape {fractions.shape}; expected (..., {c}) for "
                f"{', '.join(self.elements)}"
            )
        if not np.all(fractions >= 0) or np.any(np.abs(fractions.sum(-1) - 1) > SUM_TOLERANCE):
            raise InvalidInputError(
                "a composition has a fraction below 0 or does not sum to 1; normalise it first"
            )
        if not np.all(np.isfinite(t) & (t > 0)):
            raise InvalidInputError(
                f"temperature {float(t.flat[np.argmin(t)]):g} K; expected finite values > 0"
            )
        try:
            shape = np.broadcast_shapes(fractions.shape[:-1], t.shape)
        except ValueError:
            raise InvalidInputError(
                f"temperatures have shape {t.shape}, compositions {fractions.shape}; expected "
                "(...) and (..., c)"
            ) from None
        return np.broadcast_to(fractions, (*shape, c)), np.broadcast_to(t, shape)

    def _numpy(
        self, x: FloatArray, t: FloatArray
    ) -> tuple[list[FloatArray], dict[Pair, list[FloatArray]], FloatArray]:
        """Fractions element by element, interactions at t, references (..., c) at t."""
        parts = [x[..., i] for i in range(x.shape[-1])]
        terms = {pair: [a + b * t for a, b in own] for pair, own in self.pair_terms().items()}
        g = self.reference_terms()
        return parts, terms, g[:, 0] + g[:, 1] * t[..., None]


def _finite_pair(what: str, term: Sequence[float]) -> None:
    if len(term) != 2 or not all(math.isfinite(value) for value in term):
        raise InvalidInputError(
            f"{what} is {tuple(term)}; expected finite (a, b) of a + b T in J/mol and J/(mol K)"
        )


def _horner(u: Array, terms: Sequence[Array]) -> tuple[Array, Array, Array]:
    """P = sum_v L^v u^v and its first and second derivative."""
    p, d, dd = 0 * u, 0 * u, 0 * u
    for term in reversed(terms):
        dd = dd * u + 2 * d
        d = d * u + p
        p = p * u + term
    return p, d, dd


def excess(x: Sequence[Array], terms: Mapping[Pair, Sequence[Array]]) -> Array:
    """Excess energy from the c fractions, arrays or tensors of one shape, any shape.

    ``terms``: (i, j) -> L^0, L^1, ... that broadcast to the fractions.
    """
    total = 0 * x[0]
    for (i, j), own in terms.items():
        total = total + x[i] * x[j] * _horner(x[i] - x[j], own)[0]
    return total


def excess_gradient(x: Sequence[Array], terms: Mapping[Pair, Sequence[Array]]) -> list[Array]:
    """Derivatives of the excess energy by each of the c fractions, taken as independent."""
    slope = [0 * part for part in x]
    for (i, j), own in terms.items():
        p, d, _ = _horner(x[i] - x[j], own)
        product = x[i] * x[j] * d
        slope[i] = slope[i] + x[j] * p + product
        slope[j] = slope[j] + x[i] * p - product
    return slope


def excess_hessian(x: Sequence[Array], terms: Mapping[Pair, Sequence[Array]]) -> list[list[Array]]:
    """Second derivatives, c rows of c, by the fractions taken as independent."""
    h = [[0 * part for part in x] for _ in x]
    for (i, j), own in terms.items():
        p, d, dd = _horner(x[i] - x[j], own)
        product = x[i] * x[j] * dd
        cross = p + (x[i] - x[j]) * d - product
        h[i][i] = h[i][i] + 2 * x[j] * d + product
        h[j][j] = h[j][j] - 2 * x[i] * d + product
        h[i][j] = h[i][j] + cross
        h[j][i] = h[j][i] + cross
    return h
