"""Constraints on a composition, as values and as text: ``Ni + Co >= 0.5``, ``Ni:Al = 3:1``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from loop.errors import InvalidInputError, unknown_name
from loop.formula import SYMBOLS, check_symbol
from loop.formula_rules import check_decimal_points

FORMS = "'Al <= 0.3', '0.5 <= Ni + Co <= 0.8', 'Ni:Al = 3:1' or 'at most 5 elements'"

_NUMBER = r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
_AMOUNT = re.compile(rf"(-?(?:{_NUMBER}))\s*(%|at\.?\s*%)?")
_TERM = re.compile(rf"([+-]?)\s*(?:({_NUMBER})\s*\*?\s*)?([A-Za-z]+)\s*")
_RATIO = re.compile(rf"([A-Za-z]+)\s*:\s*([A-Za-z]+)\s*=\s*({_NUMBER})\s*:\s*({_NUMBER})")
_AT_MOST = re.compile(r"at\s+most\s+(\d+)\s+elements?", re.IGNORECASE)
_COMPARISON = re.compile(r"(<=|>=|==|=|<|>|≤|≥)")
_WORDS = {"≤": "<=", "≥": ">=", "==": "="}


@dataclass(frozen=True, slots=True)
class Group:
    """low <= sum of weight times atomic fraction <= high; either side may be infinite.

    Raises InvalidInputError for an unknown element, a weight that is 0 or not finite, no element,
    and low > high.
    """

    weights: Mapping[str, float]
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        weights = {str(k): float(v) for k, v in self.weights.items()}
        if not weights:
            raise InvalidInputError("a group has no elements; name at least one, as in Ni + Co")
        for element, weight in weights.items():
            check_symbol(element, "constraint")
            if not math.isfinite(weight) or weight == 0:
                raise InvalidInputError(
                    f"constraint: the weight of {element} is {weight:g}; expected a number that "
                    "is not 0"
                )
        object.__setattr__(self, "weights", MappingProxyType(weights))
        if math.isnan(self.low) or math.isnan(self.high) or not self.low <= self.high:
            raise InvalidInputError(
                f"constraint {self.text!r} has bounds that contradict: {self.low:g} is above "
                f"{self.high:g}"
            )
        if math.isinf(self.low) and math.isinf(self.high):
            raise InvalidInputError(f"constraint on {self._sum()} has no bound; give low or high")

    def __hash__(self) -> int:
        return hash((tuple(self.weights.items()), self.low, self.high))

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, (dict(self.weights), self.low, self.high)

    def _sum(self) -> str:
        parts = []
        for element, weight in self.weights.items():
            sign = "-" if weight < 0 else "+"
            amount = "" if abs(weight) == 1 else f"{_short(abs(weight))} "
            parts.append(f"{sign} {amount}{element}")
        text = " ".join(parts)
        return text[2:] if text.startswith("+") else f"-{text[2:]}"

    @property
    def text(self) -> str:
        """As it is written: ``0.5 <= Ni + Co <= 0.8``."""
        low, high = _short(self.low), _short(self.high)
        if self.low == self.high:
            return f"{self._sum()} = {low}"
        if math.isinf(self.low):
            return f"{self._sum()} <= {high}"
        if math.isinf(self.high):
            return f"{self._sum()} >= {low}"
        return f"{low} <= {self._sum()} <= {high}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Atomic fractions of two elements as first_amount : second_amount; both absent is allowed.

    Raises InvalidInputError for an unknown element, one element twice, and amounts not above 0.
    """

    first: str
    second: str
    first_amount: float
    second_amount: float

    def __post_init__(self) -> None:
        check_symbol(self.first, "ratio")
        check_symbol(self.second, "ratio")
        if self.first == self.second:
            raise InvalidInputError(f"ratio of {self.first} to itself; name two elements")
        for amount in (self.first_amount, self.second_amount):
            if not 0 < amount < math.inf:
                raise InvalidInputError(
                    f"ratio {self.text!r} has the amount {amount:g}; expected finite amounts "
                    "above 0 (an element that is to be absent has the bound 0)"
                )

    @property
    def text(self) -> str:
        """As it is written: ``Ni:Al = 3:1``."""
        a, b = _short(self.first_amount), _short(self.second_amount)
        return f"{self.first}:{self.second} = {a}:{b}"


