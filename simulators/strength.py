"""``precipitation-strength``: yield stress that the precipitates of the image bring.

Settings, its table in the campaign file:

pixel_size_nm         edge of a pixel; required
shear_modulus_GPa     of the matrix; required unless another simulator gives it (``wiring``)
burgers_vector_nm     required
apb_energy_J_per_m2   of the precipitate; required unless mechanisms = ["orowan"]
mechanisms            some of "weak", "strong", "orowan" (``strengthening``); default all
poissons_ratio, taylor_factor, line_tension, repulsion    see ``strengthening.Material``
precipitate           phase; default the second
outputs               names of the outputs wanted; default all

The size is taken from the image by stereology: spheres of radius r have mean chords of 4 r / 3 in
any section (E. E. Underwood, Quantitative Stereology, 1970, chapter 4), so r is 3/4 of the mean
chord along rows and columns, periodic. The spacing is the mean chord outside the precipitates:
R. L. Fullman's mean free distance, Trans. AIME 197, 447 (1953).
"""

# ruff: noqa: N815  units in the names of settings keep their case
from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.space import DesignSpace
from simulators.correlation import mean_chord_length
from simulators.setting_tables import parse_table
from simulators.strengthening import (
    ASSUMPTIONS,
    MECHANISMS,
    Material,
    precipitation_strengthening,
)
from simulators.wiring import TakesInputs

NAME = "precipitation-strength"
VERSION = "1"  # raise it when the same candidate would get other values
EXAMPLE = (
    "for a nickel superalloy about shear_modulus_GPa = 80, burgers_vector_nm = 0.254, "
    "apb_energy_J_per_m2 = 0.2"
)
STRESS = "precipitation_strengthening_MPa"
RADIUS = "precipitate_radius_nm"
SPACING = "precipitate_spacing_nm"
SHEAR = "shear_modulus_GPa"
UNITS: Mapping[str, str] = {STRESS: "MPa", RADIUS: "nm", SPACING: "nm"}
INPUTS: Mapping[str, str] = {SHEAR: "GPa"}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pixel_size_nm: float = Field(gt=0, allow_inf_nan=False)
    shear_modulus_GPa: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burgers_vector_nm: float = Field(gt=0, le=2, allow_inf_nan=False)
    apb_energy_J_per_m2: float | None = Field(default=None, gt=0, le=10, allow_inf_nan=False)
    mechanisms: list[Literal["weak", "strong", "orowan"]] = Field(
        default=["weak", "strong", "orowan"], min_length=1
    )
    poissons_ratio: float = Field(default=0.3, gt=-1, lt=0.5)
    taylor_factor: float = Field(default=3.06, ge=1, le=10)
    line_tension: float = Field(default=0.5, gt=0, le=10)
    repulsion: float = Field(default=1.0, gt=0, le=10)
    precipitate: str | None = None
    outputs: list[str] | None = Field(default=None, min_length=1)


def create(
    *,
    space: DesignSpace,
    settings: Mapping[str, Any],
    device: str = "cpu",  # noqa: ARG001  nothing here is worth a device
    wired: Collection[str] = (),
) -> PrecipitationStrength:
    """The simulator for a design space with images of several phases.

    ``wired``: "shear_modulus_GPa" where another simulator gives it (``wiring``).

    Raises InvalidCampaignError for settings or a space that cannot be used.
    """
    return PrecipitationStrength(space, _parsed(settings, space, wired), wired)


def _parsed(settings: Mapping[str, Any], space: DesignSpace, wired: Collection[str]) -> _Table:
    for name in wired:
        _check_name("wired: ", "input", name, INPUTS)
    if (settings.get(SHEAR) is None) != (SHEAR in wired):
        raise InvalidCampaignError(
            f"{NAME}: {SHEAR} is wired and in the settings; keep one of the two"
            if wired
            else f"{NAME}: {SHEAR} is missing; give it (a nickel superalloy: about {SHEAR} = 80) "
            "or wire an output of another simulator to it"
        )
    table = parse_table(f"{NAME}: ", _Table, settings, example=EXAMPLE)
    if space.image_shape is None or len(space.phases) < 2:
        raise InvalidCampaignError(
            f"{NAME}: the space has {'one phase' if space.image_shape else 'no images'}; it needs "
            "images of a matrix with precipitates"
        )
    if table.apb_energy_J_per_m2 is None and set(table.mechanisms) != {"orowan"}:
        raise InvalidCampaignError(
            f"{NAME}: apb_energy_J_per_m2 is missing, which cutting needs; give it, or "
            "mechanisms = ['orowan'] for particles that cannot be cut"
        )
    _check_name("precipitate: ", "phase", table.precipitate or space.phases[1], space.phases)
    for name in table.outputs or ():
        _check_name("outputs: ", "output", name, UNITS)
    return table


