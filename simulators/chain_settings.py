"""Settings of ``composite-chain``, its table in the campaign file.

precipitate       phase whose fraction and chord length are outputs; default the second phase
outputs           names of the outputs wanted; default all that can be computed
order_parameters  phase -> long-range order parameter S, 0 <= S < 1 (``elemental``); default 0
phase_properties  phase -> properties that replace what its composition would give, or stand in
                  for it in an image-only campaign: density_g_per_cm3,
                  thermal_conductivity_W_per_mK, youngs_modulus_GPa with poissons_ratio,
                  material_cost_USD_per_kg
element_data      element -> data that pymatgen lacks or has wrong (``elemental.DATA``)
tolerance         relative error that stopping a solver early may leave; default 1e-6
modulus_bound     lower bound of the Young's modulus: "reuss" (default: uniform stress, at no cost,
                  wide) or "energy" (least complementary energy, narrow, three times the solve)
max_iterations    of a solve; reaching it fails the candidate; default 2000

Inputs that other simulators may give it (``wiring``), per phase: PHASE.density_g_per_cm3,
PHASE.thermal_conductivity_W_per_mK, PHASE.bulk_modulus_GPa, PHASE.shear_modulus_GPa,
PHASE.material_cost_USD_per_kg.
"""

# ruff: noqa: N815  units in the names of settings keep their case
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loop.errors import InvalidCampaignError, unknown_name
from loop.space import DesignSpace
from simulators.energies import MAX_ITERATIONS, TOLERANCE
from simulators.setting_tables import parse_table

DENSITY = "density_g_per_cm3"
CONDUCTIVITY = "thermal_conductivity_W_per_mK"
MODULUS = "youngs_modulus_GPa"
COST = "material_cost_USD_per_kg"
RATIO = "conductivity_ratio"
CHORD = "precipitate_chord_length_px"
INTERFACES = "interface_density_per_px"

# What each output needs to know of every phase.
NEEDS: Mapping[str, tuple[str, ...]] = {
    MODULUS: (MODULUS,),
    CONDUCTIVITY: (CONDUCTIVITY,),
    RATIO: (CONDUCTIVITY,),
    DENSITY: (DENSITY,),
    COST: (COST, DENSITY),
}

BULK = "bulk_modulus_GPa"
SHEAR = "shear_modulus_GPa"
# Inputs of a phase: name -> (unit, property of the phase that it gives or helps to give).
INPUTS: Mapping[str, tuple[str, str]] = {
    DENSITY: ("g/cm3", DENSITY),
    CONDUCTIVITY: ("W/(m K)", CONDUCTIVITY),
    BULK: ("GPa", MODULUS),
    SHEAR: ("GPa", MODULUS),
    COST: ("USD/kg", COST),
}


class GivenPhase(BaseModel):
    """Properties of one phase as given in the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    density_g_per_cm3: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    thermal_conductivity_W_per_mK: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    youngs_modulus_GPa: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    poissons_ratio: float | None = Field(default=None, gt=-1, lt=0.5, allow_inf_nan=False)
    material_cost_USD_per_kg: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _both_or_neither(self) -> GivenPhase:
        if (self.youngs_modulus_GPa is None) != (self.poissons_ratio is None):
            raise ValueError("youngs_modulus_GPa and poissons_ratio go together; give both")
        return self


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    precipitate: str | None = None
    outputs: list[str] | None = Field(default=None, min_length=1)
    order_parameters: dict[str, float] = Field(default_factory=dict)
    phase_properties: dict[str, GivenPhase] = Field(default_factory=dict)
    element_data: dict[str, dict[str, float]] = Field(default_factory=dict)
    tolerance: float = Field(default=TOLERANCE, gt=0, le=0.1)
    max_iterations: int = Field(default=MAX_ITERATIONS, ge=1)
    modulus_bound: Literal["reuss", "energy"] = "reuss"


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings. ``units``: every output that can be computed, with its unit."""

    precipitate: str
    outputs: tuple[str, ...]
    units: Mapping[str, str] = field(repr=False)
    order_parameters: Mapping[str, float]
    phase_properties: Mapping[str, GivenPhase]
    element_data: Mapping[str, Mapping[str, float]]
    tolerance: float
    max_iterations: int
    modulus_bound: Literal["reuss", "energy"] = "reuss"
    wired: frozenset[str] = frozenset()

    @property
    def fraction_name(self) -> str:
        return f"{self.precipitate}_fraction"

    def given(self, phase: str, property_: str) -> float | None:
        """A phase's property as given in the settings, None where it is not."""
        table = self.phase_properties.get(phase)
        value: float | None = None if table is None else getattr(table, property_)
        return value

    def wires(self, phase: str, property_: str) -> bool:
        """Whether other simulators give all of a phase's property."""
        return _wires(self.wired, phase, property_)

    def identity(self, space: DesignSpace) -> dict[str, Any]:
        """What decides the values, as JSON."""
        return {
            "phases": space.phases,
            "elements": sorted(space.elements),
            "precipitate": self.precipitate,
            "outputs": sorted(self.outputs),
            "order_parameters": dict(self.order_parameters),
            "phase_properties": {
                phase: given.model_dump() for phase, given in self.phase_properties.items()
            },
            "element_data": {symbol: dict(data) for symbol, data in self.element_data.items()},
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
            # Only where they are not as they always were: other versions stay what they were.
            **({"modulus_bound": self.modulus_bound} if self.modulus_bound != "reuss" else {}),
            **({"wired": sorted(self.wired)} if self.wired else {}),
        }


