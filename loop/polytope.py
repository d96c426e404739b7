"""CompositionSet: which compositions are allowed, by bounds, groups, ratios and their number.

With the sum of 1 these are a convex polytope, and with "at most k elements" a union of its faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.composition import BoolArray, FloatArray
from loop.constraints import AtMost, Group, Ratio, foreign_element, parse_constraint
from loop.errors import InvalidInputError
from loop.formula import check_symbol

TOLERANCE = 1e-9  # of every constraint, in atomic fractions


class Rows(NamedTuple):
    """Linear constraints low <= matrix x <= high: (m, e), (m,), (m,), and their words."""

    matrix: FloatArray
    low: FloatArray
    high: FloatArray
    texts: tuple[str, ...]


@dataclass(frozen=True)
class CompositionSet:
    """Compositions over ``elements`` that meet every constraint; frozen, and never empty.

    ``bounds``: element -> (low, high) atomic fractions, [0, 1] where not given. ``groups``: linear
    bounds. ``ratios``: fixed ratios. ``at_most``: how many elements may be there, or None.
    Raises InvalidInputError for an unknown element (with the nearest), one named twice, bounds
    that contradict, and an empty set: then with a smallest set of constraints that exclude one
    another (each of them can be met without the others).
    """

    elements: tuple[str, ...]
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    at_most: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "elements", tuple(self.elements))
        object.__setattr__(self, "groups", tuple(self.groups))
        object.__setattr__(self, "ratios", tuple(self.ratios))
        bounds = {k: (float(v[0]), float(v[1])) for k, v in self.bounds.items()}
        object.__setattr__(self, "bounds", MappingProxyType(bounds))
        if not self.elements:
            raise InvalidInputError("a composition set has no elements; name at least one")
        for element in self.elements:
            check_symbol(element, "elements")
            if self.elements.count(element) > 1:
                raise InvalidInputError(f"element {element} is listed twice; name each once")
        named = [
            *bounds,
            *(e for group in self.groups for e in group.weights),
            *(e for ratio in self.ratios for e in (ratio.first, ratio.second)),
        ]
        for element in named:
            if element not in self.elements:
                raise InvalidInputError(foreign_element(element, self.elements))
        for element, (low, high) in bounds.items():
            if not low <= high:
                raise InvalidInputError(
                    f"bounds of {element} contradict: {element} >= {low:g} and "
                    f"{element} <= {high:g}"
                )
            if not (low <= 1 and high >= 0):
                raise InvalidInputError(
                    f"bounds of {element} are ({low:g}, {high:g}); an atomic fraction is in [0, 1]"
                )
        if self.at_most is not None:
            AtMost(self.at_most)
        conflict = self._conflict()
        if conflict:
            raise InvalidInputError(
                f"no composition of {', '.join(self.elements)} meets all constraints; these "
                f"exclude one another: {'; '.join(conflict)}; widen one of them"
            )

    @staticmethod
    def of(elements: Sequence[str], constraints: Iterable[str] = ()) -> CompositionSet:
        """A set from constraints in words, see ``constraints.parse_constraint``.

        Raises InvalidInputError besides where two bounds of one element exclude each other.
        """
        bounds: dict[str, tuple[float, float]] = {}
        words: dict[tuple[str, int], str] = {}
        groups, ratios, at_most = [], [], None
        for text in constraints:
            one = parse_constraint(text)
            if isinstance(one, AtMost):
                at_most = one.count if at_most is None else min(at_most, one.count)
            elif isinstance(one, Ratio):
                ratios.append(one)
            elif len(one.weights) == 1:
                ((element, weight),) = one.weights.items()
                ends = sorted((one.low / weight, one.high / weight))
                low, high = bounds.get(element, (0.0, 1.0))
                if ends[0] > low:
                    low, words[element, 0] = ends[0], text
                if ends[1] < high:
                    high, words[element, 1] = ends[1], text
                if low > high:
                    pair = dict.fromkeys((words.get((element, 0)), words.get((element, 1))))
                    told = " and ".join(repr(w) if w else "its range [0, 1]" for w in pair)
                    raise InvalidInputError(f"bounds of {element} contradict: {told}; change one")
                bounds[element] = (low, high)
            else:
                groups.append(one)
        return CompositionSet(tuple(elements), bounds, tuple(groups), tuple(ratios), at_most)

    def __hash__(self) -> int:
        kept = tuple(sorted(self.bounds.items()))
        return hash((self.elements, kept, self.groups, self.ratios, self.at_most))

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.groups, self.ratios, self.at_most)
        return CompositionSet, (self.elements, dict(self.bounds), *parts)

    @property
    def size(self) -> int:
        """How many elements e there are."""
        return len(self.elements)

    @cached_property
    def low(self) -> FloatArray:
        """Lower bounds, (e,), at least 0."""
        return np.array([max(self.bounds.get(e, (0.0, 1.0))[0], 0.0) for e in self.elements])

    @cached_property
    def high(self) -> FloatArray:
        """Upper bounds, (e,), at most 1."""
        return np.array([min(self.bounds.get(e, (0.0, 1.0))[1], 1.0) for e in self.elements])

    @cached_property
    def rows(self) -> Rows:
        """Groups and ratios; a ratio a : b = p : q is (q a - p b) / (p + q) = 0."""
        matrix = np.zeros((len(self.groups) + len(self.ratios), self.size))
        for row, group in zip(matrix, self.groups, strict=False):
            for element, weight in group.weights.items():
                row[self.elements.index(element)] = weight
        for row, ratio in zip(matrix[len(self.groups) :], self.ratios, strict=True):
            total = ratio.first_amount + ratio.second_amount
            row[self.elements.index(ratio.first)] = ratio.second_amount / total
            row[self.elements.index(ratio.second)] = -ratio.first_amount / total
        none = [0.0] * len(self.ratios)
        return Rows(
            matrix,
            np.array([*(g.low for g in self.groups), *none], dtype=np.float64),
            np.array([*(g.high for g in self.groups), *none], dtype=np.float64),
            (*(group.text for group in self.groups), *(ratio.text for ratio in self.ratios)),
        )

    @property
    def constraints(self) -> tuple[str, ...]:
        """All constraints in words, as ``of`` reads them."""
        return (*self.all_rows().texts, *([AtMost(self.at_most).text] if self.at_most else []))

    def all_rows(self) -> Rows:
        """Bounds that say something, groups and ratios."""
        single, lows, highs, texts = [], [], [], []
        for i, element in enumerate(self.elements):
            low, high = self.bounds.get(element, (0.0, 1.0))
            low, high = (-math.inf if low <= 0 else low), (math.inf if high >= 1 else high)
            if math.isfinite(low) or math.isfinite(high):
                single.append(np.eye(self.size)[i])
                lows.append(low)
                highs.append(high)
                texts.append(Group({element: 1.0}, low, high).text)
        rows = self.rows
        return Rows(
            np.concatenate([np.reshape(single, (-1, self.size)), rows.matrix]),
            np.concatenate([np.array(lows, dtype=np.float64), rows.low]),
            np.concatenate([np.array(highs, dtype=np.float64), rows.high]),
            (*texts, *rows.texts),
        )

    def _conflict(self) -> list[str]:
        """Words of an irreducible set of constraints that exclude one another; none when met.

        Deletion filter: what is not needed for the conflict is taken out, one by one (Chinneck &
        Dravnieks 1991, ORSA J. Comput. 3, 157).
        """
        rows = self.all_rows()
        kept = list(range(len(rows.texts)))
        most = self.at_most
        if feasible_point(rows, self.size, most) is not None:
            return []
        for i in list(kept):
            fewer = [j for j in kept if j != i]
            if feasible_point(_subset(rows, fewer), self.size, most) is None:
                kept = fewer
        if most is not None and feasible_point(_subset(rows, kept), self.size, None) is None:
            most = None
        words = [rows.texts[i] for i in kept]
        words += [AtMost(most).text] if most is not None else []
        # Bounds alone exclude each other only through the sum; a reader may not think of it.
        if feasible_point(_subset(rows, kept), self.size, most, total=False) is not None:
            words.append("the sum of 1")
        return words

    def is_feasible(self, x: ArrayLike, *, tolerance: float = TOLERANCE) -> BoolArray:
        """Whether compositions (..., e) meet every constraint and sum 1 within ``tolerance``."""
        x = self._checked(x)
        met = np.all((x >= self.low - tolerance) & (x <= self.high + tolerance), axis=-1)
        met &= np.abs(x.sum(axis=-1) - 1.0) <= tolerance
        rows = self.rows
        values = x @ rows.matrix.T
        met &= np.all((values >= rows.low - tolerance) & (values <= rows.high + tolerance), axis=-1)
        if self.at_most is not None:
            met &= (x != 0).sum(axis=-1) <= self.at_most
        return np.asarray(met, dtype=np.bool_)

    def violations(self, x: ArrayLike, *, tolerance: float = TOLERANCE) -> list[str]:
        """Constraints that one composition (e,) breaks, in words with the value that it has."""
        x = self._checked(x)
        if x.ndim != 1:
            raise InvalidInputError(f"composition has shape {x.shape}; expected ({self.size},)")
        found = []
        if not np.all(np.isfinite(x)):
            return ["a value is not finite"]
        if abs(x.sum() - 1.0) > tolerance:
            found.append(f"the sum is {x.sum():.9g}, expected 1")
        rows = self.all_rows()
        ratios = {ratio.text: (ratio.first, ratio.second) for ratio in self.ratios}
        for value, low, high, text in zip(
            rows.matrix @ x, rows.low, rows.high, rows.texts, strict=True
        ):
            if low - tolerance <= value <= high + tolerance:
                continue
            if text in ratios:
                a, b = (x[self.elements.index(e)] for e in ratios[text])
                found.append(f"{text} (they are {a:.6g} and {b:.6g})")
            else:
                found.append(f"{text} (it is {value:.6g})")
        found += [
            f"{element} is {value:.6g}, an atomic fraction is in [0, 1]"
            for element, value in zip(self.elements, x, strict=True)
            if not -tolerance <= value <= 1 + tolerance
        ]
        there = int(np.count_nonzero(x))
        if self.at_most is not None and there > self.at_most:
            found.append(f"{AtMost(self.at_most).text} (there are {there})")
        return found

    def _checked(self, x: ArrayLike) -> FloatArray:
        x = np.asarray(x, dtype=np.float64)
        if x.ndim == 0 or x.shape[-1] != self.size:
            raise InvalidInputError(
                f"compositions have shape {x.shape}; expected (..., {self.size}), one per element"
            )
        return x

    def on_support(self, support: Sequence[int] | NDArray[np.int64]) -> CompositionSet:
        """The set on some elements only, the others absent; it may be empty.

        Raises InvalidInputError where a bound or group needs an element that is to be absent.
        """
        kept = [self.elements[i] for i in support]
        groups = []
        for group in self.groups:
            weights = {k: v for k, v in group.weights.items() if k in kept}
            if weights:
                groups.append(Group(weights, group.low, group.high))
            elif not group.low <= 0 <= group.high:
                raise InvalidInputError(f"without its elements {group.text} cannot be met")
        bounds = {k: v for k, v in self.bounds.items() if k in kept}
        for element, (low, _) in self.bounds.items():
            if element not in kept and low > 0:
                raise InvalidInputError(f"{element} >= {low:g} needs {element}")
        ratios = []
        for ratio in self.ratios:
            there = [ratio.first in kept, ratio.second in kept]
            if all(there):
                ratios.append(ratio)
            elif any(there):
                one = ratio.first if there[0] else ratio.second
                bounds[one] = (bounds.get(one, (0.0, 1.0))[0], 0.0)
        # All parts are valid already, and a search over supports asks for very many of these.
        part = object.__new__(CompositionSet)
        for name, value in (
            ("elements", tuple(kept)),
            ("bounds", MappingProxyType(bounds)),
            ("groups", tuple(groups)),
            ("ratios", tuple(ratios)),
            ("at_most", None),
        ):
            object.__setattr__(part, name, value)
        return part


def _subset(rows: Rows, kept: Sequence[int]) -> Rows:
    texts = tuple(rows.texts[i] for i in kept)
    at = list(kept)
    return Rows(rows.matrix[at], rows.low[at], rows.high[at], texts)


def feasible_point(
    rows: Rows,
    e: int,
    at_most: int | None = None,
    *,
    objective: FloatArray | None = None,
    total: bool = True,
) -> FloatArray | None:
    """A composition (e,) that meets rows, the sum of 1, [0, 1] and a number of elements; or None.

    A linear programme, mixed-integer where ``at_most`` is given (HiGHS through scipy), that
    minimises ``objective`` (e,) x. ``total``: False leaves the sum of 1 out.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    cost = np.zeros(e) if objective is None else objective
    sparse = at_most is not None and at_most < e
    width = 2 * e if sparse else e
    low = np.concatenate([[1.0 if total else 0.0], rows.low])
    high = np.concatenate([[1.0 if total else np.inf], rows.high])
    matrix = np.zeros((1 + len(rows.low), width))
    matrix[:, :e] = np.concatenate([np.ones((1, e)), rows.matrix])
    given = [LinearConstraint(matrix, low, high)]
    integrality = np.zeros(width, dtype=np.int64)
    if sparse:
        assert at_most is not None
        # x_i <= z_i, z_i 0 or 1, and at most so many of them 1
        linked = np.concatenate([np.eye(e), -np.eye(e)], axis=1)
        given.append(LinearConstraint(linked, -np.inf, 0.0))
        counted = np.concatenate([np.zeros(e), np.ones(e)])[None]
        given.append(LinearConstraint(counted, 0.0, float(at_most)))
        integrality[e:] = 1
        cost = np.concatenate([cost, np.zeros(e)])
    found = milp(cost, constraints=given, bounds=Bounds(0.0, 1.0), integrality=integrality)
    if found.x is None:
        return None
    return np.asarray(found.x[:e], dtype=np.float64)