def _check_name(where: str, kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise InvalidCampaignError(f"{NAME}: {where}" + unknown_name(kind, name, known))


class PrecipitationStrength(TakesInputs):
    """Strengthening, radius and spacing of the precipitates in the candidates' images.

    Every ok outcome's diagnostics list the assumptions, the constants, the shear stress of each
    mechanism and the one that decides.
    """

    name = NAME

    def __init__(self, space: DesignSpace, table: _Table, wired: Collection[str] = ()) -> None:
        self.space = space
        self.inputs: Mapping[str, str] = {name: INPUTS[name] for name in wired}
        self.pixel_size = table.pixel_size_nm
        self.precipitate = table.precipitate or space.phases[1]
        self.mechanisms = tuple(name for name in MECHANISMS if name in table.mechanisms)
        self.material = Material(
            shear_modulus=table.shear_modulus_GPa or 1.0,  # replaced by what is wired
            burgers_vector=table.burgers_vector_nm,
            apb_energy=table.apb_energy_J_per_m2,
            poissons_ratio=table.poissons_ratio,
            taylor_factor=table.taylor_factor,
            line_tension=table.line_tension,
            repulsion=table.repulsion,
        )
        self.outputs: Mapping[str, str] = {
            name: UNITS[name] for name in dict.fromkeys(table.outputs or UNITS)
        }
        self._constants = table.model_dump(exclude={"outputs", "precipitate", "mechanisms"})
        described = json.dumps(
            [
                space.phases,
                self.precipitate,
                self.mechanisms,
                self._constants,
                sorted(self.outputs),
                *([sorted(self.inputs)] if self.inputs else []),
            ],
            sort_keys=True,
        )
        self.version = f"{VERSION}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    def _outcomes(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        return [self._evaluate(c, values) for c, values in zip(candidates, given, strict=True)]

    def _evaluate(self, candidate: Candidate, inputs: Mapping[str, float]) -> Outcome:
        material = self.material
        try:
            if SHEAR in inputs:
                material = replace(material, shear_modulus=inputs[SHEAR])
            fraction, radius, spacing = self._geometry(candidate)
            found = precipitation_strengthening(fraction, radius, material, self.mechanisms)
        except InvalidInputError as error:
            return Outcome.failed(str(error))
        values = {STRESS: float(found.stress), RADIUS: radius, SPACING: spacing}
        shear = {name: float(stress) for name, stress in found.shear.items()}
        return Outcome(
            "ok",
            {name: values[name] for name in self.outputs},
            diagnostics={
                "assumptions": list(ASSUMPTIONS),
                "constants": {**self._constants, SHEAR: material.shear_modulus},
                "mechanism": str(found.mechanism),
                "shear_stress_MPa": {
                    name: stress if math.isfinite(stress) else None
                    for name, stress in shear.items()
                },
            },
        )

    def _geometry(self, candidate: Candidate) -> tuple[float, float, float]:
        """Area fraction, radius in nm and mean free distance in nm of the precipitates."""
        if candidate.phases != self.space.phases:
            raise InvalidInputError(
                f"phases are {', '.join(candidate.phases)}; expected {', '.join(self.space.phases)}"
            )
        image = candidate.microstructure
        if image is None:
            raise InvalidInputError("candidate has no microstructure: its precipitates are unknown")
        inside = image == self.space.phases.index(self.precipitate)
        fraction = float(inside.mean())
        if not 0 < fraction < 1:
            what = "is absent from" if fraction == 0 else "fills"
            raise InvalidInputError(f"{self.precipitate} {what} the image: no precipitates")
        chord = float(mean_chord_length(inside.astype("uint8"), 1)) * self.pixel_size
        # As many chords outside as inside, so the mean lengths are as the areas.
        return fraction, 0.75 * chord, chord * (1 - fraction) / fraction
