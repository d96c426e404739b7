"""What is asked of a generator, and the answer: wishes for properties, proposed designs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.pictures import side_by_side
from generators.requests import draw_requests
from loop.candidate import Candidate, Outcome
from loop.errors import InvalidInputError, unknown_name
from loop.targets import Range, Targets

FloatArray = NDArray[np.float64]
TOGETHER = ".."  # between the ends of a range
IN_A_ROW = 8


# What is asked


@dataclass(frozen=True, slots=True)
class Wish:
    """A property that is to have a value (``low`` = ``high``) or lie in a range."""

    name: str
    low: float
    high: float

    @property
    def exact(self) -> bool:
        return self.low == self.high


def wish(name: str, low: float, high: float, properties: Sequence[str]) -> Wish:
    """A wish for one of ``properties``; raises InvalidInputError for another, or ends swapped."""
    if name not in properties:
        raise InvalidInputError(unknown_name("property", name, properties))
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InvalidInputError(
            f"{name} is asked to be in {low:g}{TOGETHER}{high:g}; expected finite numbers, the "
            "lower end first (swap them?)"
        )
    return Wish(name, low, high)


def read_wish(name: str, text: str, properties: Sequence[str]) -> Wish:
    """A wish for a property as ``190`` or ``8.05..8.2``.

    Raises InvalidInputError for an unknown property and for what is neither.
    """
    ends = text.split(TOGETHER)
    try:
        low, high = float(ends[0]), float(ends[-1])
    except ValueError:
        low = high = math.nan
    if len(ends) > 2 or not (math.isfinite(low) and math.isfinite(high)):
        wish(name, 0.0, 0.0, properties)  # an unknown property is said first
        raise InvalidInputError(
            f"{name} is asked to be {text!r}; expected a number, or a range as LOW..HIGH"
        )
    return wish(name, low, high, properties)


def read_wishes(given: Mapping[str, str], properties: Sequence[str]) -> tuple[Wish, ...]:
    """``read_wish`` for each property of a mapping."""
    return tuple(read_wish(name, text, properties) for name, text in given.items())


def draw_wishes(
    n: int,
    wishes: Sequence[Wish],
    targets: Targets,
    properties: Sequence[str],
    near: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """(n, k) requested values, NaN where nothing is asked: the wishes, else the ``targets``.

    Values of a range are spread over it, away from its ends as proposals scatter. ``near`` (m, k):
    known values near the targets.
    """
    if not wishes:
        return draw_requests(n, targets, properties, near, rng)
    ranges = Targets(tuple(Range(w.name, w.low, w.high) for w in wishes if not w.exact))
    requests = draw_requests(n, ranges, properties, np.zeros((0, len(properties))), rng)
    for one in wishes:
        if one.exact:
            requests[:, list(properties).index(one.name)] = one.low
    return requests


def asked_values(
    n: int, wishes: Sequence[Wish], properties: Sequence[str], rng: np.random.Generator
) -> FloatArray:
    """(n, k) what the wishes ask for, NaN where nothing; no targets take their place."""
    nothing = np.zeros((0, len(properties)))
    if not wishes:
        return np.full((n, len(properties)), np.nan)
    return draw_wishes(n, wishes, Targets(()), properties, nothing, rng)


# What comes of it


def parts_of(designs: Sequence[Candidate]) -> pd.DataFrame:
    """A row a design: ``PHASE:ELEMENT`` fractions, process variables and labels."""
    found = []
    for c in designs:
        row: dict[str, float | str] = {}
        if c.phase_compositions is not None:
            row |= {
                f"{phase}:{element}": float(c.phase_compositions[i, j])
                for i, phase in enumerate(c.phases)
                for j, element in enumerate(c.elements)
            }
        found.append(row | dict(c.process) | dict(c.labels))
    return pd.DataFrame(found, index=range(len(found)))


@dataclass(frozen=True, eq=False)
class Proposal:
    """Designs, the values (n, k) they were asked for, and what the simulators found, if asked."""

    properties: tuple[str, ...]
    wishes: tuple[Wish, ...]
    designs: tuple[Candidate, ...]
    requests: FloatArray
    outcomes: tuple[Outcome, ...] | None
    warnings: tuple[str, ...]
    about: Mapping[str, Any]  # generator, its checkpoint, guidance, steps
    # (n,) percent of held-out designs that are less likely to the generator, where that was asked.
    familiarity: FloatArray | None = None

    def frame(self) -> pd.DataFrame:
        """One row a design: id, what was requested and what was simulated.

        ``requested_P`` beside P for every property that was asked for, then the other properties.
        ``error_%``: as ``errors``, where something was wished. ``familiarity_%``: where asked for.
        """
        table: dict[str, Any] = {"id": [c.id for c in self.designs]}
        found = self.outcomes
        if self.familiarity is not None:
            table["familiarity_%"] = self.familiarity
        if found is not None:
            table["status"] = [o.status for o in found]
        asked = np.isfinite(self.requests)
        names = [k for j, k in enumerate(self.properties) if asked[:, j].any()]
        for name in names:
            table[f"requested_{name}"] = self.requests[:, self.properties.index(name)]
            if found is not None:
                table[name] = [o.values.get(name, np.nan) for o in found]
        if found is None:
            return pd.DataFrame(table)
        if self.wishes:
            table["error_%"] = self.errors()
        for name in dict.fromkeys(k for o in found for k in o.values if k not in names):
            table[name] = [o.values.get(name, np.nan) for o in found]
        if any(o.reason for o in found):
            table["reason"] = [o.reason or None for o in found]
        return pd.DataFrame(table)

    def errors(self) -> FloatArray:
        """(n,) largest deviation from a wish, in percent of the nearest value that was wished.

        0 inside all ranges; NaN where nothing was simulated.
        """
        if self.outcomes is None:
            return np.full(len(self.designs), np.nan)
        worst = np.zeros(len(self.designs))
        for one in self.wishes:
            values = np.array([o.values.get(one.name, np.nan) for o in self.outcomes])
            nearest = np.clip(values, one.low, one.high)
            off = np.abs(values - nearest)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where(off == 0, 0.0, off / np.abs(nearest))
            worst = np.maximum(worst, 100 * share)
        return worst

    def table(self) -> pd.DataFrame:
        """``frame`` with the designs: ``PHASE:ELEMENT`` fractions, process variables, labels."""
        return pd.concat([self.frame(), parts_of(self.designs)], axis=1)

    def pictures(self, scale: int = 2) -> NDArray[np.uint8] | None:
        """The images in rows of eight as grey values (h, w), None where designs have none."""
        images = [c.microstructure for c in self.designs if c.microstructure is not None]
        if not images:
            return None
        phases = len(self.designs[0].phases)
        return side_by_side(images, phases, scale=scale, columns=IN_A_ROW)
