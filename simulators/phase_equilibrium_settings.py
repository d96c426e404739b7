"""Settings of ``phase-equilibrium``, its table in the campaign file.

``solution`` or ``database``, one of them:

solution        parameters of the one solution that all the space's phases belong to, a table or
                the path of a TOML file (``solution_settings``)
database        path of a TDB, read with pycalphad: pip install 'spinodal[calphad]'
phases          phase -> its name in the database, each; required with ``database``
may_form        names of the database's phases that may form besides; default all; [] compares
                with the equilibrium among the space's own phases
temperature_K   default the process variable ``temperature``
temperature     name of the process variable in K; default "temperature_K"
pressure_Pa     default 101325; with ``database`` only
outputs         names of the outputs wanted; default all
"""

# ruff: noqa: N815  units in the names of settings keep their case
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from loop.errors import InvalidCampaignError, unknown_name
from loop.space import DesignSpace
from simulators.calphad import PRESSURE, Database
from simulators.setting_tables import parse_table
from simulators.solution import Solution
from simulators.solution_settings import load_solution
from simulators.thermodynamics import Equilibrium, equilibrium

NAME = "phase-equilibrium"
MISMATCH = "equilibrium_mismatch"
MISSING = "equilibrium_missing_phases"
FRACTION = "{phase}_equilibrium_fraction"
TEMPERATURE = "temperature_K"
FloatArray = NDArray[np.float64]


class Table(BaseModel):
    """The table as it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    solution: dict[str, Any] | str | None = None
    database: str | None = Field(default=None, min_length=1)
    phases: dict[str, str] = Field(default_factory=dict)
    may_form: list[str] | None = None
    temperature_K: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    temperature: str = Field(default=TEMPERATURE, min_length=1)
    pressure_Pa: float = Field(default=PRESSURE, gt=0, allow_inf_nan=False)
    outputs: list[str] | None = Field(default=None, min_length=1)


class EquilibriumModel(Protocol):
    """Where equilibria come from. ``kinds``: of the space's phases, as equilibria name them."""

    kinds: tuple[str, ...]

    def at(self, composition: FloatArray, temperature_K: float) -> Equilibrium: ...

    def identity(self) -> dict[str, Any]: ...


class _OfSolution:
    def __init__(self, solution: Solution, phases: int) -> None:
        self.solution = solution
        self.kinds = (solution.name,) * phases

    def at(self, composition: FloatArray, temperature_K: float) -> Equilibrium:
        return equilibrium(self.solution, composition, temperature_K)

    def identity(self) -> dict[str, Any]:
        terms = {"-".join(pair): terms for pair, terms in self.solution.interactions.items()}
        return {
            "elements": self.solution.elements,
            "interactions": terms,
            "references": dict(self.solution.references),
        }


class _OfDatabase:
    def __init__(self, database: Database, kinds: tuple[str, ...], pressure: float) -> None:
        self.database = database
        self.kinds = kinds
        self.pressure = pressure

    def at(self, composition: FloatArray, temperature_K: float) -> Equilibrium:
        return self.database.equilibrium(composition, temperature_K, pressure_Pa=self.pressure)

    def identity(self) -> dict[str, Any]:
        return {
            "database": self.database.sha256,
            "elements": self.database.elements,
            "phases": sorted(self.database.phases),
            "pressure_Pa": self.pressure,
        }


def parse_settings(settings: Mapping[str, Any], space: DesignSpace) -> Table:
    """Settings for a design space; InvalidCampaignError names what cannot be used."""
    table = parse_table(f"{NAME}: ", Table, settings)
    if not space.elements:
        raise InvalidCampaignError(f"{NAME}: the space has no elements; list them in space")
    if len(space.phases) > 1 and space.image_shape is None:
        raise InvalidCampaignError(
            f"{NAME}: the space has {len(space.phases)} phases and no images, so their amounts are "
            "unknown; add [images] or keep one phase"
        )
    if (table.solution is None) == (table.database is None):
        raise InvalidCampaignError(
            f"{NAME}: expected one of solution (interaction parameters) and database (a TDB)"
        )
    if table.solution is not None and (
        only := {"phases", "may_form", "pressure_Pa"} & table.model_fields_set
    ):
        raise InvalidCampaignError(
            f"{NAME}: {min(only)} goes with database; all phases of a solution are of one kind"
        )
    if {"temperature", TEMPERATURE} <= table.model_fields_set:
        raise InvalidCampaignError(
            f"{NAME}: temperature_K fixes what temperature makes a variable; keep one of the two"
        )
    if table.temperature_K is None and table.temperature not in space.process:
        raise InvalidCampaignError(
            f"{NAME}: no temperature; give temperature_K, or name a process variable of the space "
            f"in temperature ({table.temperature!r} is none)"
        )
    if table.temperature_K is None and space.process[table.temperature][0] <= 0:
        raise InvalidCampaignError(
            f"{NAME}: space.process.{table.temperature} goes down to "
            f"{space.process[table.temperature][0]:g} K; expected > 0"
        )
    for name in table.outputs or ():
        _check_name("outputs: ", "output", name, output_names(space))
    return table


def output_names(space: DesignSpace) -> list[str]:
    """Every output that can be computed."""
    return [MISMATCH, MISSING, *(FRACTION.format(phase=phase) for phase in space.phases)]


def make_model(table: Table, space: DesignSpace) -> EquilibriumModel:
    """Where equilibria come from; raises as ``load_solution`` and ``Database`` do."""
    if table.solution is not None:
        if len(space.elements) < 2:
            raise InvalidCampaignError(f"{NAME}: a solution needs two elements or more")
        try:
            return _OfSolution(load_solution(table.solution, space.elements), len(space.phases))
        except InvalidCampaignError as error:
            raise InvalidCampaignError(f"{NAME}: {error}") from None
    for phase in table.phases:
        _check_name("phases: ", "phase", phase, space.phases)
    for phase in space.phases:
        if phase not in table.phases:
            raise InvalidCampaignError(
                f"{NAME}: phases.{phase} is missing; give the name that the database has for it, "
                "as in 'FCC_A1'"
            )
    kinds = tuple(table.phases[phase] for phase in space.phases)
    assert table.database is not None
    chosen = None if table.may_form is None else sorted({*kinds, *table.may_form})
    database = Database(table.database, space.elements, chosen)
    for phase, kind in zip(space.phases, kinds, strict=True):
        _check_name(f"phases.{phase}: ", f"phase of {table.database}", kind, database.phases)
    return _OfDatabase(database, kinds, table.pressure_Pa)


def _check_name(where: str, kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise InvalidCampaignError(f"{NAME}: {where}" + unknown_name(kind, name, known))
