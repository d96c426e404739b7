"""Further conditions beside what is asked of a generator: more of this, away from that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flows.proposal import TOGETHER
from generators.asked import Asked
from generators.flow import JointFlow
from generators.guiding import Also
from loop.errors import InvalidInputError, unknown_name

WEIGHT = "@"  # between what is asked and how strongly
MOST_WEIGHT = 15.0


@dataclass(frozen=True, slots=True)
class Condition:
    """Property values and labels, asked for together with a weight; below 0 they are avoided."""

    values: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0

    @property
    def name(self) -> str:
        """As it is typed, without its weight."""
        parts = {k: f"{v:g}" for k, v in self.values.items()} | dict(self.labels)
        return ", ".join(f"{k}={v}" for k, v in parts.items())


def read_condition(
    text: str, properties: Sequence[str], labels: Mapping[str, Sequence[str]], *, avoid: bool
) -> Condition:
    """A condition typed as ``density_g_per_cm3=8.1, processing=CAST @ 0.5``; the weight may go.

    ``avoid``: the weight is turned. Raises InvalidInputError for names that are neither a property
    nor a label, for ranges and for a weight that is not above 0 and at most 15.
    """
    option = "--avoid" if avoid else "--also"
    asked, at, strength = text.partition(WEIGHT)
    weight = _number(strength) if at else 1.0
    if not 0 < weight <= MOST_WEIGHT:
        raise InvalidInputError(
            f"{option} {text!r}: the weight is {strength.strip()!r}; expected a number above 0, up "
            f"to {MOST_WEIGHT:g}"
        )
    values: dict[str, float] = {}
    named: dict[str, str] = {}
    for part in asked.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise InvalidInputError(
                f"{option} {text!r}: expected PROPERTY=VALUE, several with commas between, and "
                f"{WEIGHT} WEIGHT at the end if it is not 1"
            )
        if name in values or name in named:
            raise InvalidInputError(f"{option} {text!r}: {name} stands there twice; say it once")
        if name in labels:
            named[name] = value
        elif name in properties:
            values[name] = _value(option, name, value)
        else:
            known = (*properties, *labels)
            raise InvalidInputError(f"{option}: " + unknown_name("property", name, known))
    return Condition(values, named, -weight if avoid else weight)


def with_conditions(generator: object, conditions: Sequence[Condition]) -> JointFlow:
    """A copy of a trained generator that is led by further conditions too.

    Raises InvalidInputError for a generator that takes none, and for names and values that are
    not the campaign's.
    """
    if not isinstance(generator, JointFlow):
        name = getattr(generator, "name", type(generator).__name__)
        raise InvalidInputError(
            f"the campaign's generator is {name}, which takes no further conditions; "
            "leave them out, or use joint-flow or diffusion"
        )
    return generator.with_also([_row(generator, one) for one in conditions])


def _row(generator: Asked, condition: Condition) -> Also:
    for name, value in condition.values.items():
        if name not in generator.properties:
            raise InvalidInputError(unknown_name("property", name, generator.properties))
        if not math.isfinite(value):
            raise InvalidInputError(f"{name} is {value:g}; expected a finite number")
    row = np.array([[condition.values.get(k, np.nan) for k in generator.properties]])
    row = generator.with_labels(row, condition.labels)
    return Also(row[0], condition.weight, condition.name)


def _value(option: str, name: str, text: str) -> float:
    value = _number(text)
    if not math.isfinite(value):
        raise InvalidInputError(
            f"{option}: {name} is {text!r}; expected a number"
            + (" (ranges are for --set)" if TOGETHER in text else "")
        )
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
