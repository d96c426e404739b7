"""Phase properties of a candidate: from its compositions, or as the settings give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.space import DesignSpace
from simulators import elemental
from simulators.chain_settings import (
    BULK,
    CONDUCTIVITY,
    COST,
    DENSITY,
    MODULUS,
    NEEDS,
    SHEAR,
    Settings,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PhaseProperties:
    """Properties of p phases, each (p,), or (n, p) for n candidates; 1 where nobody asks.

    ``density`` g/cm3, ``conductivity`` W/mK, ``bulk`` and ``shear`` GPa, ``cost`` USD/kg.
    """

    density: FloatArray
    conductivity: FloatArray
    bulk: FloatArray
    shear: FloatArray
    cost: FloatArray

    @staticmethod
    def stack(items: Sequence[PhaseProperties]) -> PhaseProperties:
        return PhaseProperties(
            *(
                np.stack([getattr(item, name) for item in items])
                for name in ("density", "conductivity", "bulk", "shear", "cost")
            )
        )

    def positive(self) -> Iterator[tuple[str, FloatArray]]:
        """Those that must be > 0, with their names."""
        yield "density", self.density
        yield "conductivity", self.conductivity
        yield "bulk modulus", self.bulk
        yield "shear modulus", self.shear


class PhaseModel:
    """Phase properties of the candidates of one design space.

    Raises InvalidInputError when an element lacks the data that a wanted output needs.
    """

    def __init__(self, space: DesignSpace, settings: Settings) -> None:
        self.space = space
        self.settings = settings
        needed = {need for name in settings.outputs for need in NEEDS.get(name, ())}
        self.rules = {
            name
            for name in needed
            if any(
                settings.given(phase, name) is None and not settings.wires(phase, name)
                for phase in space.phases
            )
        }
        self.order = np.array([settings.order_parameters.get(p, 0.0) for p in space.phases])
        self.table: elemental.ElementTable | None = None
        if self.rules:
            self.table = elemental.element_table(space.elements, settings.element_data)
            self._from_compositions(np.eye(len(space.elements)))  # every element, once

    def properties(
        self, candidate: Candidate, inputs: Mapping[str, float] | None = None
    ) -> PhaseProperties:
        """Properties of the candidate's phases, (p,) each.

        ``inputs``: "PHASE.PROPERTY" -> value, from other simulators; they go before the rules.
        Raises InvalidInputError when it has no compositions or an element outside the space.
        """
        found = {}
        if self.rules:
            found = self._from_compositions(self._compositions(candidate), self.order)
        ones = np.ones(len(self.space.phases))
        given = {name: self.given(name) for name in (DENSITY, CONDUCTIVITY, COST)}
        merged = {
            name: np.where(np.isnan(given[name]), found.get(name, ones), given[name])
            for name in given
        }
        bulk, shear = self.given_moduli()
        merged[BULK] = np.where(np.isnan(bulk), found.get("bulk", ones), bulk)
        merged[SHEAR] = np.where(np.isnan(shear), found.get("shear", ones), shear)
        for key, value in (inputs or {}).items():
            phase, _, name = key.partition(".")
            merged[name][self.space.phases.index(phase)] = value
        return PhaseProperties(
            density=merged[DENSITY],
            conductivity=merged[CONDUCTIVITY],
            bulk=merged[BULK],
            shear=merged[SHEAR],
            cost=merged[COST],
        )

    def given(self, property_: str) -> FloatArray:
        """What the settings give of a property, (p,); nan where they do not."""
        values = [self.settings.given(phase, property_) for phase in self.space.phases]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def given_moduli(self) -> tuple[FloatArray, FloatArray]:
        """Bulk and shear moduli that the settings give, (p,) each; nan where they do not."""
        young, poisson = self.given(MODULUS), self.given("poissons_ratio")
        return young / (3 * (1 - 2 * poisson)), young / (2 * (1 + poisson))

    def _from_compositions(
        self, x: FloatArray, order: FloatArray | float = 0.0
    ) -> dict[str, FloatArray]:
        """(p, e) atomic fractions -> what the settings do not give, (p,) each."""
        table = self.table
        if table is None:
            return {}
        rules: dict[str, Callable[[], FloatArray]] = {
            DENSITY: lambda: elemental.density(x, table),
            CONDUCTIVITY: lambda: elemental.thermal_conductivity(x, table, order),
            COST: lambda: elemental.material_cost(x, table),
        }
        found = {name: rules[name]() for name in rules if name in self.rules}
        if MODULUS in self.rules:
            found["bulk"], found["shear"] = elemental.elastic_moduli(x, table)
        return found

    def _compositions(self, candidate: Candidate) -> FloatArray:
        """The candidate's compositions over the elements of the space, (p, e)."""
        given = candidate.phase_compositions
        if given is None:
            raise InvalidInputError("candidate has no phase compositions")
        if candidate.elements == self.space.elements:
            return given
        x = np.zeros((len(self.space.phases), len(self.space.elements)))
        for column, symbol in enumerate(candidate.elements):
            if symbol in self.space.elements:
                x[:, self.space.elements.index(symbol)] = given[:, column]
            elif np.any(given[:, column] > 0):
                raise InvalidInputError(
                    f"candidate contains {symbol}, which is not among the space's elements "
                    f"{', '.join(self.space.elements)}"
                )
        return x
