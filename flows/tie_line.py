"""Tie-lines: alloys that split into the same two phases, from a thermodynamic model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from loop.campaign import Campaign
from loop.composition import FloatArray, phase_fraction
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.paths import positions, straight_path
from simulators.calphad import Database
from simulators.phase_equilibrium_settings import NAME as EQUILIBRIUM
from simulators.phase_equilibrium_settings import (
    TEMPERATURE,
    EquilibriumModel,
    Table,
    make_model,
    parse_settings,
)
from simulators.setting_paths import from_folder
from simulators.thermodynamics import Equilibrium


@dataclass(frozen=True, eq=False)
class TieLine:
    """Two phases in equilibrium and the alloys that split into them.

    ``phases``: their names. ``t`` (n,): fraction of the second, by the lever rule; of the first
    1 - t. ``compositions``: (n, e), the ends those of the phases. ``at``: t of the alloy through
    which the line was drawn.
    """

    phases: tuple[str, str]
    t: FloatArray
    compositions: FloatArray
    at: float
    temperature_K: float  # noqa: N815  units keep their case

    @property
    def fractions(self) -> FloatArray:
        """(n, 2) of atoms in each phase."""
        return np.stack([1.0 - self.t, self.t], axis=1)


def tie_line_of_database(
    file: Path,
    elements: Sequence[str],
    composition: FloatArray,
    temperature_K: float,
    n: int,
    *,
    phases: tuple[str, str] | None = None,
) -> TieLine:
    """n alloys on the tie-line through one, (e,), from a TDB (``simulators.calphad``).

    ``phases``: the two to look at, these alone; otherwise those of the state of equilibrium.
    Raises InvalidInputError without pycalphad, for a file, element or phase that cannot be used,
    and where there are not two phases in equilibrium.
    """
    database = Database(file, elements)
    if phases is not None:
        found = database.tie_line(*phases, composition, temperature_K)
    else:
        found = _solved(lambda: database.equilibrium(composition, temperature_K))
    return _line(found, composition, temperature_K, n)


def tie_line_of_campaign(
    campaign: Campaign,
    composition: FloatArray,
    temperature_K: float | None,
    n: int,
    *,
    process: Mapping[str, float] = MappingProxyType({}),
) -> TieLine:
    """The same by the model of the campaign's simulator ``phase-equilibrium``.

    ``temperature_K``: otherwise that of its settings, or of the process variable that it is there.
    Raises InvalidInputError where the campaign has no such simulator or no temperature is known.
    """
    table = _table(campaign)
    if table is None:
        raise InvalidInputError(
            f"campaign {campaign.name!r} does not use {EQUILIBRIUM}; name a TDB with --database"
        )
    at = table.temperature_K if temperature_K is None else temperature_K
    at = process.get(table.temperature) if at is None else at
    if at is None:
        raise InvalidInputError(
            "the temperature is a process variable of this campaign; give it with --temperature K"
        )
    model = _model(table, campaign)
    return _line(_solved(lambda: model.at(composition, at)), composition, at, n)


def temperature_variable(campaign: Campaign) -> str | None:
    """The process variable that is the temperature; None where there is none."""
    table = _table(campaign)
    if table is not None and table.temperature_K is not None:
        return None
    name = TEMPERATURE if table is None else table.temperature
    return name if name in campaign.space.process else None


def phase_names(campaign: Campaign) -> tuple[str, ...] | None:
    """What the model of the campaign's ``phase-equilibrium`` calls its phases; None without one."""
    table = _table(campaign)
    return None if table is None else _model(table, campaign).kinds


def _table(campaign: Campaign) -> Table | None:
    """Settings of the campaign's ``phase-equilibrium``; None where it does not use it."""
    if EQUILIBRIUM not in campaign.simulators.use:
        return None
    settings = campaign.simulators.settings.get(EQUILIBRIUM, {})
    given = from_folder(settings, campaign.folder, "database", "solution")
    return parse_settings(given, campaign.space)


def _model(table: Table, campaign: Campaign) -> EquilibriumModel:
    try:
        return make_model(table, campaign.space)
    except InvalidCampaignError as error:
        raise InvalidInputError(str(error)) from None


def _solved(solve: Callable[[], Equilibrium]) -> Equilibrium:
    try:
        return solve()
    except ArithmeticError as error:
        raise InvalidInputError(f"{error}; move the composition or the temperature") from None


def _line(found: Equilibrium, composition: FloatArray, temperature_K: float, n: int) -> TieLine:
    names = " and ".join(dict.fromkeys(found.phases))
    if len(found.phases) != 2:
        many = "alone" if len(found.phases) == 1 else f"({len(found.phases)} phases)"
        mend = (
            "move the composition or the temperature into a two-phase region"
            if len(found.phases) == 1
            else "name two of them with --phases P,Q"
        )
        raise InvalidInputError(
            f"in equilibrium at {temperature_K:g} K there is {names} {many} at this composition, "
            f"so there is no tie-line; {mend}"
        )
    first, second = found.compositions
    # What the solver leaves of rounding must not make a point of the line no composition.
    first, second = first / first.sum(), second / second.sum()
    t = positions(n)
    return TieLine(
        (found.phases[0], found.phases[1]),
        t,
        straight_path(first, second, t),
        phase_fraction(composition, first, second),
        temperature_K,
    )