def _wires(wired: Collection[str], phase: str, property_: str) -> bool:
    needed = [f"{phase}.{name}" for name, (_, of) in INPUTS.items() if of == property_]
    return bool(needed) and all(name in wired for name in needed)


def _check_wired(wired: Collection[str], table: _Table, space: DesignSpace) -> None:
    known = {f"{phase}.{name}": name for phase in space.phases for name in INPUTS}
    for given in wired:
        if given not in known:
            raise InvalidCampaignError(
                "simulators.wiring.composite-chain: " + unknown_name("input", given, known)
            )
        phase, property_ = given.split(".")[0], INPUTS[known[given]][1]
        settings = table.phase_properties.get(phase)
        if settings is not None and getattr(settings, property_) is not None:
            raise InvalidCampaignError(
                f"composite-chain: {given} is wired and phase_properties.{phase} gives "
                f"{property_}; keep one of the two"
            )
        if not space.elements and not _wires(wired, phase, property_):
            raise InvalidCampaignError(
                f"simulators.wiring.composite-chain: {given} is wired alone; wire {phase}.{BULK} "
                f"and {phase}.{SHEAR} together, for the space has no elements to compute one from"
            )


def parse_settings(
    settings: Mapping[str, Any], space: DesignSpace, wired: Collection[str] = ()
) -> Settings:
    """Settings for a design space; InvalidCampaignError names what cannot be used.

    ``wired``: inputs that other simulators will give, of those named above.
    """
    phases = settings.get("phase_properties", {})
    if isinstance(phases, Mapping):
        for phase, given in phases.items():
            if isinstance(given, Mapping):
                _check_keys(f"phase_properties.{phase}: ", given, GivenPhase)
    table = parse_table("composite-chain: ", _Table, settings)
    for key in ("order_parameters", "phase_properties"):
        for phase in getattr(table, key):
            _check_name(f"{key}: ", "phase", phase, space.phases)
    for phase, s in table.order_parameters.items():
        if not 0 <= s < 1:
            raise InvalidCampaignError(
                f"composite-chain: order_parameters.{phase} is {s:g}; expected 0 <= S < 1"
            )
    precipitate = table.precipitate or space.phases[min(1, len(space.phases) - 1)]
    _check_name("precipitate: ", "phase", precipitate, space.phases)
    _check_wired(wired, table, space)
    units = _computable(table, space, precipitate, wired)
    for name in table.outputs or ():
        _check_name("outputs: ", "output", name, units)
    if not units:
        raise InvalidCampaignError(
            "composite-chain: nothing can be computed; give the space elements, or every phase "
            "its phase_properties"
        )
    return Settings(
        precipitate=precipitate,
        outputs=tuple(dict.fromkeys(table.outputs or units)),
        units=units,
        order_parameters=table.order_parameters,
        phase_properties=table.phase_properties,
        element_data=table.element_data,
        tolerance=table.tolerance,
        max_iterations=table.max_iterations,
        modulus_bound=table.modulus_bound,
        wired=frozenset(wired),
    )


def _check_keys(where: str, given: Mapping[str, Any], model: type[BaseModel]) -> None:
    for key in given:
        _check_name(where, "key", key, model.model_fields)


def _check_name(where: str, kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise InvalidCampaignError(f"composite-chain: {where}" + unknown_name(kind, name, known))


def _computable(
    table: _Table, space: DesignSpace, precipitate: str, wired: Collection[str]
) -> dict[str, str]:
    """Outputs for which every phase has what is needed, with their units."""
    image = space.image_shape is not None
    several = len(space.phases) > 1
    if several and not image:
        raise InvalidCampaignError(
            f"composite-chain: the space has {len(space.phases)} phases and no images, so their "
            "fractions are unknown; add [images] or keep one phase"
        )

    def known(property_: str) -> bool:
        return bool(space.elements) or all(
            _wires(wired, phase, property_)
            or (
                phase in table.phase_properties
                and getattr(table.phase_properties[phase], property_) is not None
            )
            for phase in space.phases
        )

    units = {
        MODULUS: "GPa",
        CONDUCTIVITY: "W/(m K)",
        DENSITY: "g/cm3",
        COST: "USD/kg",
        **({RATIO: "1"} if several else {}),
    }
    units = {name: unit for name, unit in units.items() if all(map(known, NEEDS[name]))}
    if several:
        units |= {f"{precipitate}_fraction": "1", CHORD: "px", INTERFACES: "1/px"}
    return units
