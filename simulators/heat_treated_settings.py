"""Settings of the ``heat-treatment`` library, the table [library.settings] of the campaign file.

fields                        number of images
designs_per_field             designs on one image, that of its own alloy included; default 1
compositions                  element -> [low, high], atomic fraction in the whole alloy; drawn
                              uniformly, the first element of the space is the rest
solution                      parameters of the solution (``solution_settings``)
diffusion                     element -> [D0 in m2/s, Q in J/mol]
gradient_energy_J_m2_per_mol  K of every independent fraction (``annealing.Material``)
spacing_m                     of the pixels
temperature, time             names of the process variables in K and s; default "temperature_K"
                              and "time_s". Drawn within [space.process], the time's logarithm
                              uniformly
phases                        "field" (default) or "equilibrium", see ``heat_treated_library``
fluctuation                   of the fractions at the start; default 0.005
fraction_tolerance            an image is left out where its phase fractions differ by more from
                              equilibrium: the time was too short to unmix; default 0.1
max_steps                     of a field, which is left out where they run out; default 4000
"""

# ruff: noqa: N815  units in the names of settings keep their case
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from loop.errors import InvalidCampaignError, unknown_name
from loop.space import DesignSpace
from simulators.annealing import FLUCTUATION
from simulators.setting_tables import parse_table

WHERE = "library.settings: "
Range = tuple[float, float]


class Table(BaseModel):
    """Settings that are right by themselves; see the module's text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: int = Field(ge=1, le=100_000)
    designs_per_field: int = Field(default=1, ge=1, le=1000)
    compositions: dict[str, Range]
    solution: dict[str, Any] | str
    diffusion: dict[str, tuple[float, float]]
    gradient_energy_J_m2_per_mol: float = Field(gt=0, allow_inf_nan=False)
    spacing_m: float = Field(gt=0, allow_inf_nan=False)
    temperature: str = "temperature_K"
    time: str = "time_s"
    phases: Literal["field", "equilibrium"] = "field"
    fluctuation: float = Field(default=FLUCTUATION, gt=0, le=0.1)
    fraction_tolerance: float = Field(default=0.1, gt=0, le=1)
    max_steps: int = Field(default=4000, ge=1)


def parse_settings(settings: Mapping[str, Any], space: DesignSpace) -> Table:
    """Settings that fit the space; raises InvalidCampaignError for those that do not."""
    table = parse_table(WHERE, Table, settings)
    if len(space.phases) < 2 or len(space.elements) < 2:
        raise InvalidCampaignError(
            f"{WHERE}a heat treatment makes phases out of a solution; expected two or more in "
            "space.phases and in space.elements"
        )
    _check_process(space, table)
    _check_ranges(space, table)
    return table


def _check_process(space: DesignSpace, table: Table) -> None:
    if table.temperature == table.time:
        raise InvalidCampaignError(
            f"{WHERE}temperature and time name one variable, {table.time!r}; name one each"
        )
    for key, name in (("temperature", table.temperature), ("time", table.time)):
        if name not in space.process:
            raise InvalidCampaignError(
                f"{WHERE}{key} names {name!r}, which is not in [space.process]; add its range"
            )
        if space.process[name][0] <= 0:
            raise InvalidCampaignError(
                f"space.process.{name} starts at {space.process[name][0]:g}; expected > 0"
            )
    if more := sorted(set(space.process) - {table.temperature, table.time}):
        raise InvalidCampaignError(
            f"{WHERE}the source gives {table.temperature} and {table.time}, but [space.process] "
            f"has {more[0]} too; leave it out"
        )


def _check_ranges(space: DesignSpace, table: Table) -> None:
    for element in table.compositions:
        if element not in space.elements:
            raise InvalidCampaignError(
                f"{WHERE}compositions: " + unknown_name("element", element, space.elements)
            )
    for element in space.elements:
        if element not in table.compositions:
            raise InvalidCampaignError(
                f"{WHERE}compositions.{element} is missing; give [low, high]"
            )
        low, high = table.compositions[element]
        if not 0 <= low <= high <= 1:
            raise InvalidCampaignError(
                f"{WHERE}compositions.{element} is [{low:g}, {high:g}]; expected "
                "0 <= low <= high <= 1"
            )
    ends = np.array(list(table.compositions.values())).sum(0)
    if not ends[0] <= 1 <= ends[1]:
        raise InvalidCampaignError(
            f"{WHERE}compositions: lower ends sum to {ends[0]:g} and upper ends sum to "
            f"{ends[1]:g}; no alloy with sum 1 fits, widen them"
        )
