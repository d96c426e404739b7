"""``hull``: energy of a candidate's phases above the convex hull of a user's entries, at 0 K.

Settings, its table in the campaign file:

entries     path of the competing phases: CSV with composition and energy_eV_per_atom, or pymatgen's
            computed entries as JSON (``hull``); every element alone must be among them; required
formation_energies_eV_per_atom   phase -> number, for a phase whose composition is fixed
solution    parameters of a solution whose enthalpy of mixing at 0 K (the a of a + b T) is the
            formation energy, a table or the path of a TOML file (``solution_settings``)
solution_phases   phases of that solution; default all that get their energy from nowhere else
outputs     names of the outputs wanted; default energy_above_hull_eV_per_atom alone

A phase's formation energy comes from one of them or is wired from another simulator's output of
unit eV/atom to the input ``<phase>.formation_energy_eV_per_atom`` (``wiring``). It counts from the
pure elements, as those of the entries do here, so that only differences to the elements have to be
of one method.

Outputs, in eV/atom:

energy_above_hull_eV_per_atom           of the candidate: its phases by their amounts, against the
                                        mixture of entries of least energy at its composition
<phase>_energy_above_hull_eV_per_atom   of one phase at its own composition

Both are negative where a phase lies below all mixtures of the entries. Amounts are by area, which
takes volumes per atom as equal (``Candidate.composition``); interfaces have no energy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from loop.candidate import SUM_TOLERANCE, Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators.hull import EnergyHull
from simulators.setting_paths import from_folder
from simulators.setting_tables import parse_table
from simulators.solution import Solution, excess
from simulators.solution_settings import load_solution
from simulators.wiring import TakesInputs

NAME = "hull"
VERSION = "1"  # raise it when the same candidate would get other values
UNIT = "eV/atom"
ABOVE = "energy_above_hull_eV_per_atom"
INPUT = "{phase}.formation_energy_eV_per_atom"
EV = 96_485.33212331  # J/mol in one eV per atom: e N_A / (J/mol), exact since 2019
FloatArray = NDArray[np.float64]
Energy = Annotated[float, Field(allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    entries: str = Field(min_length=1)
    formation_energies_eV_per_atom: dict[str, Energy] = Field(  # noqa: N815
        default_factory=dict
    )
    solution: dict[str, Any] | str | None = None
    solution_phases: list[str] | None = Field(default=None, min_length=1)
    outputs: list[str] | None = Field(default=None, min_length=1)


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",  # noqa: ARG001  nothing here is worth a device
    wired: Collection[str] = (),
    folder: Path | None = None,
) -> HullSimulator:
    """The simulator for a design space with compositions; ``wired``: inputs it will be given.

    ``folder``: where relative paths in the settings start.
    Raises InvalidCampaignError for settings or a space that cannot be used, InvalidInputError for
    entries that cannot be read.
    """
    table = _parsed(from_folder(settings, folder, "entries", "solution"), space)
    hull = EnergyHull.load(table.entries)
    for element in space.elements:
        if element not in hull.elements:
            raise InvalidCampaignError(
                f"{NAME}: {table.entries} has no entry with {element} (only "
                f"{', '.join(hull.elements)}); add the element and its compounds"
            )
    solution: Solution | None = None
    if table.solution is not None:
        try:
            solution = load_solution(table.solution, space.elements)
        except InvalidCampaignError as error:
            raise InvalidCampaignError(f"{NAME}: {error}") from None
    sources = _sources(table, space, wired)
    content = hashlib.sha256(Path(table.entries).read_bytes()).hexdigest()
    return HullSimulator(space, table, hull, content, sources, solution)


def _parsed(settings: Mapping[str, Any], space: DesignSpace) -> _Table:
    table = parse_table(f"{NAME}: ", _Table, settings)
    if not space.elements:
        raise InvalidCampaignError(f"{NAME}: the space has no elements; list them in space")
    for name in table.outputs or ():
        _check_name("outputs: ", "output", name, _outputs(space))
    if len(space.phases) > 1 and space.image_shape is None and ABOVE in (table.outputs or [ABOVE]):
        raise InvalidCampaignError(
            f"{NAME}: the space has {len(space.phases)} phases and no images, so their amounts are "
            f"unknown; add [images], or ask for outputs of single phases"
        )
    for phase in (*table.formation_energies_eV_per_atom, *(table.solution_phases or ())):
        _check_name("", "phase", phase, space.phases)
    low, high = space.bound_arrays()
    for phase in table.formation_energies_eV_per_atom:
        if not _is_fixed(*(bound[space.phases.index(phase)] for bound in (low, high))):
            raise InvalidCampaignError(
                f"{NAME}: {phase} has one formation energy for compositions that vary; fix it with "
                "space.bounds, wire its energy or give a solution"
            )
    if table.solution is None and table.solution_phases is not None:
        raise InvalidCampaignError(f"{NAME}: solution_phases without solution; give its parameters")
    if table.solution is not None and len(space.elements) < 2:
        raise InvalidCampaignError(f"{NAME}: a solution needs two elements or more")
    return table


def _is_fixed(low: FloatArray, high: FloatArray) -> bool:
    """Whether bounds (e,) leave one composition: all but one element, or all of 1, are fixed."""
    room = min(float((high - low).max()), 1 - float(low.sum()), float(high.sum()) - 1)
    return room <= SUM_TOLERANCE or int(np.sum(high > low)) <= 1


def _outputs(space: DesignSpace) -> list[str]:
    return [ABOVE, *(f"{phase}_{ABOVE}" for phase in space.phases)]


def _sources(table: _Table, space: DesignSpace, wired: Collection[str]) -> dict[str, str]:
    """Phase -> "wired", "given" or "solution", exactly one for each that an output needs."""
    names = {INPUT.format(phase=phase): phase for phase in space.phases}
    for name in wired:
        _check_name("wired: ", "input", name, names)
    found: dict[str, list[str]] = {phase: [] for phase in space.phases}
    for name in wired:
        found[names[name]].append("wired")
    for phase in table.formation_energies_eV_per_atom:
        found[phase].append("given")
    if table.solution is not None:
        rest = [phase for phase, sources in found.items() if not sources]
        for phase in dict.fromkeys(table.solution_phases or rest):
            found[phase].append("solution")
    outputs = table.outputs or [ABOVE]
    for phase, sources in found.items():
        if not sources and not {ABOVE, f"{phase}_{ABOVE}"}.isdisjoint(outputs):
            raise InvalidCampaignError(
                f"{NAME}: {phase} has no formation energy; give it in "
                f"formation_energies_eV_per_atom, give a solution, or wire an output in {UNIT} to "
                f"{INPUT.format(phase=phase)!r}"
            )
        if len(sources) > 1:
            raise InvalidCampaignError(
                f"{NAME}: {phase} has more than one formation energy ({', '.join(sources)}); keep "
                "one"
            )
    return {phase: sources[0] for phase, sources in found.items() if sources}


def _check_name(where: str, kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise InvalidCampaignError(f"{NAME}: {where}" + unknown_name(kind, name, known))


class HullSimulator(TakesInputs):
    """Energies above the hull; the module says which outputs and inputs there are.

    Every ok outcome's diagnostics hold the phases' formation energies and, for the candidate as a
    whole, the entries that it would decompose into, as shares of the atoms.
    """

    name = NAME

    def __init__(
        self,
        space: DesignSpace,
        table: _Table,
        hull: EnergyHull,
        content: str,
        sources: Mapping[str, str],
        solution: Solution | None,
    ) -> None:
        self.space = space
        self.hull = hull
        self.solution = solution
        self.sources = dict(sources)
        self.given = dict(table.formation_energies_eV_per_atom)
        self.references = np.array([hull.energy(element) for element in space.elements])
        self.outputs: Mapping[str, str] = dict.fromkeys(table.outputs or [ABOVE], UNIT)
        self.inputs: Mapping[str, str] = {
            INPUT.format(phase=phase): UNIT
            for phase, source in self.sources.items()
            if source == "wired"
        }
        terms: list[Any] = []
        if solution is not None:
            terms = [
                {"-".join(pair): own for pair, own in solution.interactions.items()},
                dict(solution.references),
            ]
        described = json.dumps(
            [
                space.phases,
                space.elements,
                content,
                self.sources,
                self.given,
                terms,
                sorted(self.outputs),
            ],
            sort_keys=True,
        )
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def _outcomes(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        return [self._evaluate(c, values) for c, values in zip(candidates, given, strict=True)]

    def _evaluate(self, candidate: Candidate, inputs: Mapping[str, float]) -> Outcome:
        try:
            x = self._compositions(candidate)
            own = dict(zip(self.space.phases, x, strict=True))
            energies = {phase: self._energy(phase, own[phase], inputs) for phase in self.sources}
            values: dict[str, float] = {}
            notes: dict[str, Any] = {"formation_energies_eV_per_atom": energies}
            if ABOVE in self.outputs:
                shares = candidate.phase_fractions()
                z = shares @ x
                values[ABOVE] = self._above(z, float(shares @ list(energies.values())))
                notes["decomposition"] = self.hull.decomposition(self._formula(z))
            for phase, energy in energies.items():
                if (name := f"{phase}_{ABOVE}") in self.outputs:
                    values[name] = self._above(own[phase], energy)
        except InvalidInputError as error:
            return Outcome.failed(str(error))
        return Outcome("ok", {name: values[name] for name in self.outputs}, diagnostics=notes)

    def _compositions(self, candidate: Candidate) -> FloatArray:
        if candidate.phases != self.space.phases or candidate.elements != self.space.elements:
            raise InvalidInputError(
                f"phases are {', '.join(candidate.phases)} of {', '.join(candidate.elements)}; "
                f"expected {', '.join(self.space.phases)} of {', '.join(self.space.elements)}"
            )
        if candidate.phase_compositions is None:
            raise InvalidInputError("candidate has no phase compositions")
        return candidate.phase_compositions

    def _energy(self, phase: str, x: FloatArray, inputs: Mapping[str, float]) -> float:
        """Formation energy of a phase, eV per atom."""
        source = self.sources[phase]
        if source == "wired":
            return inputs[INPUT.format(phase=phase)]
        if source == "given":
            return self.given[phase]
        assert self.solution is not None
        terms = {
            pair: [np.float64(a) for a, _ in own]
            for pair, own in self.solution.pair_terms().items()
        }
        mixing = float(excess(list(x), terms)) + float(x @ self.solution.reference_terms()[:, 0])
        return mixing / EV

    def _above(self, x: FloatArray, formation: float) -> float:
        return self.hull.above(self._formula(x), formation + float(x @ self.references))

    def _formula(self, x: FloatArray) -> dict[str, float]:
        return {e: float(v) for e, v in zip(self.space.elements, x, strict=True) if v > 0}
