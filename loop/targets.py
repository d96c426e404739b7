"""Property targets: a value with tolerance, a range, maximise, minimise; several at once.

The distance of a value to a target is 0 where the target is met and otherwise counts in
units of the target's own scale (tolerance, half-width, or stated scale), so that distances of
different properties may be compared and added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.errors import InvalidCampaignError, unknown_name

FloatArray = NDArray[np.float64]


def _finite(property_: str, **numbers: float) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise InvalidCampaignError(
                f"target {property_}: {name} is {value}; expected a finite number"
            )


@dataclass(frozen=True, slots=True)
class Value:
    """The property shall be ``value`` within ``tolerance`` (absolute, in the property's unit)."""

    name: str
    value: float
    tolerance: float

    def __post_init__(self) -> None:
        _finite(self.name, value=self.value, tolerance=self.tolerance)
        if self.tolerance <= 0:
            raise InvalidCampaignError(
                f"target {self.name}: tolerance is {self.tolerance:g}; expected > 0"
            )

    @property
    def low(self) -> float:
        return self.value - self.tolerance

    @property
    def high(self) -> float:
        return self.value + self.tolerance

    @property
    def scale(self) -> float:
        return self.tolerance


@dataclass(frozen=True, slots=True)
class Range:
    """The property shall lie in [low, high]."""

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        _finite(self.name, low=self.low, high=self.high)
        if not self.low < self.high:
            raise InvalidCampaignError(
                f"target {self.name}: range ({self.low:g}, {self.high:g}); "
                "expected low < high (swap them?)"
            )

    @property
    def scale(self) -> float:
        return 0.5 * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Maximise:
    """The larger the better; ``at_least`` (optional) makes it part of what a hit must meet."""

    name: str
    at_least: float | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_objective(self.name, self.at_least, self.scale)

    @property
    def low(self) -> float:
        return -math.inf if self.at_least is None else self.at_least

    @property
    def high(self) -> float:
        return math.inf


@dataclass(frozen=True, slots=True)
class Minimise:
    """The smaller the better; ``at_most`` (optional) makes it part of what a hit must meet."""

    name: str
    at_most: float | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_objective(self.name, self.at_most, self.scale)

    @property
    def low(self) -> float:
        return -math.inf

    @property
    def high(self) -> float:
        return math.inf if self.at_most is None else self.at_most


def _check_objective(property_: str, threshold: float | None, scale: float) -> None:
    _finite(property_, scale=scale, **({} if threshold is None else {"threshold": threshold}))
    if scale <= 0:
        raise InvalidCampaignError(f"target {property_}: scale is {scale:g}; expected > 0")


Target = Value | Range | Maximise | Minimise

_KEYS: Mapping[str, tuple[type[Any], tuple[str, ...], tuple[str, ...]]] = {
    "value": (Value, ("value", "tolerance"), ()),
    "range": (Range, ("low", "high"), ()),
    "maximise": (Maximise, (), ("at_least", "scale")),
    "minimise": (Minimise, (), ("at_most", "scale")),
}


def parse_target(property_: str, table: Mapping[str, Any]) -> Target:
    """One ``[targets.PROPERTY]`` table of a campaign file.

    ``{value = 14.0, tolerance = 0.1}``, ``{range = [8.0, 8.2]}``, ``{maximise = true,
    at_least = 200}`` or ``{minimise = true, at_most = 8.2}``.
    Raises InvalidCampaignError for anything else.
    """
    kinds = [kind for kind in _KEYS if kind in table]
    if len(kinds) != 1:
        raise InvalidCampaignError(
            f"target {property_}: got keys {', '.join(sorted(table)) or 'none'}; expected exactly "
            "one of value (with tolerance), range, maximise, minimise"
        )
    kind = kinds[0]
    cls, required, optional = _KEYS[kind]
    allowed = {kind, *optional} | ({"tolerance"} if kind == "value" else set())
    for key in table:
        if key not in allowed:
            raise InvalidCampaignError(f"target {property_}: " + unknown_name("key", key, allowed))
    if kind == "range":
        pair = table["range"]
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise InvalidCampaignError(
                f"target {property_}: range is {pair!r}; expected [low, high]"
            )
        given: dict[str, Any] = {"low": pair[0], "high": pair[1]}
    elif kind == "value":
        if "tolerance" not in table:
            raise InvalidCampaignError(
                f"target {property_}: value without tolerance; add tolerance = … "
                "in the property's unit"
            )
        given = {name: table[name] for name in required}
    else:
        if table[kind] is not True:
            raise InvalidCampaignError(
                f"target {property_}: {kind} is {table[kind]!r}; expected true"
            )
        given = {name: table[name] for name in optional if name in table}
    for key, number in given.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise InvalidCampaignError(
                f"target {property_}: {key} is {number!r}; expected a number"
            )
    target: Target = cls(property_, **{k: float(v) for k, v in given.items()})
    return target


@dataclass(frozen=True, slots=True)
class Targets:
    """All targets of a campaign. Order is kept; one target per property."""

    items: tuple[Target, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for target in self.items:
            if target.name in seen:
                raise InvalidCampaignError(
                    f"property {target.name} has two targets; merge them into one range"
                )
            seen.add(target.name)

    def __iter__(self) -> Iterator[Target]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def properties(self) -> tuple[str, ...]:
        return tuple(target.name for target in self.items)

    def limits(self) -> tuple[FloatArray, FloatArray]:
        """(low, high) a hit must meet, each (k,); infinite where a side is open."""
        return (
            np.array([target.low for target in self.items]),
            np.array([target.high for target in self.items]),
        )

    def scales(self) -> FloatArray:
        """(k,) the unit in which each target's distance is counted."""
        return np.array([target.scale for target in self.items])

    def distances(self, values: FloatArray) -> FloatArray:
        """(n, k) property values -> (n, k) distances, 0 where met, in units of each scale."""
        low, high = self.limits()
        excess = np.maximum(np.maximum(low - values, values - high), 0.0)
        distance: FloatArray = excess / self.scales()
        return distance

    def distance(self, values: Mapping[str, float]) -> float:
        """Root of the summed squared distances of one outcome; inf if a property is missing."""
        row = np.array([values.get(name, math.nan) for name in self.properties])
        if np.any(np.isnan(row)):
            return math.inf
        return float(np.sqrt(np.sum(self.distances(row[None]) ** 2)))

    def met(self, values: Mapping[str, float]) -> bool:
        """Whether one outcome is a hit: every target met at once."""
        return self.distance(values) == 0.0

    def objectives(self) -> tuple[Maximise | Minimise, ...]:
        """The targets that are to be improved without end."""
        return tuple(t for t in self.items if isinstance(t, (Maximise, Minimise)))
