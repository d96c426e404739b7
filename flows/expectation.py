"""What is expected of designs: a surrogate's answer, and the distribution that it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.proposal import parts_of
from loop.candidate import Candidate, Outcome
from loop.formula import canonical_text
from loop.scaling import PropertyScale
from loop.selection import log_probability_of_hit
from loop.surrogate import Prediction, Surrogate
from loop.targets import Maximise, Minimise, Range, Target, Targets

FloatArray = NDArray[np.float64]
LEVEL = 0.9  # probability that a new value lies in its interval


@dataclass(frozen=True, eq=False)
class Expectation:
    """n designs, in the order given, and what is expected of each.

    ``mean``, ``std``: (n, k), of the properties themselves, in their units, as a round's are.
    ``low``, ``high``: (n, k), ends of the central interval of probability ``LEVEL`` of a value
    found as those on record are: what measuring scatters is in it, and of simulated values there
    is next to none. It is that of the surrogate's Gaussian (of the logarithm, where the surrogate
    learned that). ``chances`` (n, t): of such a value to meet each target, NaN for one without a
    limit; ``chance`` (n,): to meet all at once, NaN where none has a limit. ``nearest``: the
    scored design of the nearest composition, and ``difference`` (n,) the sum of absolute
    differences of atomic fractions to it (0 to 2, the mean over phases), NaN for designs without
    compositions; half of it is the share of atoms that differ. ``remarks``: what is to be said of
    each design: its values on record, bounds and constraints that it breaks, that it is like
    nothing known. ``outcomes``: what the simulators find, if asked.
    """

    properties: tuple[str, ...]
    targets: Targets
    designs: tuple[Candidate, ...]
    mean: FloatArray
    std: FloatArray
    low: FloatArray
    high: FloatArray
    chances: FloatArray
    chance: FloatArray
    nearest: tuple[Candidate | None, ...]
    difference: FloatArray
    remarks: tuple[tuple[str, ...], ...]
    outcomes: tuple[Outcome, ...] | None
    about: Mapping[str, Any]  # campaign, records learned from, interval, fidelity of each property

    def frame(self) -> pd.DataFrame:
        """One row a design: identity, expectations, chances, nearest, outcome, remarks, design."""
        table: dict[str, Any] = {
            "id": [c.id for c in self.designs],
            "formula": [formula_of(c) or None for c in self.designs],
        }
        for j, name in enumerate(self.properties):
            table[f"predicted_{name}"] = self.mean[:, j]
            table[f"predicted_std_{name}"] = self.std[:, j]
            table[f"predicted_low_{name}"] = self.low[:, j]
            table[f"predicted_high_{name}"] = self.high[:, j]
        for j, target in enumerate(self.targets):
            if has_limit(target):
                table[f"chance_{target.name}"] = self.chances[:, j]
        if any(map(has_limit, self.targets)):
            table["chance"] = self.chance
        if any(c is not None for c in self.nearest):
            table["nearest"] = [None if c is None else formula_of(c) for c in self.nearest]
            table["nearest_id"] = [None if c is None else c.id for c in self.nearest]
            table["difference"] = self.difference
        if self.outcomes is not None:
            table["status"] = [o.status for o in self.outcomes]
            for name in dict.fromkeys(k for o in self.outcomes for k in o.values):
                table[name] = [o.values.get(name, np.nan) for o in self.outcomes]
            for name in dict.fromkeys(k for o in self.outcomes for k in o.uncertainty):
                found = [o.uncertainty.get(name, np.nan) for o in self.outcomes]
                table[f"uncertainty_{name}"] = found
            if any(o.reason for o in self.outcomes):
                table["reason"] = [o.reason or None for o in self.outcomes]
        table["remarks"] = ["; ".join(told) or None for told in self.remarks]
        return pd.concat([pd.DataFrame(table), parts_of(self.designs)], axis=1)


# In words


def formula_of(design: Candidate) -> str:
    """The canonical formula, ``gamma: …; gamma_prime: …`` of several phases; "" without any."""
    if design.phase_compositions is None:
        return ""
    texts = [canonical_text(row, design.elements) for row in design.phase_compositions]
    if len(texts) == 1:
        return texts[0]
    return "; ".join(f"{p}: {text}" for p, text in zip(design.phases, texts, strict=True))


# The surrogate's distribution


@dataclass(frozen=True, slots=True)
class NewValues:
    """What a new value of each property is expected to be, where the surrogate is Gaussian.

    ``mean``, ``std``: (n, k), standardised by ``scale``, which takes the logarithm of some. The
    scatter of values about the property is in the standard deviation.
    """

    properties: tuple[str, ...]
    scale: PropertyScale
    mean: FloatArray
    std: FloatArray

    @staticmethod
    def of(surrogate: Surrogate, prediction: Prediction) -> NewValues:
        """From what a surrogate predicts."""
        scale = surrogate.outputs
        assert scale is not None  # or there were no prediction
        z = scale.forward(prediction.mean)
        std = prediction.of_new_values().std / scale.slope(z)
        return NewValues(surrogate.properties, scale, z, std)

    def chances(self, targets: Targets) -> tuple[FloatArray, FloatArray]:
        """Probabilities of meeting each target (n, t) and all of them (n,), as ``Expectation`` has.

        By ``selection.log_probability_of_hit``; properties are independent given the design.
        """
        n = len(self.mean)
        if not any(map(has_limit, targets)):
            return np.full((n, len(targets)), np.nan), np.full(n, np.nan)
        columns = [self.properties.index(name) for name in targets.properties]
        own = self.scale
        scale = PropertyScale(own.log[columns], own.mean[columns], own.std[columns])
        ends = np.stack(targets.limits())
        closed = np.isfinite(ends)
        ends = np.where(closed, scale.forward(np.where(closed, ends, 1.0)), ends)
        scaled = [_between(t.name, *pair) for t, pair in zip(targets, ends.T.tolist(), strict=True)]
        mean, std = self.mean[:, columns], self.std[:, columns]

        def probability(at: list[int]) -> FloatArray:
            chosen = Targets(tuple(scaled[j] for j in at))
            found = log_probability_of_hit(Prediction(mean[:, at], std[:, at]), chosen)
            return np.exp(np.minimum(found, 0.0))

        each = np.full((n, len(targets)), np.nan)
        for j, target in enumerate(targets):
            if has_limit(target):
                each[:, j] = probability([j])
        return each, probability(list(range(len(targets))))


def has_limit(target: Target) -> bool:
    """Whether a hit has to meet it: a maximise or minimise may be without a limit."""
    return math.isfinite(target.low) or math.isfinite(target.high)


def _between(name: str, low: float, high: float) -> Target:
    """A target with limits of another scale; an open side is infinite."""
    if math.isfinite(low) and math.isfinite(high):
        # Limits that no value of the scale can reach may fall on one number.
        return Range(name, low, max(high, math.nextafter(low, math.inf)))
    if math.isfinite(high):
        return Minimise(name, at_most=high)
    return Maximise(name, at_least=low if math.isfinite(low) else None)