@dataclass(frozen=True, slots=True)
class AtMost:
    """At most ``count`` elements are there; the others are exactly 0."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidInputError(f"at most {self.count} elements; expected at least 1")

    @property
    def text(self) -> str:
        """As it is written: ``at most 5 elements``."""
        return f"at most {self.count} element{'s' if self.count != 1 else ''}"


Constraint = Group | Ratio | AtMost


def _short(value: float) -> str:
    return repr(float(value)).removesuffix(".0") if math.isfinite(value) else f"{value:g}"


def parse_constraint(text: str) -> Constraint:
    """A constraint from its text; numbers are atomic fractions, or atomic percent with ``%``.

    Raises InvalidInputError, naming the text, for anything that cannot be read, an unknown
    element (with the nearest), a decimal comma and percent by weight.
    """
    check_decimal_points("constraint", text)
    plain = " ".join(text.split())
    if re.search(r"(wt|w|mass)\.?\s*%|\b(wt|mass)\b", plain, re.IGNORECASE):
        raise InvalidInputError(
            f"constraint {text!r} is by weight; constraints are on atomic fractions, convert it"
        )
    if match := _AT_MOST.fullmatch(plain):
        return AtMost(int(match[1]))
    if match := _RATIO.fullmatch(plain):
        return Ratio(match[1], match[2], float(match[3]), float(match[4]))
    sides = [part.strip() for part in _COMPARISON.split(plain)]
    signs = [_WORDS.get(sign, sign) for sign in sides[1::2]]
    for sign in signs:
        if sign in ("<", ">"):
            raise InvalidInputError(
                f"constraint {text!r} has {sign!r}; write {sign}=, which can be kept exactly"
            )
    if len(sides) == 3:
        left, right = sides[0], sides[2]
        if _AMOUNT.fullmatch(left) and not _AMOUNT.fullmatch(right):
            left, right = right, left
            signs = [{"<=": ">=", ">=": "<=", "=": "="}[signs[0]]]
        weights, value = _sum_of(text, left), _amount_of(text, right)
        low = value if signs[0] in (">=", "=") else -math.inf
        high = value if signs[0] in ("<=", "=") else math.inf
        return Group(weights, low, high)
    if len(sides) == 5 and signs[0] == signs[1] and signs[0] != "=":
        ends = [_amount_of(text, sides[0]), _amount_of(text, sides[4])]
        low, high = ends if signs[0] == "<=" else ends[::-1]
        return Group(_sum_of(text, sides[2]), low, high)
    raise InvalidInputError(f"constraint {text!r} cannot be read; expected such as {FORMS}")


def foreign_element(element: str, elements: Sequence[str]) -> str:
    """Message for a constraint on an element that is not among ``elements``."""
    if element not in SYMBOLS:
        return "constraint: " + unknown_name("element", element, elements)
    return (
        f"constraint on {element}: no composition here has {element}, only {', '.join(elements)} "
        "(the elements of the ends, or of the campaign); leave it out, or add the element"
    )


def sum_conflict(
    elements: Sequence[str], low: Sequence[float], high: Sequence[float], *, tolerance: float = 0.0
) -> str | None:
    """Why bounds (e,) of atomic fractions allow no sum of 1, naming the elements; None if they do.

    ``tolerance``: by which the sum of bounds may miss 1.
    """

    def listed(ends: Sequence[float], *, all_of_them: bool) -> str:
        pairs = [(e, x) for e, x in zip(elements, ends, strict=True) if all_of_them or x > 0]
        return ", ".join(f"{element} {x:g}" for element, x in pairs)

    if (least := sum(low)) > 1 + tolerance:
        named = listed(low, all_of_them=False)
        return f"lower bounds sum to {least:g} ({named}); expected at most 1: lower one of them"
    if (most := sum(high)) < 1 - tolerance:
        named = listed(high, all_of_them=True)
        return f"upper bounds sum to {most:g} ({named}); expected at least 1: raise one of them"
    return None


def _amount_of(text: str, part: str) -> float:
    match = _AMOUNT.fullmatch(part)
    if match is None:
        raise InvalidInputError(
            f"constraint {text!r}: {part!r} is no amount; expected an atomic fraction, as "
            f"in {FORMS}"
        )
    value = float(match[1]) / (100.0 if match[2] else 1.0)
    if not math.isfinite(value):
        raise InvalidInputError(f"constraint {text!r}: {part} is not finite")
    return value


def _sum_of(text: str, part: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    place = 0
    while place < len(part):
        match = _TERM.match(part, place)
        if match is None or (place > 0 and not match[1]):
            raise InvalidInputError(
                f"constraint {text!r} cannot be read at {part[place:]!r}; expected such as {FORMS}"
            )
        check_symbol(match[3], f"constraint {text!r}")
        if match[3] in weights:
            raise InvalidInputError(
                f"constraint {text!r} names {match[3]} twice; add its weights up"
            )
        weights[match[3]] = float(match[2] or 1.0) * (-1.0 if match[1] == "-" else 1.0)
        place = match.end()
    if not weights:
        raise InvalidInputError(f"constraint {text!r} names no element; expected such as {FORMS}")
    return weights
