"""Settings of ``atomistic``, its table in the campaign file.

calculator            name of the potential (``calculators``); default "emt"
calculator_settings   what the calculator is made with; a text that names a file in the campaign's
                      folder is that file
wrong_signs           "refuse" (default) or "flag": a space in which a phase may hold two elements
                      whose enthalpy of mixing the calculator has with the wrong sign is refused,
                      or its outcomes say so in their diagnostics
structures            phase -> "fcc" (default), "bcc" (random solid solutions) or "L1_2"
minority              phase -> elements on the corners of L1_2; default ``structures.MINORITY``
precipitate, matrix   phases of the misfit; default the second and the first
outputs               names of the outputs wanted; default lattice parameters, formation energies
                      and the misfit; bulk moduli, elastic constants and shear moduli (of a
                      polycrystal, Hill's average) cost more and are asked for
repeats, samples      a disordered phase is the mean over ``samples`` cells (default 2) of
                      repeats^3 conventional cubes (default 2: 32 atoms in fcc)
seed                  of the permutations; default 0
force_tolerance_eV_per_angstrom, max_steps   of a relaxation; default 1e-3 and 300
strain                of the finite differences of the elastic constants; default 0.005
reference_structures  element -> fcc, bcc, hcp or diamond, for the formation energy
cache                 folder for results, from the campaign's folder where the path is relative;
                      it is made where it is not there; default in memory only
"""

# ruff: noqa: N815  units in the names of settings keep their case
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators.atomistic_phases import Sampling
from simulators.elastic_constants import STRAIN
from simulators.relaxation import Relaxation
from simulators.setting_paths import with_files
from simulators.setting_tables import parse_table
from simulators.structures import MINORITY, REFERENCES, check_structure

MISFIT = "lattice_misfit_percent"
# Property of a phase -> (name of the output, unit, asked for where nothing is said).
PHASE_OUTPUTS: Mapping[str, tuple[str, str, bool]] = {
    "lattice": ("{phase}_lattice_parameter_angstrom", "angstrom", True),
    "formation": ("{phase}_formation_energy_eV_per_atom", "eV/atom", True),
    "bulk": ("{phase}_bulk_modulus_GPa", "GPa", False),
    "c11": ("{phase}_C11_GPa", "GPa", False),
    "c12": ("{phase}_C12_GPa", "GPa", False),
    "c44": ("{phase}_C44_GPa", "GPa", False),
    "shear": ("{phase}_shear_modulus_GPa", "GPa", False),
    "density": ("{phase}_density_g_per_cm3", "g/cm3", False),
}
ELASTIC = ("c11", "c12", "c44")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    calculator: str = "emt"
    calculator_settings: dict[str, Any] = Field(default_factory=dict)
    wrong_signs: Literal["refuse", "flag"] = "refuse"
    structures: dict[str, str] = Field(default_factory=dict)
    minority: dict[str, list[str]] = Field(default_factory=dict)
    precipitate: str | None = None
    matrix: str | None = None
    outputs: list[str] | None = Field(default=None, min_length=1)
    repeats: int = Field(default=2, ge=1, le=6)
    samples: int = Field(default=2, ge=1, le=64)
    seed: int = Field(default=0, ge=0)
    force_tolerance_eV_per_angstrom: float = Field(default=1e-3, gt=0, le=0.1)
    max_steps: int = Field(default=300, ge=1)
    strain: float = Field(default=STRAIN, gt=0, le=0.03)
    reference_structures: dict[str, str] = Field(default_factory=dict)
    cache: str | None = Field(default=None, min_length=1)


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings; ``units``: every output that can be computed, with its unit."""

    calculator: str
    calculator_settings: Mapping[str, Any]
    refuse_wrong_signs: bool
    structures: Mapping[str, str]
    minority: Mapping[str, tuple[str, ...]]
    precipitate: str
    matrix: str
    outputs: tuple[str, ...]
    units: Mapping[str, str]
    sampling: Sampling
    cache: Path | None

    def wants(self, phase: str, property_: str) -> str | None:
        """Name of the output where a property of a phase is wanted, else None."""
        name = PHASE_OUTPUTS[property_][0].format(phase=phase)
        return name if name in self.outputs else None

    def identity(self) -> dict[str, Any]:
        """What decides the values besides the calculator, as JSON."""
        sampling = self.sampling
        return {
            "structures": dict(self.structures),
            "minority": {phase: sorted(names) for phase, names in self.minority.items()},
            "phases": [self.matrix, self.precipitate],
            "outputs": sorted(self.outputs),
            "sampling": [sampling.repeats, sampling.samples, sampling.seed, sampling.strain],
            "relaxation": [sampling.relaxation.force, sampling.relaxation.max_steps],
            "references": dict(sampling.reference_structures),
        }


def parse_settings(
    settings: Mapping[str, Any], space: DesignSpace, folder: Path | None = None
) -> Settings:
    """Settings for a design space; InvalidCampaignError names what cannot be used.

    ``folder``: where relative paths start, of the cache and of files that the calculator is made
    with; the current folder when not given.
    """
    table = parse_table("atomistic: ", _Table, settings)
    if not space.elements:
        raise InvalidCampaignError(
            "atomistic: the space has no elements; add [elements] or take it out of simulators.use"
        )
    structures = dict.fromkeys(space.phases, "fcc")
    for phase, structure in table.structures.items():
        _check_name("structures: ", "phase", phase, space.phases)
        try:
            check_structure(structure, f"atomistic: structures.{phase}: ")
        except InvalidInputError as error:
            raise InvalidCampaignError(str(error)) from None
        structures[phase] = structure
    for phase, names in table.minority.items():
        _check_name("minority: ", "phase", phase, space.phases)
        if structures[phase] != "L1_2":
            raise InvalidCampaignError(
                f"atomistic: minority.{phase} is given, but the phase is {structures[phase]}; only "
                "L1_2 has a minority sublattice"
            )
        for symbol in names:
            _check_name(f"minority.{phase}: ", "element", symbol, space.elements)
    for symbol, structure in table.reference_structures.items():
        _check_name("reference_structures: ", "element", symbol, space.elements)
        _check_name(f"reference_structures.{symbol}: ", "structure", structure, REFERENCES)
    matrix = table.matrix or space.phases[0]
    precipitate = table.precipitate or space.phases[min(1, len(space.phases) - 1)]
    for key, phase in (("matrix", matrix), ("precipitate", precipitate)):
        _check_name(f"{key}: ", "phase", phase, space.phases)
    if matrix == precipitate and len(space.phases) > 1:
        raise InvalidCampaignError(
            f"atomistic: matrix and precipitate are both {matrix}; name two phases"
        )
    units, default = _outputs(space)
    for name in table.outputs or ():
        _check_name("outputs: ", "output", name, units)
    return Settings(
        calculator=table.calculator,
        calculator_settings=with_files(table.calculator_settings, folder),
        refuse_wrong_signs=table.wrong_signs == "refuse",
        structures=structures,
        minority={
            phase: tuple(table.minority.get(phase, MINORITY))
            for phase, structure in structures.items()
            if structure == "L1_2"
        },
        precipitate=precipitate,
        matrix=matrix,
        outputs=tuple(dict.fromkeys(table.outputs or default)),
        units=units,
        sampling=Sampling(
            repeats=table.repeats,
            samples=table.samples,
            seed=table.seed,
            relaxation=Relaxation(table.force_tolerance_eV_per_angstrom, table.max_steps),
            strain=table.strain,
            reference_structures=table.reference_structures,
        ),
        cache=None if table.cache is None else (folder or Path()) / table.cache,
    )


def _outputs(space: DesignSpace) -> tuple[dict[str, str], list[str]]:
    """Every output with its unit, and those that are computed where nothing is said."""
    units, default = {}, []
    for name, unit, usual in PHASE_OUTPUTS.values():
        for phase in space.phases:
            units[name.format(phase=phase)] = unit
            if usual:
                default.append(name.format(phase=phase))
    if len(space.phases) > 1:
        units[MISFIT] = "%"
        default.append(MISFIT)
    return units, default


def _check_name(where: str, kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise InvalidCampaignError(f"atomistic: {where}" + unknown_name(kind, name, known))
